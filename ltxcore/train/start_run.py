"""A run from its file to its result: encode, plan, load, train, measure, export, generate.

It also makes the statement about memory that `ltx run` prints before it loads the model.
"""

from __future__ import annotations

import contextlib
import math
import os
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import torch

from ltxcore.codecs.source import Codecs
from ltxcore.config.load import LoadedRun, located
from ltxcore.config.run_file import RunFile
from ltxcore.devices import gpu_memory, is_gpu, own_device
from ltxcore.encoded.manifest import read_manifest
from ltxcore.encoded.micro_batch import to_verify, verify
from ltxcore.engines.process import Processes
from ltxcore.errors import CheckpointError, ConfigError, LtxError
from ltxcore.files import is_of_disk, not_written
from ltxcore.logs import inform, of_first, warn
from ltxcore.memory import gib
from ltxcore.objectives import PassCount, labelled
from ltxcore.planner.estimate import Estimator, Need
from ltxcore.planner.largest_batch import of_manifest
from ltxcore.runs.about import changed_data
from ltxcore.runs.checkpoint import check_space
from ltxcore.runs.checks import check_ahead
from ltxcore.runs.engine import build_engine, uses_zero
from ltxcore.runs.first_encoding import encoded
from ltxcore.runs.passes import passes_of
from ltxcore.runs.resume import where_it_lies
from ltxcore.runs.run_folder import STATUS, goes_on
from ltxcore.runs.run_plan import Outline, RunPlan, draft, plan
from ltxcore.runs.trackers import Trackers, trackers_of
from ltxcore.sample.marker import of_metadata
from ltxcore.sample.outputs import decoders
from ltxcore.train.best import Best
from ltxcore.train.feed import Samples
from ltxcore.train.generations import Generations, Validation
from ltxcore.train.held_out_generations import HeldOutGenerations
from ltxcore.train.out_of_memory import ENCODING, LOADING, Advice
from ltxcore.train.outcome import Outcome
from ltxcore.train.prompts import load_prompts
from ltxcore.train.session import Session
from ltxcore.train.trained_model import TrainedModel, load_model
from ltxcore.train.validation_loss import HeldOut
from ltxcore.writer import Writer, writing

HOLD_OUT = "set held_out under [data] to a number of samples, or to a separate dataset"
"""The remedy when a loss cannot be measured because no clips are held out."""

DRAWN = 2
"""The number of clips that are generated before and after training."""

SMALL = 20_000_000
"""The number of parameters below which one thread is enough."""


def run(
    loaded: LoadedRun,
    *,
    processes: Processes | None = None,
    allow_changes: bool = False,
    take_over: bool = False,
) -> Outcome:
    """Do what a run file says. An unfinished run in its `output_dir` continues from where it was last saved.

    Args:
        loaded: the run file.
        processes: the processes that run it together, all of which call this; None takes them from the environment.
        allow_changes: whether to continue an unfinished run even if its run file was different.
        take_over: whether to end another process that writes to `output_dir` or to the encoded data.

    Raises:
        LtxError: for everything that is wrong, before anything is written to `output_dir`; or for what stopped the training. With
            several processes, it is raised on one of them.
        SystemExit: on the others.
    """
    processes = processes or Processes.meet()
    here = where_it_lies(loaded, STATUS)[0].config
    try:
        with of_first(processes.rank), processes.ending(lambda: goes_on(here), 60 * here.engine.patience), contextlib.ExitStack() as stack:
            device = processes.together(lambda: device_of(processes))
            found = processes.together(lambda: draft(loaded, processes.world_size, allow_changes=allow_changes).checked())
            where = found.folder.path
            writer = processes.together(lambda: _writer(where, stack, take_over) if processes.rank == 0 else None)
            # Again, since the process that wrote there until now may have made progress.
            found = processes.together(lambda: draft(loaded, processes.world_size, allow_changes=allow_changes, base=found.base).checked())
            session = _session(found, writer, device, processes, take_over)
            with few_threads(session.model.backbone.blueprint.shapes.values(), session.engine.device):
                return session.run()
    except LtxError as error:
        raise located(error, loaded) from error
    except OSError as error:
        if not is_of_disk(error):
            raise
        raise CheckpointError.of([not_written(error, here.output_dir, "the run resumes from what was saved last")]) from error


def _writer(folder: Path, stack: contextlib.ExitStack, take_over: bool) -> Writer:
    """Return the one process that writes to `output_dir`."""
    try:
        return stack.enter_context(writing(folder, takes_over=take_over, name="--take-over"))
    except OSError as error:
        raise ConfigError.of([not_written(error, folder, "nothing was written yet")]) from error


def _session(found: Outline, writer: Writer | None, device: torch.device, processes: Processes, take_over: bool) -> Session:
    """Do everything that comes before the first file in `output_dir`; the processes are connected last, once each has
    encoded its share of the data.
    """
    config, progress = found.config, processes.progress
    for note in found.notes:
        inform(f"this unfinished run {note}")
    inform(f"{config.model.training_mode} run of {' and '.join(sorted(found.modalities))} on the base model {found.info.name}")
    processes.together(lambda: check_ahead(found) if processes.rank == 0 else None)
    root, only = encoded(found, config.data.dataset, config.data.preprocessed_data_root, processes, take_over)
    found = attrs.evolve(found, root=root)
    progress.says("reading the encoded samples", is_long=True)
    planned = processes.first_then_others(lambda: plan(found, only))
    if processes.rank == 0 and (changed := changed_data(planned)):
        warn(changed)
    samples = Samples(found.root, found.strategy.sources(), planned.manifest)
    apart, names = _held_out(planned, samples, processes, take_over)
    for each in (samples, apart)[: 1 if apart is samples else 2]:
        _verify(each, config, processes)
    inform(f"{len(planned.split.train)} samples to train on, {len(names)} held out")
    if not names:
        inform(f"no clips are held out ({planned.split.why_none}), so there is no validation loss; {HOLD_OUT}")
    advice = _advice(planned, device, processes)
    codecs = _codecs(config, device)
    with advice.during("encoding the prompts of objectives", ENCODING):
        samples.texts = load_prompts(planned, codecs, processes)
    generations = _generations(advice, apart, names, codecs, processes)
    progress.says("loading the model", is_long=True)
    model = processes.together(lambda: _model(planned, samples, device, advice))
    many = f" in {processes.world_size} processes" if processes.world_size > 1 else ""
    inform(f"training {model.count:,} parameters on {device.type}{many}, {config.optimization.steps} steps of {batch(planned, processes)}")
    if config.objectives:
        inform(f"learning {', '.join(labelled(config.objectives))}: {PassCount.of(config.objectives)} of the model per micro-batch")
    if model.idle:
        inform(f"LoRA modules that are not trained, because no loss of this run reaches them: {len(model.idle)}, such as {model.idle[0]}")
    processes.together(lambda: check_space(found.folder.path, 2 * model.checkpoint_bytes()) if processes.rank == 0 else None)
    with advice.during("setting up the optimizer", LOADING):
        engine = build_engine(config, model.backbone, model.parameters, processes, device)
    batch_size, seed = config.optimization.batch_size, config.seed
    return Session(
        plan=planned,
        samples=samples,
        model=model,
        engine=engine,
        held_out=HeldOut.of(found.build, found.setting, names, apart, batch_size, seed) if names else None,
        generations=generations,
        trackers=trackers_of(found.loaded) if processes.rank == 0 else Trackers((), found.loaded),
        advice=advice,
        writer=writer,
        best=_best(config) if names else None,
    )


def _best(config: RunFile) -> Best | None:
    """Return the object that keeps track of the best validation loss, if the run file asks for that."""
    table = config.checkpoints
    return Best(table.best_by, table.stop_after) if table.keep_best or table.stop_after is not None else None


def _advice(planned: RunPlan, device: torch.device, processes: Processes) -> Advice:
    """Return the advice for running out of memory, including whether that is likely."""
    need = need_at_start(planned, processes.world_size) if is_gpu(device) and processes.rank == 0 else None
    if need is not None:
        inform(said_at_start(planned, need, gpu_memory(device)))
    return Advice(planned, processes.rank, processes.world_size, device, None if isinstance(need, str) else need)


def _model(planned: RunPlan, samples: Samples, device: torch.device, advice: Advice) -> TrainedModel:
    with advice.during("loading the model", LOADING):
        return load_model(planned, samples, device, divided=uses_zero(planned.config, advice.processes))


def device_of(processes: Processes) -> torch.device:
    """Return the device that this process computes on: its own GPU, if there is one."""
    return torch.device(own_device(processes.place.local_rank))


def batch(planned: RunPlan, processes: Processes) -> str:
    """Describe the samples of an optimizer step: how many there are and, unless they are exactly one full micro-batch,
    how that number comes about.
    """
    config = planned.config
    table, passes = config.optimization, passes_of(planned.order, config, processes.world_size)
    parts = [table.batch_size, table.gradient_accumulation_steps, processes.world_size]
    samples = math.prod(parts)
    said = f"{samples} samples"
    if samples != table.batch_size:
        accumulated = f", {parts[1]} accumulated" if parts[1] > 1 else ""
        said += f" ({parts[0]} at a time{accumulated}{f', {parts[2]} processes' if parts[2] > 1 else ''})"
    return f"up to {said}, {passes.in_step:.3g} on average" if passes.not_full else said


def _verify(samples: Samples, config: RunFile, processes: Processes) -> None:
    """Read completely the share of the samples that `data.verify` gives; each process reads its part of them."""
    names = to_verify(samples.manifest.samples, config.data.verify, config.seed)
    if not names:
        return
    mine = names[processes.rank :: processes.world_size]
    compared = sum(processes.exchange(processes.together(lambda: verify(samples.root, samples.sources, mine, samples.manifest))))
    of = f"{len(names)} of {len(samples.manifest.samples)} samples in {samples.root} were read in full and are intact"
    told = f"{compared} files have a checksum" if compared else "none has a checksum, so only sizes, shapes and NaN were checked"
    inform(f"{of} ({told})")


def _held_out(planned: RunPlan, samples: Samples, processes: Processes, take_over: bool) -> tuple[Samples, tuple[str, ...]]:
    """Return the held-out samples and the samples to read them from: the run's data, or a dataset of their own."""
    found = planned.outline
    dataset = found.config.data.held_out
    if not isinstance(dataset, Path):
        return samples, planned.split.held_out
    root, only = encoded(found, dataset, None, processes, take_over)
    manifest = processes.first_then_others(lambda: read_manifest(root, found.strategy.sources(), only=only))
    processes.together(lambda: found.strategy.check(manifest))
    return Samples(root, found.strategy.sources(), manifest), manifest.samples


def _generations(advice: Advice, apart: Samples, names: tuple[str, ...], codecs: Codecs, processes: Processes) -> Generations | None:
    """Return the object that generates the samples of the run file, encoded now, before the model takes the memory; or
    held-out clips; or the first clips of the training set.
    """
    planned = advice.planned
    found = planned.outline
    config = found.config
    if found.samples:
        for note in dict.fromkeys(note for sample in found.samples for note in sample.notes):
            inform(note)
        said = of_metadata(found.strategy.metadata(planned.manifest))
        return processes.together(lambda: _validation(advice, codecs, found.info.marks if said is None else said))
    try:
        with decoders(codecs, found.modalities):
            pass
    except ConfigError as error:
        warn(f"no samples are generated: {error}")
        return None
    chosen = names[:DRAWN] or planned.split.train[:DRAWN]
    return HeldOutGenerations.of(found.build, found.setting, chosen, apart, codecs, config.validation.inference_steps, config.seed)


def _validation(advice: Advice, codecs: Codecs, marks: bool) -> Validation:
    with advice.during("encoding the samples of validation", ENCODING):
        return Validation.of(advice.planned.outline.samples, codecs, marks)


def _codecs(config: RunFile, device: torch.device) -> Codecs:
    """Return the codecs and the text encoder of the run's model, on this process's device."""
    return Codecs.of(
        config.model,
        device=str(device),
        tiling=config.acceleration.vae_tiling,
        text_in_8bit=config.acceleration.load_text_encoder_in_8bit,
        text_offload=config.acceleration.offload_text_encoder,
    )


def need_at_start(planned: RunPlan, processes: int) -> Need | str:
    """Estimate what each device has to hold, or explain why that is not known.

    Args:
        planned: the run.
        processes: the number of processes.
    """
    found = planned.outline
    try:
        return Estimator(found, found.base, of_manifest(planned.manifest, found)).need(found.config, processes)
    except (LtxError, RuntimeError, NotImplementedError, TypeError, ValueError) as error:
        # A user's strategy may need values, which tensors without memory do not have.
        return f"how much memory it needs is unknown: {error}"


def said_at_start(planned: RunPlan, need: Need | str, memory: int) -> str:
    """Say in one line what each device has to hold, and whether that is too much. This never stops a run, since it is
    only an estimate.

    Args:
        planned: the run.
        need: what each device needs.
        memory: the bytes of a device.
    """
    if isinstance(need, str):
        return need
    line = f"needs about {gib(need.with_margin)} of the {gib(memory)} of each GPU"
    if need.fits(memory):
        return line
    command = shlex.join(["ltx", "plan", str(planned.outline.loaded.path), "--gpus", str(need.processes)])
    return f"WARNING: {line}, and may run out of memory. To see what would make it fit: {command}"


@contextmanager
def few_threads(shapes: Iterable[tuple[int, ...]], device: torch.device) -> Iterator[None]:
    """Use one thread for a small model on a CPU, unless OMP_NUM_THREADS says otherwise; the number is restored
    afterwards.

    Its operations take less than a millisecond, and threads that wait for one another so often gain little and can lose
    much. On two cores, a step of the tiny model takes 0.08 s with one thread and 0.06 s with two, but 0.2 to 1.6 s with
    two while something else runs on one of the cores.

    Args:
        shapes: the shapes of the model's parameters.
        device: the device of the model.
    """
    small = sum(math.prod(shape) for shape in shapes) < SMALL
    if device.type != "cpu" or not small or "OMP_NUM_THREADS" in os.environ:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
