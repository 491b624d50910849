"""The cost of a run file, as `ltx plan` reports it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import attrs

from ltxcore.config.load import LoadedRun, located
from ltxcore.encoded.held_out import Split, split
from ltxcore.encoded.streams import streams_in
from ltxcore.errors import LtxError
from ltxcore.later import uncollected
from ltxcore.memory import gib
from ltxcore.models.base import released
from ltxcore.objectives import labelled
from ltxcore.planner.advice import Remedy, remedies
from ltxcore.planner.encoding_text import captions_before, why_not_counted
from ltxcore.planner.estimate import CONTEXT, SHARE, Estimator, Need, with_margin
from ltxcore.planner.largest_batch import Shapes, all_samples, glance_at_datasets, sets_here, shapes_of, shapes_of_datasets, stored_bytes
from ltxcore.planner.seconds import Gpu, Seconds, gpu_for, one_digit, step_seconds, time_rows
from ltxcore.protocols import Manifest
from ltxcore.runs.data_sets import together
from ltxcore.runs.fits import captions_are_connected
from ltxcore.runs.group_settings import group_lines
from ltxcore.runs.memory_settings import missing_here
from ltxcore.runs.passes import Passes, passes_of, said
from ltxcore.runs.run_plan import Outline, RunPlan, draft, ordered

GIB = 2**30

UNKNOWN = (
    "Computed from the model's shapes and the tensors that PyTorch's own kernels keep. Not included: fragmentation, and the workspaces of kernels (cuDNN, flash attention, NCCL). "
    f"The margin of {SHARE:.0%} and {CONTEXT // GIB} GiB is for these."
)


UNSEEN = "unknown, because there are no encoded data here"


@attrs.frozen(eq=False)
class Cost:
    """The cost of a run.

    Attributes:
        found: the run without its data.
        shapes: the shapes of the largest micro-batch.
        need: the bytes that the run needs.
        memory: the bytes of a device.
        remedies: changes that make the run fit, if it does not fit already.
        lacking: what the run file asks for and the training machine must have, but this machine lacks.
        gpu: the GPU for which steps are predicted.
        seconds: the predicted seconds of a step.
        data_bytes: the bytes of the encoded data; None if the data are not on this machine.
        passes: the passes over the data; None if the data are not on this machine.
        others: the shapes of the largest micro-batch of each objective's dataset, by the objective's name in metrics.
        encoding: the bytes on a GPU while the clips are encoded, before the run; 0 if they are encoded already, or there are none.
        encoding_tiled: the same with `preprocessing.vae_tiling`; counted only if the run does not set the key, and does not fit without it.
        captions: the bytes on a GPU while captions are encoded, before the run; None if this is not known, and 0 if they are encoded already
            or take next to nothing.
        streams: how many of the encoded samples have which modalities, in words; "" if all have those of the run.
    """

    found: Outline
    shapes: Shapes
    need: Need
    memory: int
    remedies: tuple[Remedy, ...]
    lacking: tuple[str, ...]
    gpu: Gpu
    seconds: Seconds
    data_bytes: int | None = None
    passes: Passes | None = None
    others: Mapping[str, Shapes] = attrs.field(factory=dict)
    streams: str = ""
    encoding: int = 0
    encoding_tiled: int = 0
    captions: int | None = 0

    @property
    def captions_fit(self) -> bool:
        """Whether a device is large enough to encode captions."""
        return not self.captions or with_margin(self.captions) <= self.memory

    @property
    def encoding_fits(self) -> bool:
        """Whether a device is large enough to encode the clips."""
        return not self.encoding or with_margin(self.encoding) <= self.memory

    @property
    def fits(self) -> bool:
        """Whether a device is large enough for the run."""
        return self.need.fits(self.memory)


@uncollected()  # a collection looks through all that was imported, and takes as long as running a block
def cost(
    loaded: LoadedRun,
    processes: int,
    memory: int,
    *,
    nodes: int = 1,
    model: str | None = None,
    bucket: str | None = None,
    gpu: Gpu | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Cost:
    """Compute what a run costs, and which changes would make it fit.

    The data need not be on this machine if `bucket` or the run file sets the size of the clips.

    Args:
        loaded: the run file.
        processes: the number of processes, one per device.
        memory: the bytes of a device.
        nodes: the number of machines, over which the processes are divided evenly.
        model: the name of a released model, instead of the file at `model_path`.
        bucket: the size of clips as `WxHxF`, instead of the size in the run file or the data.
        gpu: the GPU for which steps are predicted; None for the one whose memory is nearest.
        tell: a function that is called with a message before work that takes seconds.

    Raises:
        LtxError: the run file has mistakes, all of which the error names; or the size of the clips is not known.
    """
    try:
        tell(f"reading the headers of {loaded.config.model.model_path}" if model is None else f"taking the shapes of {model}")
        base = None if model is None else released(model)
        found = draft(loaded, processes, writes=False, base=base, here=False).checked()
        encoded = _encoded(found, bucket)
        data = all_samples(encoded)
        is_sized = bucket is not None or loaded.config.preprocessing.named_buckets is not None
        seen = () if data is not None else glance_at_datasets(found, tell, is_needed=not is_sized)
        shapes = shapes_of(found, found.base, bucket, data, seen)
        others = shapes_of_datasets(found, shapes)
        are_connected = data is not None and captions_are_connected(found, data)
        estimator = Estimator(found, found.base, shapes, nodes, tell, tuple(others.values()), are_connected)
        need = estimator.need(loaded.config, processes)
        better = () if need.fits(memory) else tuple(remedies(estimator, loaded.config, processes, memory, gpu))
        gpu = gpu_for(memory) if gpu is None else gpu
        seconds = step_seconds(need, loaded.config, gpu)
        lacking = tuple(f"{key} {what}. {remedy}" for key, what, remedy in missing_here(loaded.config))
        size = None if data is None else stored_bytes(data, found)
        passes = _passes(found, encoded, processes) if len(encoded) == max(1, len(found.config.data.sets)) else None
        streams = "" if data is None else streams_in(data)
        made = Cost(found, shapes, need, memory, better, lacking, gpu, seconds, size, passes, others, streams)
        is_encoded_here = data is None and loaded.config.data.is_said
        if is_encoded_here:
            captions = 0 if found.info.generation == "tiny" else captions_before(loaded.config)
            tiles = loaded.config.preprocessing.vae_tiling
            made = attrs.evolve(made, encoding=estimator.encoding(tiles), captions=captions)
            if not tiles and not made.encoding_fits:
                made = attrs.evolve(made, encoding_tiled=estimator.encoding(tiles=True))
        return made
    except LtxError as error:
        raise located(error, loaded) from error


def _encoded(found: Outline, bucket: str | None) -> dict[str, tuple[Outline, Manifest]]:
    """Return the data that are encoded on this machine, by set. Errors in the data matter only if the size of the clips is not known from
    elsewhere.
    """
    try:
        return sets_here(found)
    except LtxError:
        if bucket is None and found.config.preprocessing.named_buckets is None:
            raise
        return {}


def _passes(found: Outline, encoded: Mapping[str, tuple[Outline, Manifest]], processes: int) -> Passes | None:
    try:
        plan = together(found, [_planned(each, manifest) for each, manifest in encoded.values()])
        return passes_of(plan.order, found.config, processes)
    except LtxError:  # nothing is left to train on, which `ltx check` reports
        return None


def _planned(found: Outline, data: Manifest) -> RunPlan:
    held_out = found.config.data.held_out
    chosen = Split(data.samples, ()) if isinstance(held_out, Path) else split(data, held_out)
    return RunPlan(found, data, chosen, ordered(found, data, chosen.train))


# ---- for people


def told(found: Cost) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield the parts of the report: a heading, and rows of a name and a value."""
    need, config = found.need, found.found.config
    kind = config.lora.in_words if config.model.training_mode == "lora" else "full fine-tuning"
    streams = " and ".join(sorted(found.found.modalities))
    yield (
        f"{kind} of {streams} on {found.found.info.name}, {need.engine}",
        [
            ("trained", f"{need.parameters.trained:,} of {need.parameters.loaded:,} parameters loaded"),
            *((f"group {name}", what) for name, what in group_lines(config)),
            ("micro-batch", f"{found.shapes.at_once(config)} of {found.shapes.described}"),
            *([("learns", _learned(found))] if config.objectives else []),
            *(
                (label, f"{each.tokens_at_once(config):,} tokens: {each.at_once(config)} of {each.described}")
                for label, each in found.others.items()
            ),
            ("trains on", UNSEEN if found.passes is None else said(found.passes)),
            *([("samples", found.streams)] if found.streams else []),
        ],
    )
    yield f"Each of {need.processes} GPUs" if need.processes > 1 else "The GPU", _on_gpu(found)
    encoded = (("encoding of captions", found.captions, found.captions_fit), ("encoding of clips", found.encoding, found.encoding_fits))
    rows = [
        (name, why_not_counted(config) if size is None else f"{gib(with_margin(size))} of {gib(found.memory)} with margin: {_fits(fits)}")
        for name, size, fits in encoded
        if size != 0
    ]
    if rows:
        yield "Preprocessing", rows
    yield f"Time on {found.gpu.name}", time_rows(found.seconds, found.gpu, config.optimization.steps, need)
    machine = "CPU memory" if need.nodes == 1 else f"CPU memory of each of {need.nodes} machines"
    yield machine, [("offloaded", gib(need.offloaded * -(-need.processes // need.nodes))), ("total, about", gib(need.host))]
    data = UNSEEN if found.data_bytes is None else gib(found.data_bytes)
    yield (
        "Disk",
        [
            ("checkpoints", f"{gib(need.checkpoint * need.checkpoints)}, {need.checkpoints} of {gib(need.checkpoint)} at once"),
            *([("best weights", gib(need.best))] if need.best else []),
            ("result", gib(need.exported)),
            ("encoded data", data),
        ],
    )


def _on_gpu(found: Cost) -> list[tuple[str, str]]:
    """Return the rows of what is on each GPU."""
    need, states, config = found.need, found.need.states, found.found.config
    ways = "gradient checkpointing" if config.optimization.enable_gradient_checkpointing else "no checkpointing"
    return [
        ("weights", gib(states.weights)),
        *([("average of the weights", gib(states.average))] if states.average else []),
        *([("copy of the base", gib(states.copy))] if states.copy else []),
        ("gradients", gib(states.gradients)),
        ("optimizer", gib(states.optimizer) if need.is_whole else "unknown, and not included below"),
        ("communication", gib(states.communication)),
        (f"activations, {ways}", f"{gib(need.activations.peak)}, of which {gib(need.activations.saved)} kept for the backward pass"),
        ("inputs", gib(need.activations.inputs)),
        *([("sent to others in a step", gib(need.exchanged))] if need.exchanged else []),
        *([("generation of samples", gib(need.generating))] if need.generating else []),
        *([("decoding of samples", gib(need.decoding))] if need.decoding else []),
        ("peak", f"{gib(need.device)}, {need.moment}"),
        ("peak with margin", f"{gib(need.with_margin)} of {gib(found.memory)}: {_fits(found.fits)}"),
    ]


def _fits(fits: bool) -> str:
    return "fits" if fits else "does not fit"


def _learned(found: Cost) -> str:
    """Describe what is learned, and how many passes it takes."""
    return f"{', '.join(labelled(found.found.config.objectives))}: {found.need.passes} per micro-batch"


def advice(found: Cost) -> Iterator[str]:
    """Yield what the training machine must have, and what to change if the run does not fit."""
    for each in found.lacking:
        yield f"Missing here, but needed on the machine that trains: {each}"
    if not found.encoding_fits:
        tiled = f"{gib(with_margin(found.encoding_tiled))} with preprocessing.vae_tiling = true, and " if found.encoding_tiled else ""
        yield f"Encoding the clips takes {tiled}less if the clips are smaller or shorter."
    if not found.captions_fit:
        yield "Encoding captions takes less with acceleration.load_text_encoder_in_8bit = true or acceleration.offload_text_encoder = true."
    if found.fits:
        return
    if not found.remedies:
        yield "No setting makes the run fit, not even all settings together: the run needs GPUs with more memory."
        return
    several = len(found.remedies) > 1
    is_set = any(len(remedy.said) > 1 for remedy in found.remedies)
    how = "any one of these, the fastest first" if several else "all of" if is_set else "this"
    yield f"It would fit with {how}:"
    for remedy in found.remedies:
        first, *others = remedy.said
        away = f", and {gib(remedy.need.offloaded)} in CPU memory" if remedy.need.offloaded else ""
        took = f", {one_digit(remedy.seconds)} s per sample" + ", learns other weights" * remedy.is_learned_otherwise
        lines = [f"  {'- ' * (several and is_set)}{first}", *(f"  {'  ' * several}{each}" for each in others)]
        yield "\n".join(lines) + f"  ({gib(remedy.need.with_margin)}{away}{took})"
