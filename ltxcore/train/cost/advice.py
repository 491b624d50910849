"""Settings under which a run that does not fit would: each is tried by the arithmetic that found that it does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from ltxcore.config.schema import RunFile
from ltxcore.errors import LtxError
from ltxcore.models.quantized import BITS, NAMES
from ltxcore.preprocess.buckets import Bucket
from ltxcore.train.cost.estimate import Estimator, Need
from ltxcore.train.engine import engine_problems, uses_zero
from ltxcore.train.memory import contradictions

GPUS = (2, 4, 8, 16, 32, 64)
"""Numbers of processes that are tried."""

LEAST_RANK = 8

OFFLOADED_AT_ONCE = 4
"""By so many blocks more are tried in host memory."""

INSTALL = 'which needs `pip install "ltx[low-memory]"`'
"""Said wherever it holds, since another machine may train than the one that plans."""


@attrs.frozen
class Change:
    """One change of a run.

    Attributes:
        said: as one writes it.
        tables: keys of the run file and their values, by table.
        processes: that run it; none: as many as before.
        size: of its clips; none: as they were.
    """

    said: str
    tables: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)
    processes: int | None = None
    size: Bucket | None = None


@attrs.frozen
class Variant:
    """A run with some settings changed.

    Attributes:
        config: its run file.
        processes: that run it.
        size: of its clips; none: as they are.
        changes: that made it.
    """

    config: RunFile
    processes: int
    size: Bucket | None = None
    changes: tuple[Change, ...] = ()

    def changed(self, change: Change) -> Variant:
        """The same with one change more."""
        tables = {name: attrs.evolve(getattr(self.config, name), **keys) for name, keys in change.tables.items()}
        return Variant(
            attrs.evolve(self.config, **tables),
            self.processes if change.processes is None else change.processes,
            self.size if change.size is None else change.size,
            (*self.changes, change),
        )


@attrs.frozen
class Remedy:
    """Changes with which the run fits, and what it then needs."""

    said: tuple[str, ...]
    need: Need


def remedies(estimator: Estimator, config: RunFile, processes: int, memory: int) -> list[Remedy]:
    """Each kind of change that is enough by itself, no further than it must go; where none is, one set of changes that is enough; empty: none is.

    Args:
        estimator: of the run.
        config: its run file.
        processes: that run it.
        memory: bytes of a device.
    """
    start = Variant(config, processes)
    alone = []
    for kind in KINDS:
        found = (_remedy(estimator, start.changed(change), memory) for change in kind(start, estimator))
        alone += [remedy for remedy in [next(filter(None, found), None)] if remedy is not None]
    if alone:
        return alone
    # What more GPUs allow and what one allows exclude each other in part, so that each number of them is a start of its own.
    starts = [start, *(start.changed(change) for change in _gpus(start, estimator))]
    found = (_together(estimator, each, start, memory) for each in starts)
    return [remedy for remedy in [next(filter(None, found), None)] if remedy is not None]


def _together(estimator: Estimator, reached: Variant, bare: Variant, memory: int) -> Remedy | None:
    """Kind after kind, each as far as it helps, until the run fits; then without those that were not needed after all."""
    need = _need(estimator, reached)
    for kind in KINDS:
        if kind is _gpus or need is None:
            continue
        for change in kind(before := reached, estimator):
            variant = before.changed(change)
            tried = _need(estimator, variant)
            if tried is None or tried.device >= need.device:
                continue
            reached, need = variant, tried
            if need.fits(memory):
                return _least(estimator, reached, bare, memory)
    return None


def _least(estimator: Estimator, reached: Variant, bare: Variant, memory: int) -> Remedy:
    """Of changes that fit together those that are needed; what costs most is given up first."""
    kept = reached.changes
    for change in reversed(reached.changes):
        fewer = tuple(each for each in kept if each is not change)
        if _remedy(estimator, _all(bare, fewer), memory) is not None:
            kept = fewer
    remedy = _remedy(estimator, _all(bare, kept), memory)
    assert remedy is not None
    return remedy


def _all(bare: Variant, changes: tuple[Change, ...]) -> Variant:
    for change in changes:
        bare = bare.changed(change)
    return bare


def _remedy(estimator: Estimator, variant: Variant, memory: int) -> Remedy | None:
    need = _need(estimator, variant)
    return Remedy(tuple(change.said for change in variant.changes), need) if need is not None and need.fits(memory) else None


def _need(estimator: Estimator, variant: Variant) -> Need | None:
    """What a variant needs; none: it cannot be had."""
    if any(engine_problems(variant.config, variant.processes)) or any(contradictions(variant.config)):
        return None
    try:
        return estimator.need(variant.config, variant.processes, variant.size)
    except LtxError:  # it contradicts the user's own configuration of DeepSpeed, or leaves clips too short for a condition
        return None


# ---- kinds of change, those that cost least first


def _checkpointing(run: Variant, estimator: Estimator) -> Iterator[Change]:
    if not run.config.optimization.enable_gradient_checkpointing:
        yield Change("optimization.enable_gradient_checkpointing = true", {"optimization": {"enable_gradient_checkpointing": True}})


def _precision(run: Variant, estimator: Estimator) -> Iterator[Change]:
    if run.config.acceleration.mixed_precision_mode == "no":
        yield Change('acceleration.mixed_precision_mode = "bf16"', {"acceleration": {"mixed_precision_mode": "bf16"}})


def _quantization(run: Variant, estimator: Estimator) -> Iterator[Change]:
    now = run.config.acceleration.quantization
    for name, needs in (("int8", ""), ("nf4", f", {INSTALL}")):
        if now is None or BITS[NAMES[name]] < BITS[NAMES[now]]:
            yield Change(f'acceleration.quantization = "{name}"{needs}', {"acceleration": {"quantization": name}})


def _optimizer(run: Variant, estimator: Estimator) -> Iterator[Change]:
    if run.config.optimization.optimizer_type == "adamw":
        yield Change(f'optimization.optimizer_type = "adamw8bit", {INSTALL}', {"optimization": {"optimizer_type": "adamw8bit"}})


def _offload_blocks(run: Variant, estimator: Estimator) -> Iterator[Change]:
    layers, now = estimator.base.num_layers, run.config.acceleration.offload_blocks
    for count in sorted({*range(0, layers, OFFLOADED_AT_ONCE), layers}):
        if count > now:
            yield Change(f"acceleration.offload_blocks = {count}", {"acceleration": {"offload_blocks": count}})


def _stage(run: Variant, estimator: Estimator) -> Iterator[Change]:
    if uses_zero(run.config, run.processes) and run.config.engine.stage in (1, 2):
        yield Change("engine.stage = 3", {"engine": {"stage": 3}})


def _batch_size(run: Variant, estimator: Estimator) -> Iterator[Change]:
    table = run.config.optimization
    if table.batch_size > 1:
        accumulated = table.batch_size * table.gradient_accumulation_steps
        yield Change(
            f"optimization.batch_size = 1, and gradient_accumulation_steps = {accumulated} for the same global batch",
            {"optimization": {"batch_size": 1, "gradient_accumulation_steps": accumulated}},
        )


def _offload(run: Variant, estimator: Estimator) -> Iterator[Change]:
    now = run.config.engine
    if uses_zero(run.config, run.processes):
        if now.offload == "none":
            yield Change('engine.offload = "optimizer"', {"engine": {"offload": "optimizer"}})
        if now.offload != "all":
            stage = {} if now.stage in (None, 3) else {"stage": 3}  # which by itself may take more
            yield Change(f'{"engine.stage = 3, and " * bool(stage)}engine.offload = "all"', {"engine": {"offload": "all", **stage}})


def _gpus(run: Variant, estimator: Estimator) -> Iterator[Change]:
    for count in GPUS:
        if count > run.processes:
            yield Change(f"--gpus {count}", processes=count)


def _rank(run: Variant, estimator: Estimator) -> Iterator[Change]:
    if run.config.model.training_mode == "lora" and run.config.lora.rank > LEAST_RANK:
        yield Change(f"lora.rank = {LEAST_RANK}", {"lora": {"rank": LEAST_RANK}})


def _size(run: Variant, estimator: Estimator) -> Iterator[Change]:
    size, frames = run.size or estimator.shapes.size, estimator.base.info.video_scale[0]
    while size is not None and size.frames > frames:
        size = Bucket(size.width, size.height, (size.frames - 1) // (2 * frames) * frames + 1)
        yield Change(f'preprocessing.resolution_buckets = "{size}"', size=size)


KINDS: tuple[Callable[[Variant, Estimator], Iterator[Change]], ...] = (
    _checkpointing, _precision, _quantization, _optimizer, _offload_blocks, _stage, _batch_size, _offload, _gpus, _rank, _size,
)  # fmt: skip
