"""Carry out a run that is planned and loaded: measure, train, save, measure again, export, generate."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from ltxcore.engines.saved import average_in
from ltxcore.engines.signals import Stop, listening, undisturbed
from ltxcore.files import remove_unfinished, write_whole
from ltxcore.logs import inform
from ltxcore.protocols import Engine
from ltxcore.redact import leaving
from ltxcore.runs import checkpoint
from ltxcore.runs.about import about_data
from ltxcore.runs.records import Status
from ltxcore.runs.run_plan import RunPlan
from ltxcore.runs.saved_metadata import saved_metadata
from ltxcore.runs.trackers import Trackers
from ltxcore.train.best import Best
from ltxcore.train.conditioning_swap import CONTEXTS
from ltxcore.train.dealing import OWN, Data
from ltxcore.train.generations import Generations
from ltxcore.train.held_out_generations import Generation
from ltxcore.train.loop import Loop
from ltxcore.train.out_of_memory import LOADING, MEASURING, TRAINING, Advice, Spared, try_largest
from ltxcore.train.outcome import Outcome, resuming
from ltxcore.train.trained_model import TrainedModel
from ltxcore.train.validation_loss import HeldOut, held_out_interval, of_average
from ltxcore.writer import Writer


@attrs.frozen(eq=False)
class Session:
    """A run that is planned and loaded, and has written nothing yet.

    Attributes:
        plan: the plan of the run.
        data: the run's data (`OWN`), and those of the objectives that have a dataset, by their names in metrics.
        model: the model that is trained.
        engine: runs and updates the model.
        held_out: measures the validation loss; None if nothing is held out.
        generations: generates the samples of the run file, or held-out clips; None if there is no codec to decode them.
        trackers: the trackers, which receive every step; empty on all processes but the first.
        advice: the advice to give if memory runs out.
        best: keeps track of the best validation loss; None if the run file does not ask for this.
        writer: this process as the writer of the output folder; None on all processes but the first.
    """

    plan: RunPlan
    data: Mapping[str, Data]
    model: TrainedModel
    engine: Engine
    held_out: HeldOut | None
    generations: Generations | None
    trackers: Trackers
    advice: Advice
    writer: Writer | None = None
    best: Best | None = None
    spared: Spared = attrs.field(init=False, default=attrs.Factory(lambda self: Spared(self.advice), takes_self=True))

    def run(self) -> Outcome:
        """Begin the run, or continue it from the last checkpoint.

        Raises:
            DataError: a loss or gradient is not finite, or a file has changed.
            CheckpointError: the checkpoint cannot be resumed from, or something could not be saved.
            OutOfMemory: memory ran out; the error names the work during which this happened, and settings that take
                less memory.
        """
        config = self.plan.config
        folder = self.plan.outline.folder
        with self.advice.during("reading the checkpoint", LOADING):
            first = self._resumed()
        try_largest(self._loop(), self.advice, first)
        self.engine.first(lambda: self._go_on() if first else self._begin())
        self.trackers.start(folder.path, config.optimization.steps, first)
        try:
            with self.advice.during("training", TRAINING):
                outcome = self._trained(first, config.optimization.steps)
        except BaseException:
            with undisturbed():  # when one process ends, the launcher ends the others too; this process must first report its reason
                self.trackers.finish()
            raise
        with contextlib.nullcontext() if outcome.finished else undisturbed():  # a launcher may ask to stop more than once
            self.trackers.finish()
        return outcome

    def _trained(self, first: int, total: int) -> Outcome:
        with listening() as stop:
            before = self._before(first)
            step = self._train(first, stop)
            if step < total and not self._is_over:
                return self._stopped(step)
        return self._finish(step, before)

    # ---- beginning

    def _begin(self) -> None:
        """Prepare the output folder for a new run: remove the files of an unfinished run that starts over, and write
        the run file.
        """
        folder = self.plan.outline.folder
        folder.path.mkdir(parents=True, exist_ok=True)
        remove_unfinished(folder.path, older_than=0)
        checkpoint.remove_all(folder.checkpoints)
        for made in (folder.samples, folder.best):
            if made.exists():
                shutil.rmtree(made)
        # The status goes first: a run that is killed here leaves a run file without a status, and so starts over.
        folder.remove_status()
        write_whole(folder.run_file, self.plan.outline.loaded.resolved().encode())
        self._write_status("running")

    def _go_on(self) -> None:
        """Prepare the output folder for continuing a run, perhaps with a changed run file or a different number of
        processes. Half-written models of a killed process are removed, since they take much disk space.
        """
        folder = self.plan.outline.folder
        remove_unfinished(folder.path, older_than=0)
        self._write_status("running", before=self._measured(), left_out=self._left_out())
        write_whole(folder.run_file, self.plan.outline.loaded.resolved().encode())

    def _resumed(self) -> int:
        """Restore the newest checkpoint, and return the step after which the run continues; 0 if there is no
        checkpoint.
        """
        saved = self.engine.first(self._newest)
        if saved is None:
            return 0
        tensors, values = checkpoint.load_state(saved)
        changes, config = self.plan.outline.changes, self.plan.config.checkpoints
        self._say_average(saved, tensors)
        if self.best is not None and "best" in values:
            self.best.restore(values["best"])
            # Weights that were saved after this checkpoint have replaced them.
            if config.keep_best and self.engine.first(self._saved_best) is None:
                self.best.forget()
        # A changed run file may change the learning rate schedule; the other values of the optimizer are kept.
        kept = {key: value for key, value in values.items() if key not in ("scheduler", "learning_rates")}
        self.engine.restore(tensors, {**kept, "steps": saved.step} if changes else values)
        inform(f"resuming after step {saved.step}")
        return saved.step

    def _say_average(self, saved: checkpoint.Saved, tensors: Mapping[str, object]) -> None:
        """Say that the moving average begins here, if the unfinished run had none, or ends here, if only the unfinished run had one."""
        was, is_now = average_in(tensors) is not None, self._averages
        if is_now and not was:
            inform(f"there is no average of the weights in {saved.path}: the average begins now, with the weights of step {saved.step}")
        if was and not is_now:
            inform(f"the average of the weights in {saved.path} is dropped, since ema.decay is no longer set")

    @property
    def _averages(self) -> bool:
        return self.plan.config.ema.decay is not None

    def _newest(self) -> checkpoint.Saved | None:
        """Return the checkpoint to resume from, after checking its files against their hashes."""
        outline = self.plan.outline
        saved = checkpoint.newest(outline.folder.checkpoints) if outline.resumes else None
        if saved is not None:
            checkpoint.check(saved)
        return saved

    def _before(self, first: int) -> dict[str, float]:
        """Return the validation losses of the untrained model, which are measured now or were recorded by the
        unfinished run. Samples that are due are generated.
        """
        known = self.engine.first(self._measured)
        if self.held_out is not None and not known:
            known = self._measure("before training", averaged=False)  # the average still equals the weights
            self.trackers.log(first, known)
            measured = known
            self.engine.first(lambda: self._write_status("running", before=measured))
        if self.best is not None and known:
            # A run with another run file may measure other parts than it did before training.
            there = self._measure(f"after step {first}", averaged=False) if self.plan.outline.changes else known
            self.best.loss({**there, **of_average(there)})  # refuses an unknown part of the loss now, and not hours later
        if not first and not self.plan.config.validation.skip_initial_validation:
            self._generate(first)
        if first and self.engine.first(self._left_out) == first:
            self._validate(first)
        return known

    def _measured(self) -> dict[str, float]:
        """Return the validation losses before training from the output folder; empty if they have not been measured
        yet.
        """
        return dict((self.plan.outline.folder.status() or {}).get("before", {}))

    def _left_out(self) -> int:
        """Return the step after which the run was stopped before it could measure and generate; 0 if there is no such
        step.
        """
        return int((self.plan.outline.folder.status() or {}).get("left_out", 0))

    # ---- training

    def _loop(self) -> Loop:
        config = self.plan.config
        return Loop(
            engine=self.engine,
            backbone=self.model.backbone,
            strategy=self.plan.outline.strategy,
            samples=self.data[OWN].samples,
            order=self.plan.order,
            seed=config.seed,
            accumulation=config.optimization.gradient_accumulation_steps,
            workers=config.data.num_dataloader_workers,
            objectives=config.objectives,
            caption_dropout=config.data.caption_dropout,
            video_scale=self.plan.outline.info.video_scale,
            datasets={label: data for label, data in self.data.items() if label != OWN},
            last_checkpoint=lambda: str(saved[-1].path) if (saved := checkpoint.found(self.plan.outline.folder.checkpoints)) else "",
        )

    def _train(self, first: int, stop: Stop) -> int:
        config = self.plan.config
        total, interval = config.optimization.steps, config.checkpoints.interval
        step = first
        for step, metrics in self._loop().steps(total, first):
            self._check_writer(looks=False)
            self.trackers.log(step, metrics)
            stopping = self.engine.total([bool(stop.signal)])[0] > 0  # a signal may reach different processes in different steps
            if step < total and not stopping:
                self._validate(step)
            if step < total and self._is_over:
                break
            if step < total and (stopping or (interval and step % interval == 0)):
                self.engine.first(partial(self._save, step))
            if stopping:
                break
        return step

    @property
    def _is_over(self) -> bool:
        return self.best is not None and self.best.is_over

    def _judge(self, step: int, metrics: Mapping[str, float]) -> None:
        """Judge a measurement on the first process, on behalf of all, and keep the weights if they are the best so far."""
        best = self.best
        if best is None or not metrics:
            return

        def judged() -> dict[str, Any]:
            if best.measured(step, metrics) and self.plan.config.checkpoints.keep_best:
                self._keep_best(best)
            return best.state()

        best.restore(self.engine.first(judged))

    def _keep_best(self, best: Best) -> None:
        """Save the weights as the best so far. The previous best weights are removed once the new files are complete."""
        folder = self.plan.outline.folder
        self._check_writer()
        name = folder.weights(self.plan.config.model.training_mode, best.is_of_average).name
        write = partial(self._write_weights, averaged=best.is_of_average, step=str(best.step), validation_loss=f"{best.value:.6f}")
        checkpoint.save(folder.best, best.step, {name: write}, None)
        checkpoint.keep_only(folder.best, best.step)

    def _saved_best(self) -> Path | None:
        """Return the file with the best weights, or the index of its parts; None if no best weights are saved."""
        saved = [each for each in checkpoint.found(self.plan.outline.folder.best) if self.best is not None and each.step == self.best.step]
        return next((path for each in saved for path in checkpoint.weights_in(each)), None)

    def _validate(self, step: int) -> None:
        """Validate during training: generate samples at the interval of the run file, and measure the validation loss
        at the same interval, but at most ten times per run.
        """
        validation, total = self.plan.config.validation, self.plan.config.optimization.steps
        measures = self.held_out is not None and validation.interval and step % held_out_interval(validation.interval, total) == 0
        draws = self._is_due(step)
        if not measures and not draws:
            return
        with self.engine.making_room():
            if measures:
                measured = self._measure(f"after step {step}")
                self.trackers.log(step, measured)
                self._judge(step, measured)
            if draws:
                self._generate(step)

    def _is_due(self, step: int) -> bool:
        """Return whether to generate after this step of training."""
        config = self.plan.config
        interval = config.validation.interval
        return (
            self.generations is not None
            and self.generations.at_intervals
            and interval > 0
            and step % interval == 0
            and step < config.optimization.steps
        )

    def _save(self, step: int) -> None:
        """Save a checkpoint on the first process; the other processes help to assemble its tensors."""
        config = self.plan.config.checkpoints
        folder = self.plan.outline.folder
        self._check_writer()
        checkpoint.check_space(folder.checkpoints, self.model.checkpoint_bytes())
        mode = self.plan.config.model.training_mode
        weights = {folder.weights(mode, averaged).name: partial(self._write_weights, averaged=averaged) for averaged in self._results}
        kept = config.save_training_state
        state = None if kept == "off" else self.engine.state(moments=kept == "full")
        if state is not None and self.best is not None:
            state = state[0], {**state[1], "best": self.best.state()}
        checkpoint.save(folder.checkpoints, step, weights, state)
        checkpoint.keep_last(folder.checkpoints, config.keep_last_n)

    @property
    def _results(self) -> tuple[bool, ...]:
        """The weights that are saved: False stands for the trained weights, True for their average."""
        return (False, True) if self._averages else (False,)

    def _write_weights(self, path: Path, averaged: bool = False, **more: str) -> Path:
        outline = self.plan.outline
        decay = {"ema_decay": str(outline.config.ema.decay)} if averaged else {}
        said = {**saved_metadata(outline.config), **decay, **more}
        return self.model.save(path, leaving({**outline.strategy.metadata(self.plan.manifest), **said}), self.engine, averaged)

    # ---- the end

    def _stopped(self, step: int) -> Outcome:
        outline = self.plan.outline
        self.engine.first(lambda: self._write_status("stopped", before=self._measured(), left_out=step))
        return Outcome(
            output_dir=outline.folder.path,
            step=step,
            finished=False,
            weights=None,
            metrics=outline.folder.metrics,
            resume=resuming(outline.config.checkpoints, self.engine.world_size, outline.folder.run_file),
        )

    def _finish(self, step: int, before: Mapping[str, float]) -> Outcome:
        outline = self.plan.outline
        paths = {averaged: outline.folder.weights(outline.config.model.training_mode, averaged) for averaged in self._results}
        weights = self.engine.first(lambda: {averaged: self._write_weights(path, averaged) for averaged, path in paths.items()})
        after: dict[str, float] = {}
        with self.engine.making_room():
            if self.held_out is not None:
                after = self._measure(f"after the last step, whose weights are in {paths[False]},", *CONTEXTS)
                self.trackers.log(step, after)
                if not self._is_over:  # otherwise these weights have already been judged
                    self._judge(step, after)
            drawn = self._generate(step)
        judge = self.best
        ended = judge.reason if judge is not None and judge.is_over and step < outline.config.optimization.steps else ""
        told = {} if judge is None else {"best": judge.state()}
        self.engine.first(lambda: self._write_status("finished", before=before, after=after, ended=ended, **told))
        return Outcome(
            output_dir=outline.folder.path,
            step=step,
            finished=True,
            weights=weights[False],
            averaged=weights.get(True),
            metrics=outline.folder.metrics,
            generations=tuple(drawn),
            before=before,
            after=after,
            best=self.engine.first(self._saved_best),
            ended=ended,
        )

    def _measure(self, when: str, *contexts: str, averaged: bool = True) -> dict[str, float]:
        """Return the losses of the held-out clips, if there are any. If the run averages its weights and the average
        may differ from them, return the losses of the average in the clips' own context too.
        """
        if self.held_out is None:
            return {}
        with self.advice.during(f"measuring the validation loss {when}", MEASURING):
            found = self.held_out.measure(self.engine, self.model.backbone, *contexts)
            if averaged and self._averages:
                with self.engine.averaged():
                    found |= of_average(self.held_out.measure(self.engine, self.model.backbone))
        return found

    def _generate(self, step: int) -> list[Generation]:
        """Generate clips, with the averaged weights if the run averages its weights."""
        if self.generations is None:
            return []
        folder = self.plan.outline.folder.samples
        with self.engine.averaged():
            drawn = self.generations.generate(self.engine, self.model.backbone, folder, step, self.spared)
        for clip in drawn:
            self.trackers.sample(step, clip.name, clip.path)
        befores = [clip.path.with_name(clip.path.name.replace(f"step_{step:06d}", f"step_{0:06d}")) for clip in drawn]
        return [
            attrs.evolve(clip, before=before if step and before.exists() else None) for clip, before in zip(drawn, befores, strict=True)
        ]

    def _check_writer(self, looks: bool = True) -> None:
        """Check that no other run has taken over the output folder."""
        if self.writer is not None:
            self.writer.check(looks)

    def _write_status(self, status: Status, **more: object) -> None:
        self._check_writer()
        told = {"held_out": list(self.plan.split.held_out), "processes": self.engine.world_size, "data": about_data(self.plan)}
        self.plan.outline.folder.write_status(status, **told, **self.model.recorded, **more)
