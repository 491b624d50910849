"""Handle running out of memory: advise which settings take less memory, and skip samples so that the run can continue.

A trial step before training shows in the first minute whether memory suffices.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs
import torch

from ltxcore.config.run_file import RunFile
from ltxcore.devices import gpu_memory, is_gpu, memory_is_bounded, peak_gpu_memory
from ltxcore.errors import OutOfHostMemory, OutOfMemory, is_out_of_memory, reason_of
from ltxcore.logs import warn
from ltxcore.memory import gib, give_back_memory, let_go, telling, what
from ltxcore.planner.advice import KINDS, Change, Kind, Variant
from ltxcore.planner.estimate import Estimator, Need
from ltxcore.runs.engine import engine_problems, uses_zero
from ltxcore.runs.memory_settings import contradictions
from ltxcore.runs.passes import largest
from ltxcore.runs.run_folder import goes_on
from ltxcore.runs.run_plan import RunPlan
from ltxcore.train.dealing import Data
from ltxcore.train.loop import Loop

NAMED = 3
"""The maximum number of remedies that an error names; `ltx plan` lists all remedies, with the memory that each saves."""

WEIGHTS = frozenset(
    {"acceleration.mixed_precision_mode", "acceleration.quantization", "acceleration.offload_blocks", "engine.stage", "engine.offload"}
)
BESIDE = frozenset({"acceleration.offload_optimizer_during_validation"})

Helps = frozenset[str]
"""The keys of the run file that reduce the memory of one kind of work."""

ENCODING: Helps = frozenset({"acceleration.load_text_encoder_in_8bit", "acceleration.offload_text_encoder", "acceleration.vae_tiling"})
LOADING: Helps = WEIGHTS
TRAINING: Helps = WEIGHTS | {
    "optimization.enable_gradient_checkpointing", "acceleration.offload_activations", "optimization.optimizer_type", "optimization.batch_size",
    "optimization.tokens_per_batch", "lora.rank",
}  # fmt: skip
MEASURING: Helps = WEIGHTS | BESIDE | {"optimization.batch_size", "optimization.tokens_per_batch"}
DRAWING: Helps = WEIGHTS | BESIDE
DECODING: Helps = WEIGHTS | BESIDE | {"acceleration.vae_tiling"}

OTHERWISE = {
    ENCODING: "shorter prompts, or smaller media, in the samples of validation",
    TRAINING: "clips of fewer frames or pixels, or shorter sounds (under preprocessing)",
    MEASURING: "clips of fewer frames or pixels, or shorter sounds (under preprocessing)",
    DRAWING: "fewer frames or pixels of this sample (validation.video_dims)",
    DECODING: "fewer frames or pixels of this sample (validation.video_dims)",
}
"""For each kind of work, the advice that applies whatever the settings are."""


@attrs.frozen(eq=False)
class Advice:
    """The advice that a run gives when memory runs out.

    Attributes:
        planned: the run.
        rank: the rank of this process.
        processes: the number of processes.
        device: the device of this process.
        need: the memory that `ltx plan` expects the run to need; None if it was not computed.
    """

    planned: RunPlan
    rank: int
    processes: int
    device: torch.device
    need: Need | None = None

    @contextmanager
    def during(self, doing: str | Callable[[], str], helps: Helps) -> Iterator[None]:
        """Return a context in which running out of memory ends the run with an explanation. Inner code reports the
        details that it knows, such as the micro-batch.

        Args:
            doing: the work, in words that can follow "while".
            helps: the keys that reduce the memory of this work.

        Raises:
            OutOfMemory: memory ran out.
        """
        try:
            with telling(doing, self.device):
                yield
        except OutOfMemory as error:
            if any(problem.remedy for problem in error.problems):
                raise
            remedy = f"{self.remedy(helps, isinstance(error, OutOfHostMemory))} {goes_on(self._config)}{self._changed()}"
            where = f"process {self.rank} of {self.processes}" if self.processes > 1 else ""
            raise type(error).of(attrs.evolve(problem, remedy=remedy, where=where) for problem in error.problems) from None

    def remedy(self, helps: Helps, of_host: bool = False) -> str:
        """Say in one or two sentences which settings would take less memory in this run."""
        known = self._need()
        least = self._of_host() if of_host and is_gpu(self.device) else [*self.cheapest(helps), *filter(None, [OTHERWISE.get(helps)])]
        named = (
            f"Each of these needs less memory: {'; '.join(least[:NAMED])}."
            if least
            else "It already uses the settings that need the least memory."
        )
        command = shlex.join(["ltx", "plan", str(self.planned.outline.loaded.path)])
        return f"{known}{named} `{command}` says what the run needs, and what would make it fit."

    def of_first_update(self) -> str:
        """Return a warning that the optimizer's state, which the first update creates, might not fit beside the memory
        that a step has taken; "" if the state fits, or if this is not known.
        """
        if self.need is None or not is_gpu(self.device):
            return ""
        taken, there, state = peak_gpu_memory(self.device), gpu_memory(self.device), self.need.states.optimizer
        if taken + state <= there:
            return ""
        line = f"a step takes up to {gib(taken)} of the {gib(there)} of {self.device}, and from the first update on, the optimizer state takes {gib(state)} more"
        return f"WARNING: {line}. {self.remedy(TRAINING)}"

    def cheapest(self, helps: Helps) -> list[str]:
        """Return the settings that would reduce the run's memory and that the run does not use yet, cheapest first.
        Nothing is measured, so this takes no time.
        """
        estimator = Estimator.of(self.planned)
        start = Variant(self._config, self.processes)
        said = []
        for kind in (*BESIDE_TRAINING, *KINDS):
            changes = [change for change in kind(start, estimator) if self._is_allowed(start, change) and _keys(change) & helps]
            if changes:
                said.append(_chosen(changes).said)
        return said

    def _is_allowed(self, start: Variant, change: Change) -> bool:
        # The user's DeepSpeed configuration decides these settings.
        if "engine" in change.tables and start.config.engine.deepspeed_config is not None:
            return False
        changed = start.changed(change)
        return not any(contradictions(changed.config)) and not any(engine_problems(changed.config, changed.processes))

    def _need(self) -> str:
        return "" if self.need is None else f"`ltx plan` expects the run to need about {gib(self.need.with_margin)} of a GPU. "

    def _of_host(self) -> list[str]:
        """Return the settings that take less host memory, for a model on a GPU."""
        config = self._config
        away, workers = config.acceleration.offload_blocks, config.data.num_dataloader_workers
        return [
            *([f"acceleration.offload_blocks below {away}"] if away else []),
            *(['engine.offload = "none"'] if config.engine.offload != "none" else []),
            *([f"data.num_dataloader_workers below {workers}"] if workers else []),
            "fewer processes on this machine" if self.processes > 1 else "fewer other programs",
        ]

    def _changed(self) -> str:
        """Return a note on how to continue with a changed run file: without `--allow-changes`, an unfinished run
        accepts only its own run file.
        """
        folder = self.planned.outline.folder
        resumes = folder.run_file.exists() and not self._config.checkpoints.no_resume
        return " With a changed run file, add --allow-changes." if resumes else ""

    @property
    def _config(self) -> RunFile:
        config: RunFile = self.planned.config
        return config


@attrs.define(eq=False)
class Spared:
    """Lets the generation of samples during training skip a sample if memory does not suffice for it.

    Attributes:
        advice: the advice of the run.
    """

    advice: Advice
    _told: set[str] = attrs.field(factory=set, init=False)

    @contextmanager
    def drawing(self, name: str) -> Iterator[None]:
        """Return a context for the passes of one sample through the model. Under ZeRO, the processes run these passes
        together and none can skip a sample, so running out of memory ends the run.

        Raises:
            OutOfMemory: memory ran out under ZeRO.
        """
        alone = not uses_zero(self.advice.planned.config, self.advice.processes)
        with self._without(name, DRAWING) if alone else self.advice.during(f'generating the sample "{name}"', DRAWING):
            yield

    @contextmanager
    def decoding(self, name: str) -> Iterator[None]:
        """Return a context for the work that a single process does by itself on one sample."""
        with self._without(name, DECODING):
            yield

    @contextmanager
    def _without(self, name: str, helps: Helps) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            said = what(error, self.advice.device)
            let_go(error)
            self._tell(name, said, helps)

    def _tell(self, name: str, said: str, helps: Helps) -> None:
        doing = "decoding" if helps is DECODING else "generating"
        line = f'the sample "{name}" is skipped, and the run continues: {said} while {doing} it.'
        more = "" if name in self._told else f"\n    {self.advice.remedy(helps)}"
        self._told.add(name)
        warn(f"{line}{more}")


def _keys(change: Change) -> frozenset[str]:
    return frozenset(f"{table}.{name}" for table, keys in change.tables.items() for name in keys)


def _chosen(changes: list[Change]) -> Change:
    """Choose one of several changes of the same kind: for offloaded blocks, the change in the middle of the list;
    otherwise the first change, which is the cheapest.
    """
    return changes[len(changes) // 2] if "offload_blocks" in changes[0].said else changes[0]


# ---- what saves memory outside training, cheapest first


def _tiling(run: Variant, estimator: Estimator) -> Iterator[Change]:
    if not run.config.acceleration.vae_tiling:
        yield Change("acceleration.vae_tiling = true", {"acceleration": {"vae_tiling": True}})


def _optimizer_away(run: Variant, estimator: Estimator) -> Iterator[Change]:
    if not run.config.acceleration.offload_optimizer_during_validation:
        said = "acceleration.offload_optimizer_during_validation = true"
        yield Change(said, {"acceleration": {"offload_optimizer_during_validation": True}})


def _text_encoder(run: Variant, estimator: Estimator) -> Iterator[Change]:
    if not run.config.acceleration.load_text_encoder_in_8bit:
        yield Change("acceleration.offload_text_encoder = true", {"acceleration": {"offload_text_encoder": True}})


BESIDE_TRAINING: tuple[Kind, ...] = (_text_encoder, _tiling, _optimizer_away)


def try_largest(loop: Loop, advice: Advice, first: int) -> None:
    """Run a forward and a backward pass on the largest micro-batch to come. The results are discarded, and the run's
    random draws are not used up.

    This step is left out if memory is not bounded. It is also left out if blocks are compiled, because compiled code
    depends on the sizes that it has seen.

    Args:
        loop: the training loop of the run.
        advice: the advice to give if memory runs out.
        first: the step after which the run resumes; 0 for a run that begins and has no optimizer state yet.

    Raises:
        OutOfMemory: memory does not suffice.
    """
    config, samples = advice.planned.config, loop.samples
    if not memory_is_bounded(loop.engine.device) or config.acceleration.compile:
        return
    in_step = loop.accumulation * loop.engine.data_parallel_size
    count = (config.optimization.steps - first) * in_step
    if count <= 0:
        return
    try:
        with advice.during("trying a step before training", TRAINING):
            own, *others = (
                largest(each.order, each.samples.manifest, each.samples.sources, first * in_step, count)
                for each in (Data(samples, loop.order, loop.seed), *loop.datasets.values())
            )
            loop.attempt(own, dict(zip(loop.datasets, others, strict=True)))
    except OutOfMemory:
        raise
    except Exception as error:  # noqa: BLE001 - a condition of the user's may not take draws that are all 0, and takes those of the run
        warn(f"no step could be tried before training: {reason_of(error)}")
        let_go(error)
    finally:
        give_back_memory()
    if not first and (said := advice.of_first_update()):
        warn(said)
