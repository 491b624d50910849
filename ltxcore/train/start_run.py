"""Carry out a run file from beginning to end: encode, plan, load, train, measure, export, generate.

The line about memory that `ltx run` prints before it loads the model is written here too.
"""

from __future__ import annotations

import contextlib
import math
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ltxcore.codecs.source import Codecs
from ltxcore.config.load import LoadedRun, located
from ltxcore.config.loras import FROZEN
from ltxcore.config.run_file import RunFile
from ltxcore.devices import gpu_memory, is_gpu, own_device
from ltxcore.encoded.checks import count
from ltxcore.encoded.manifest import read_manifest
from ltxcore.encoded.micro_batch import to_verify, verify
from ltxcore.encoded.streams import placeholders, streams_in
from ltxcore.engines.process import Processes
from ltxcore.errors import CheckpointError, ConfigError, LtxError, listed
from ltxcore.files import is_of_disk, not_written
from ltxcore.logs import inform, of_first, warn
from ltxcore.memory import gib
from ltxcore.models.exports import said_of_programs
from ltxcore.models.lora_save import saved_type
from ltxcore.objectives import PassCount, labelled
from ltxcore.planner.estimate import Estimator, Need
from ltxcore.runs.about import changed_data
from ltxcore.runs.checkpoint import check_space
from ltxcore.runs.checks import check_ahead
from ltxcore.runs.data_sets import plan_of
from ltxcore.runs.engine import build_engine, uses_zero
from ltxcore.runs.first_encoding import encoded, encoded_data
from ltxcore.runs.noted import of_loras
from ltxcore.runs.objective_datasets import objective_datasets, with_planned
from ltxcore.runs.passes import passes_of, said
from ltxcore.runs.prompts import prompts_of_run
from ltxcore.runs.resume import where_it_lies
from ltxcore.runs.run_folder import STATUS, goes_on
from ltxcore.runs.run_plan import Outline, RunPlan, draft
from ltxcore.runs.trackers import Trackers, trackers_of
from ltxcore.sample.euler import levels_of_steps
from ltxcore.sample.marker import of_metadata
from ltxcore.sample.outputs import decoders
from ltxcore.train.best import Best
from ltxcore.train.dealing import OWN, data_of
from ltxcore.train.feed import Samples
from ltxcore.train.generations import Generations, Validation
from ltxcore.train.held_out_generations import HeldOutGenerations
from ltxcore.train.out_of_memory import ENCODING, LOADING, Advice
from ltxcore.train.outcome import Outcome
from ltxcore.train.prompts import load_prompts
from ltxcore.train.session import Session
from ltxcore.train.trained_model import TrainedModel, load_model
from ltxcore.train.validation_loss import held_out_of
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
    """Carry out a run file. An unfinished run in its `output_dir` continues from its last checkpoint.

    Args:
        loaded: the run file.
        processes: the processes that carry out the run together, each of which calls this function; None to read them
            from the environment.
        allow_changes: whether to continue an unfinished run whose run file was different.
        take_over: whether to end another process that writes to `output_dir` or to the encoded data.

    Raises:
        LtxError: something is wrong with the run (this is found before anything is written to `output_dir`), or
            something stopped the training. Of several processes, one raises this error.
        SystemExit: another process has raised the error.
    """
    processes = processes or Processes.meet()
    here = where_it_lies(loaded, STATUS)[0].config
    try:
        with of_first(processes.rank), processes.ending(lambda: goes_on(here), 60 * here.engine.patience), contextlib.ExitStack() as stack:
            device = processes.together(lambda: device_of(processes))
            found = processes.together(lambda: draft(loaded, processes.world_size, allow_changes=allow_changes).checked())
            where = found.folder.path
            writer = processes.together(lambda: _writer(where, stack, take_over) if processes.rank == 0 else None)
            # Checked again, since the process that wrote to the folder until now may have made progress.
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
    """Make this process the only one that writes to `output_dir`."""
    try:
        return stack.enter_context(writing(folder, takes_over=take_over, name="--take-over"))
    except OSError as error:
        raise ConfigError.of([not_written(error, folder, "nothing was written yet")]) from error


def _session(found: Outline, writer: Writer | None, device: torch.device, processes: Processes, take_over: bool) -> Session:
    """Do everything that comes before the first file in `output_dir`. The processes are connected last, after each has
    encoded its share of the data.
    """
    config, progress = found.config, processes.progress
    for note in found.notes:
        inform(f"this unfinished run {note}")
    inform(f"{config.model.training_mode} run of {' and '.join(sorted(found.modalities))} on the base model {found.info.name}")
    processes.together(lambda: check_ahead(found) if processes.rank == 0 else None)
    planned = _planned(found, processes, take_over)
    found = planned.outline
    data = data_of(planned)
    samples = data[OWN].samples
    apart, names = _held_out(planned, samples, processes, take_over)
    for each in (*(each.samples for each in data.values()), *([] if apart is samples else [apart])):
        _verify(each, config, processes)
    inform(f"{count(planned.split.train)} to train on, {len(names)} held out")
    if not names:
        inform(f"no clips are held out ({planned.split.why_none}), so there is no validation loss; {HOLD_OUT}")
    advice = _advice(planned, device, processes)
    codecs = codecs_of(config, device)
    with advice.during("encoding prompts", ENCODING):
        samples.texts = load_prompts(planned, prompts_of_run(config), codecs, processes)
    generations = _generations(advice, apart, names, codecs, processes)
    progress.says("loading the model", is_long=True)
    model = processes.together(lambda: _model(planned, samples, device, advice))
    many = f" in {config.engine.groups_of(processes.world_size)}" if processes.world_size > 1 else ""
    inform(
        f"training {model.count:,} parameters on {device.type}{many}, {config.optimization.steps} step{'s' * (config.optimization.steps != 1)} of {batch(planned, processes)}"
    )
    if config.objectives:
        inform(f"learning {', '.join(labelled(config.objectives))}: {PassCount.of(config.objectives)} of the model per micro-batch")
    if config.model.base is not None:
        inform(f"a frozen copy of {found.info.name} predicts what the base predicts")
    if config.model.training_mode == "lora" and (told := said_of_programs(saved_type(model.backbone))):
        inform(told)
    if model.idle:
        inform(f"LoRA modules that no loss of this run reaches are not trained: {listed(model.idle, 1)}")
    processes.together(lambda: check_space(found.folder.path, 2 * model.checkpoint_bytes()) if processes.rank == 0 else None)
    with advice.during("setting up the optimizer", LOADING):
        engine = build_engine(config, model.backbone, model.parameters, processes, device)
    return Session(
        plan=planned,
        data=data,
        model=model,
        engine=engine,
        held_out=held_out_of(planned, data, apart, names),
        generations=generations,
        trackers=trackers_of(found.loaded) if processes.rank == 0 else Trackers((), found.loaded),
        advice=advice,
        writer=writer,
        best=_best(config) if names else None,
    )


def _check_frozen(found: Outline, frozen: Sequence[Mapping[str, Any]]) -> None:
    """Refuse to resume a run whose frozen LoRAs have changed.

    Raises:
        CheckpointError: the files differ from those that the run began with.
    """
    before = (found.folder.status() or {}).get(FROZEN) if found.resumes else None
    if before is None or found.changes:
        return
    changed = [each["name"] for each, now in zip(before, frozen, strict=False) if each["sha256"] != now["sha256"]]
    if changed:
        what = f"frozen LoRAs have changed since this run began: {listed(changed)}"
        raise CheckpointError(
            what, where=found.loaded.where("model.loras"), remedy="Restore the files, or accept the change with --allow-changes."
        )


def _planned(found: Outline, processes: Processes, take_over: bool) -> RunPlan:
    """Encode the data of the run and of its objectives, as far as they are not encoded yet, and plan the run with these data."""
    for note in of_loras(found):
        warn(note)
    sets = encoded_data(found, processes, take_over)
    datasets = {each.label: encoded(each.outline, each.dataset, None, processes, take_over) for each in objective_datasets(found)}
    processes.progress.says("reading the encoded samples", is_long=True)
    planned = processes.first_then_others(lambda: with_planned(plan_of(found, sets), datasets))
    if processes.rank == 0 and (changed := changed_data(planned)):
        warn(changed)
    if planned.order.sets:
        inform(f"the run trains on {said(passes_of(planned.order, found.config, processes.world_size))}")
    if told := streams_in(planned.manifest):
        inform(told)
    for label, each in planned.datasets.items():
        inform(f"{label}: {count(each.split.train)} of its own in {each.outline.root}, and {len(each.split.held_out)} held out")
    return planned


def _best(config: RunFile) -> Best | None:
    """Return the object that keeps track of the best validation loss, if the run file asks for it."""
    table = config.checkpoints
    return Best(table.best_by, table.stop_after) if table.keep_best or table.stop_after is not None else None


def _advice(planned: RunPlan, device: torch.device, processes: Processes) -> Advice:
    """Return the advice for running out of memory, and report whether memory is likely to suffice."""
    need = need_at_start(planned, processes.world_size) if is_gpu(device) and processes.rank == 0 else None
    if need is not None:
        inform(said_at_start(planned, need, gpu_memory(device)))
    return Advice(planned, processes.rank, processes.world_size, device, None if isinstance(need, str) else need)


def _model(planned: RunPlan, samples: Samples, device: torch.device, advice: Advice) -> TrainedModel:
    with advice.during("loading the model", LOADING):
        model = load_model(planned, samples, device, divided=uses_zero(planned.config, advice.processes))
    inform(f"attention: {model.attention}")
    if model.recorded:
        _check_frozen(planned.outline, model.recorded[FROZEN])
        under = listed(each["name"] for each in model.recorded[FROZEN])
        is_lora = planned.config.model.training_mode == "lora"
        what = f"the LoRA is trained on top of {under}; only the LoRA itself changes"
        inform(what if is_lora else f"the model is trained on top of {under}, which the saved weights will not contain")
    return model


def device_of(processes: Processes) -> torch.device:
    """Return the device that this process computes on: its own GPU, or the CPU if there is no GPU."""
    return torch.device(own_device(processes.place.local_rank))


def batch(planned: RunPlan, processes: Processes) -> str:
    """Describe the samples of an optimizer step: their number and, unless they are exactly one full micro-batch, how
    this number is made up.
    """
    config = planned.config
    table, passes = config.optimization, passes_of(planned.order, config, processes.world_size)
    many = table.gradient_accumulation_steps, config.engine.shares(processes.world_size)
    who = config.engine.groups_of(processes.world_size)
    made_up = f"{f', {many[0]} accumulated' if many[0] > 1 else ''}{f', {who}' if many[1] > 1 else ''}"
    if table.batch_size is None:
        return f"{passes.in_step:.3g} samples on average ({table.micro_batch}{made_up})"
    samples = math.prod([table.batch_size, *many])
    said = f"{samples} sample{'s' * (samples != 1)}"
    if samples != table.batch_size:
        said += f" ({table.batch_size} at a time{made_up})"
    return f"up to {said}, {passes.in_step:.3g} on average" if passes.not_full else said


def _verify(samples: Samples, config: RunFile, processes: Processes) -> None:
    """Read in full the share of the samples that `data.verify` asks for; each process reads a part of this share."""
    names = to_verify(samples.manifest.samples, config.data.verify, config.seed)
    if not names:
        return
    mine = names[processes.rank :: processes.world_size]
    compared = sum(processes.exchange(processes.together(lambda: verify(samples.root, samples.sources, mine, samples.manifest))))
    of = f"{len(names)} of {len(samples.manifest.samples)} samples in {samples.root} were read in full and are intact"
    told = f"{compared} files have a checksum" if compared else "none has a checksum, so only sizes, shapes and NaN were checked"
    inform(f"{of} ({told})")


def _held_out(planned: RunPlan, samples: Samples, processes: Processes, take_over: bool) -> tuple[Samples, tuple[str, ...]]:
    """Return the names of the held-out samples, and the dataset that they are read from: the run's own or a separate
    one.
    """
    found = planned.outline
    dataset = found.config.data.held_out
    if not isinstance(dataset, Path):
        return samples, planned.split.held_out
    root, only = encoded(found, dataset, None, processes, take_over)
    manifest = processes.first_then_others(lambda: read_manifest(root, found.strategy.sources(), only=only))
    processes.together(lambda: found.strategy.check(manifest))
    return Samples(root, found.strategy.sources(), manifest, cells=placeholders(planned.manifest)), manifest.samples


def _generations(advice: Advice, apart: Samples, names: tuple[str, ...], codecs: Codecs, processes: Processes) -> Generations | None:
    """Return the object that generates the samples of the run file, or else held-out clips, or else the first training
    clips. The samples are encoded now, before the model takes the memory.
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
    sigmas = levels_of_steps(config.validation.levels, config.validation.inference_steps)
    return HeldOutGenerations.of(found.build, found.setting, chosen, apart, codecs, sigmas, config.seed)


def _validation(advice: Advice, codecs: Codecs, marks: bool) -> Validation:
    with advice.during("encoding the samples of validation", ENCODING):
        return Validation.of(advice.planned.outline.samples, codecs, marks)


def codecs_of(config: RunFile, device: torch.device) -> Codecs:
    """Return the codecs and the text encoder of the run's model, on this process's device."""
    return Codecs.of(
        config.model,
        device=str(device),
        tiling=config.acceleration.vae_tiling,
        text_in_8bit=config.acceleration.load_text_encoder_in_8bit,
        text_offload=config.acceleration.offload_text_encoder,
    )


def need_at_start(planned: RunPlan, processes: int) -> Need | str:
    """Estimate the memory that each device needs, or explain why the estimate is not possible.

    Args:
        planned: the run.
        processes: the number of processes.
    """
    try:
        return Estimator.of(planned).need(planned.config, processes)
    except (LtxError, RuntimeError, NotImplementedError, TypeError, ValueError) as error:
        # A user's strategy may need the values of tensors, and the tensors of an estimate have none.
        return f"how much memory it needs is unknown: {error}"


def said_at_start(planned: RunPlan, need: Need | str, memory: int) -> str:
    """Say in one line how much memory each device needs, and whether it has too little. This never stops a run, since
    it is only an estimate.

    Args:
        planned: the run.
        need: the memory that each device needs, or why it is not known.
        memory: the memory of a device, in bytes.
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
    """Use one thread for a small model on a CPU, unless OMP_NUM_THREADS is set; restore the number of threads
    afterwards.

    The operations of a small model take less than a millisecond. Threads that have to wait for one another that often
    save little time, and can lose much. On two cores, a step of the tiny model takes 0.08 s with one thread and 0.06 s
    with two, but 0.2 to 1.6 s with two while something else runs on one of the cores.

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
