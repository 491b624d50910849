"""Settings that would make a run fit, found by the same arithmetic that shows that the run does not fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from ltxcore.config.run_file import RunFile
from ltxcore.encode.buckets import Bucket
from ltxcore.errors import LtxError
from ltxcore.planner.estimate import Estimator, Need
from ltxcore.planner.seconds import Gpu, gpu_for, step_seconds
from ltxcore.runs.engine import engine_problems, uses_zero
from ltxcore.runs.memory_settings import contradictions

GPUS = (2, 4, 8, 16, 32, 64)
"""The numbers of processes that the advice tries."""

LEAST_RANK = 8

OFFLOADED_AT_ONCE = 4
"""The number of blocks that each attempt offloads in addition to the previous attempt."""

FASTER = 0.98
"""A set of changes is advised beside single changes if it takes at most this share of the time of the fastest single change."""

SQUARE = (4096, 4096)
"""The shape of a matrix of attention, by which quantizers are compared."""

INSTALL = 'which needs `pip install "ltx[low-memory]"`'
"""The hint that is added to every change that needs a package, since the run may train on another machine."""


@attrs.frozen
class Change:
    """A change to a run's settings.

    Attributes:
        said: the change as a user writes it.
        tables: the keys of the run file and their values, by table.
        processes: the number of processes; None for as many as before.
        size: the size of the clips; None for the same size as before.
        is_other: whether the change costs more than time, because the run then needs different GPUs, trains a different LoRA, or trains on
            different clips.
        is_learned_otherwise: whether the run learns other weights, because it computes with other precision or another optimizer.
    """

    said: str
    tables: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    processes: int | None = None
    size: Bucket | None = None
    is_other: bool = False
    is_learned_otherwise: bool = False


@attrs.frozen
class Variant:
    """A run with some settings changed.

    Attributes:
        config: the run file.
        processes: the number of processes of the run.
        size: the size of the clips; None if it is unchanged.
        changes: the changes that were made.
    """

    config: RunFile
    processes: int
    size: Bucket | None = None
    changes: tuple[Change, ...] = ()

    def changed(self, change: Change) -> Variant:
        """Return the variant with one further change."""
        tables = {name: attrs.evolve(getattr(self.config, name), **keys) for name, keys in change.tables.items()}
        return Variant(
            attrs.evolve(self.config, **tables),
            self.processes if change.processes is None else change.processes,
            self.size if change.size is None else change.size,
            (*self.changes, change),
        )


@attrs.frozen
class Remedy:
    """Changes that make the run fit, and what the run needs with these changes.

    Attributes:
        changes: the changes.
        need: what the run then needs.
        seconds: the predicted seconds of a step for each of its samples.
    """

    changes: tuple[Change, ...]
    need: Need
    seconds: float = 0.0

    @property
    def said(self) -> tuple[str, ...]:
        """The changes as a user writes them."""
        return tuple(change.said for change in self.changes)

    @property
    def is_other(self) -> bool:
        """Whether the changes cost more than time."""
        return any(change.is_other for change in self.changes)

    @property
    def is_learned_otherwise(self) -> bool:
        """Whether the run learns other weights."""
        return any(change.is_learned_otherwise for change in self.changes)


def remedies(estimator: Estimator, config: RunFile, processes: int, memory: int, gpu: Gpu | None = None) -> list[Remedy]:
    """Return every kind of change that is enough by itself, applied only as far as necessary, and, if none of these costs only
    time, sets of changes that are enough together.

    The fastest come first, by the predicted seconds for each sample, whether they cost only time or compute with other precision or another
    optimizer. Those that need more GPUs or train something else come last, in the same order. Sets of changes are left out if a single
    change that costs only time is as fast. The list is empty if nothing is enough.

    Args:
        estimator: the run's estimator.
        config: the run file.
        processes: the number of processes of the run.
        memory: the bytes of a device.
        gpu: the GPU for which steps are predicted; None for the one whose memory is nearest.
    """
    gpu = gpu_for(memory) if gpu is None else gpu
    start = Variant(config, processes)
    alone = []
    for kind in KINDS:
        found = (_remedy(estimator, start.changed(change), memory) for change in kind(start, estimator))
        alone += [remedy for remedy in [next(filter(None, found), None)] if remedy is not None]
    of_time = [_timed(remedy, start, gpu) for remedy in alone if not remedy.is_other]
    least = min((remedy.seconds for remedy in of_time if not remedy.is_learned_otherwise), default=math.inf)
    sets = (_timed(remedy, start, gpu) for remedy in _sets(estimator, start, memory, more_gpus=not alone))
    better = [
        *of_time,
        *(each for each in sets if each.seconds < FASTER * least),
        *(_timed(each, start, gpu) for each in alone if each.is_other),
    ]
    return sorted(better, key=lambda remedy: (remedy.is_other, remedy.seconds, remedy.is_learned_otherwise))


def _timed(remedy: Remedy, start: Variant, gpu: Gpu) -> Remedy:
    config = _all(start, remedy.changes).config
    samples = (
        config.optimization.gradient_accumulation_steps * remedy.need.processes * remedy.need.batch_size / config.engine.sequence_parallel
    )
    return attrs.evolve(remedy, seconds=step_seconds(remedy.need, config, gpu).total / samples)


def _sets(estimator: Estimator, start: Variant, memory: int, more_gpus: bool) -> Iterator[Remedy]:
    """Yield sets of changes that make room for the weights in different ways."""
    said: set[frozenset[str]] = set()
    for way in WAYS:
        found = _together(estimator, start, start, memory, way)
        if found is not None and frozenset(found.said) not in said:
            said.add(frozenset(found.said))
            yield found
    # Some changes go only with several GPUs and others only with one, so the search starts anew for each number of GPUs.
    starts = [start.changed(change) for change in _gpus(start, estimator)] if more_gpus else []
    others = (_together(estimator, each, start, memory, KINDS) for each in starts)
    yield from [remedy for remedy in [next(filter(None, others), None)] if remedy is not None]


def _together(estimator: Estimator, reached: Variant, bare: Variant, memory: int, kinds: Sequence[Kind]) -> Remedy | None:
    """Apply one kind of change after another, each as far as it helps, until the run fits, and then remove the changes that
    turned out to be unnecessary.
    """
    if not _may_fit(estimator, reached, memory, kinds):
        return None
    need = _need(estimator, reached)
    milder: dict[str, tuple[Change, ...]] = {}
    for kind in (*kinds, *AT_DRAWING):  # again, since only now the peak may be while samples are decoded
        if kind is _gpus or need is None:
            continue
        before, passed = reached, tuple[Change, ...]()
        for change in kind(before, estimator):
            variant = before.changed(change)
            tried = _need(estimator, variant)
            if tried is None or tried.device >= need.device:
                continue
            reached, need = variant, tried
            milder[change.said], passed = passed, (*passed, change)
            if need.fits(memory):
                return _least(estimator, reached, bare, memory, milder)
    return None


def _may_fit(estimator: Estimator, reached: Variant, memory: int, kinds: Sequence[Kind]) -> bool:
    """Check quickly, without activations, whether the weights and the optimizer fit with all changes that reduce their size."""
    need = _need(estimator, reached, 0)
    for kind in kinds:
        before = reached
        for change in kind(before, estimator) if kind is not _gpus else ():
            tried = _need(estimator, variant := before.changed(change), 0)
            if need is not None and tried is not None and tried.device <= need.device:
                reached, need = variant, tried
    return need is not None and need.fits(memory)


def _least(estimator: Estimator, reached: Variant, bare: Variant, memory: int, milder: Mapping[str, tuple[Change, ...]]) -> Remedy:
    """Remove every change that the run fits without, the most expensive first."""
    kept = reached.changes
    for change in reversed(reached.changes):
        for other in ((), *((each,) for each in milder.get(change.said, ()))):
            fewer = tuple(new for each in kept for new in (other if each is change else (each,)))
            if _remedy(estimator, _all(bare, fewer), memory) is not None:
                kept = fewer
                break
    remedy = _remedy(estimator, _all(bare, kept), memory)
    assert remedy is not None
    return remedy


def _all(bare: Variant, changes: tuple[Change, ...]) -> Variant:
    for change in changes:
        bare = bare.changed(change)
    return bare


def _remedy(estimator: Estimator, variant: Variant, memory: int) -> Remedy | None:
    need = _need(estimator, variant, memory)
    if need is None or not need.fits(memory):
        return None
    return Remedy(variant.changes, need)


def _need(estimator: Estimator, variant: Variant, memory: int | None = None) -> Need | None:
    """Return the need of a variant; None if the variant is impossible.

    If `memory` is too small for the weights and the optimizer alone, only these are returned, since counting the activations
    takes seconds.
    """
    if any(engine_problems(variant.config, variant.processes)) or any(contradictions(variant.config)):
        return None
    try:
        if memory is not None and not (least := estimator.without_activations(variant.config, variant.processes)).fits(memory):
            return least
        return estimator.need(variant.config, variant.processes, variant.size)
    except LtxError:  # it contradicts the user's DeepSpeed configuration, or leaves clips too short for a condition
        return None


# ---- kinds of change, the cheapest first


def _checkpointing(run: Variant, estimator: Estimator) -> Iterator[Change]:
    if not run.config.optimization.enable_gradient_checkpointing:
        yield Change("optimization.enable_gradient_checkpointing = true", {"optimization": {"enable_gradient_checkpointing": True}})


def _activations(run: Variant, estimator: Estimator) -> Iterator[Change]:
    if run.config.optimization.enable_gradient_checkpointing and not run.config.acceleration.offload_activations:
        yield Change("acceleration.offload_activations = true", {"acceleration": {"offload_activations": True}})


def _connectors(run: Variant, estimator: Estimator) -> Iterator[Change]:
    """Yield only a change that the next run makes by itself, since it encodes its captions from a dataset."""
    data, is_stored = run.config.data, run.config.preprocessing.connector_outputs
    if estimator.base.info.has_connectors and data.dataset is not None and not data.sets and not is_stored:
        yield Change("preprocessing.connector_outputs = true", {"preprocessing": {"connector_outputs": True}})


def _vae_tiling(run: Variant, estimator: Estimator) -> Iterator[Change]:
    if not run.config.acceleration.vae_tiling and estimator.decoding(run.config, run.size):
        yield Change("acceleration.vae_tiling = true", {"acceleration": {"vae_tiling": True}})


def _room(run: Variant, estimator: Estimator) -> Iterator[Change]:
    key = "offload_optimizer_during_validation"
    is_one = not uses_zero(run.config, run.processes)
    draws = bool(estimator.found.samples) or estimator.decoding(run.config, run.size) > 0
    if is_one and not run.config.acceleration.offload_optimizer_during_validation and draws:
        yield Change(f"acceleration.{key} = true", {"acceleration": {key: True}})


def _precision(run: Variant, estimator: Estimator) -> Iterator[Change]:
    if run.config.acceleration.mixed_precision_mode == "no":
        yield Change(
            'acceleration.mixed_precision_mode = "bf16"', {"acceleration": {"mixed_precision_mode": "bf16"}}, is_learned_otherwise=True
        )


def _rounding(run: Variant, estimator: Estimator) -> Iterator[Change]:
    if run.config.model.training_mode == "full" and not run.config.acceleration.stochastic_rounding:
        yield Change("acceleration.stochastic_rounding = true", {"acceleration": {"stochastic_rounding": True}}, is_learned_otherwise=True)


def _in_backward(run: Variant, estimator: Estimator) -> Iterator[Change]:
    if run.config.model.training_mode == "full" and not run.config.acceleration.step_in_backward:
        yield Change("acceleration.step_in_backward = true", {"acceleration": {"step_in_backward": True}})


def _quantization(run: Variant, estimator: Estimator) -> Iterator[Change]:
    now, known = run.config.acceleration.quantizer, estimator.found.loaded.registry.of_kind("quantizer")
    for name, needs in (("int8", ""), ("nf4", f", {INSTALL}")):
        if name not in known:
            continue
        smaller = known[name].value()
        if now is None or smaller.weight_bytes(SQUARE) < now.weight_bytes(SQUARE):
            table = {"quantization": name, "quantization_params": {}, "quantizer": smaller}
            yield Change(f'acceleration.quantization = "{name}"{needs}', {"acceleration": table}, is_learned_otherwise=True)


def _eight_bits(run: Variant, estimator: Estimator) -> Iterator[Change]:
    """Yield only the change to 8-bit weights, which affect a step less than 4-bit weights do."""
    yield from (change for change in _quantization(run, estimator) if change.tables["acceleration"]["quantization"] == "int8")


def _optimizer(run: Variant, estimator: Estimator) -> Iterator[Change]:
    smaller = estimator.found.loaded.registry.of_kind("optimizer").get("adamw8bit")
    if run.config.optimization.optimizer_type == "adamw" and smaller is not None:
        table = {"optimizer_type": smaller.name, "optimizer": smaller.value(**run.config.optimization.optimizer_params)}
        said = f'optimization.optimizer_type = "{smaller.name}", {INSTALL}'
        yield Change(said, {"optimization": table}, is_learned_otherwise=True)


def _average(run: Variant, estimator: Estimator) -> Iterator[Change]:
    if run.config.ema.decay is not None and run.config.ema.device == "model":
        yield Change('ema.device = "cpu"', {"ema": {"device": "cpu"}})


def _offload_blocks(run: Variant, estimator: Estimator) -> Iterator[Change]:
    layers, now = estimator.base.num_layers, run.config.acceleration.offload_blocks
    for count in sorted({*range(0, layers, OFFLOADED_AT_ONCE), layers}):
        if count > now:
            yield Change(f"acceleration.offload_blocks = {count}", {"acceleration": {"offload_blocks": count}})


def _stage(run: Variant, estimator: Estimator) -> Iterator[Change]:
    if uses_zero(run.config, run.processes) and run.config.engine.stage in (1, 2):
        yield Change("engine.stage = 3", {"engine": {"stage": 3}})


def _batch_size(run: Variant, estimator: Estimator) -> Iterator[Change]:
    table, shapes = run.config.optimization, estimator.shapes
    at_once = shapes.at_once(run.config)
    if at_once > 1:
        accumulated = at_once * table.gradient_accumulation_steps
        key, least = ("batch_size", 1) if table.tokens_per_batch is None else ("tokens_per_batch", shapes.tokens)
        alike = "the same global batch" if table.tokens_per_batch is None else "about as many samples in a step"
        yield Change(
            f"optimization.{key} = {least}, and gradient_accumulation_steps = {accumulated} for {alike}",
            {"optimization": {key: least, "gradient_accumulation_steps": accumulated}},
        )


def _offload(run: Variant, estimator: Estimator) -> Iterator[Change]:
    now = run.config.engine
    if uses_zero(run.config, run.processes):
        if now.offload == "none":
            yield Change('engine.offload = "optimizer"', {"engine": {"offload": "optimizer"}})
        if now.offload != "all":
            stage = {} if now.stage in (None, 3) else {"stage": 3}  # this alone may take more memory
            yield Change(f'{"engine.stage = 3, and " * bool(stage)}engine.offload = "all"', {"engine": {"offload": "all", **stage}})


def _gpus(run: Variant, estimator: Estimator) -> Iterator[Change]:
    for count in GPUS:
        if count > run.processes:
            yield Change(f"--gpus {count}", processes=count, is_other=True)


def _rank(run: Variant, estimator: Estimator) -> Iterator[Change]:
    if run.config.model.training_mode == "lora" and run.config.lora.rank > LEAST_RANK:
        yield Change(f"lora.rank = {LEAST_RANK}", {"lora": {"rank": LEAST_RANK}}, is_other=True)


def _size(run: Variant, estimator: Estimator) -> Iterator[Change]:
    size, frames = run.size or estimator.shapes.size, estimator.base.info.video_scale[0]
    while size is not None and size.frames > frames:
        size = Bucket(size.width, size.height, (size.frames - 1) // (2 * frames) * frames + 1)
        yield Change(f'preprocessing.resolution_buckets = "{size}"', size=size, is_other=True)


Kind = Callable[[Variant, Estimator], Iterator[Change]]

AT_DRAWING: tuple[Kind, ...] = (_vae_tiling, _room)
"""The kinds of change that reduce only the memory for generating and decoding samples."""

KINDS: tuple[Kind, ...] = (
    *AT_DRAWING, _connectors, _checkpointing, _activations, _precision, _rounding, _in_backward, _quantization, _average, _offload_blocks, _stage,
    _batch_size, _offload, _optimizer, _gpus, _rank, _size,
)  # fmt: skip

WAYS: tuple[tuple[Kind, ...], ...] = (
    tuple(kind for kind in KINDS if kind is not _offload_blocks),
    tuple(_eight_bits if kind is _quantization else kind for kind in KINDS),
    tuple(kind for kind in KINDS if kind is not _quantization),
    KINDS,
)
"""The kinds of change that are tried together: quantized weights; 8-bit weights, some of them offloaded; unquantized, offloaded
weights; and all kinds.
"""
