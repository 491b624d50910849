"""Settings under which a run that does not fit would: each is tried by the arithmetic that found that it does not."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import attrs

from ltxcore.config.schema import RunFile
from ltxcore.errors import ConfigError
from ltxcore.preprocess.buckets import Bucket
from ltxcore.train.cost.estimate import Estimator, Need
from ltxcore.train.engine import engine_problems, uses_zero
from ltxcore.train.memory import memory_problems

GPUS = (2, 4, 8, 16, 32, 64)
"""Numbers of processes that are tried."""

LEAST_RANK = 8


@attrs.frozen
class Variant:
    """A run with some settings changed.

    Attributes:
        config: its run file.
        processes: that run it.
        size: of its clips; none: as they are.
        said: the changes, as one writes them.
    """

    config: RunFile
    processes: int
    size: Bucket | None = None
    said: tuple[str, ...] = ()

    def changed(self, said: str, *, processes: int | None = None, size: Bucket | None = None, **tables: dict[str, object]) -> Variant:
        """The same with one change more; `tables` holds keys by table."""
        told = {name: attrs.evolve(getattr(self.config, name), **keys) for name, keys in tables.items()}
        return Variant(
            attrs.evolve(self.config, **told),
            self.processes if processes is None else processes,
            self.size if size is None else size,
            (*self.said, said),
        )


@attrs.frozen
class Remedy:
    """Changes with which the run fits, and what it then needs."""

    said: tuple[str, ...]
    need: Need


def remedies(estimator: Estimator, config: RunFile, processes: int, memory: int) -> list[Remedy]:
    """Each change that is enough by itself; where none is, the fewest in a row that are enough together; empty: these are not enough.

    Args:
        estimator: of the run.
        config: its run file.
        processes: that run it.
        memory: bytes of a device.
    """
    start = Variant(config, processes)
    alone = []
    for change in CHANGES:
        tried = ((variant, need) for variant in change(start, estimator) if (need := _need(estimator, variant)) is not None)
        fitting = next(((variant, need) for variant, need in tried if need.fits(memory)), None)
        if fitting is not None:
            alone.append(Remedy(fitting[0].said, fitting[1]))
    return alone or _together(estimator, start, memory)


def _together(estimator: Estimator, start: Variant, memory: int) -> list[Remedy]:
    """Change after change, each as far as it goes, as long as it helps."""
    reached, best = start, _need(estimator, start)
    for change in CHANGES:
        for variant in change(reached, estimator):
            need = _need(estimator, variant)
            if need is None or (best is not None and need.device >= best.device):
                continue
            reached, best = attrs.evolve(variant, said=_last_of_each(variant.said)), need
            if need.fits(memory):
                return [Remedy(reached.said, need)]
    return []


def _last_of_each(said: tuple[str, ...]) -> tuple[str, ...]:
    """Changes, of several of one key the last."""
    return tuple({each.partition(" ")[0]: each for each in said}.values())


def _need(estimator: Estimator, variant: Variant) -> Need | None:
    """What a variant needs; none: it cannot be had."""
    refused = [*engine_problems(variant.config, variant.processes), *memory_problems(variant.config)]
    if refused:
        return None
    try:
        return estimator.need(variant.config, variant.processes, variant.size)
    except ConfigError:  # it contradicts the user's own configuration of DeepSpeed
        return None


# ---- changes, those that cost least first


def _checkpointing(run: Variant, estimator: Estimator) -> Iterator[Variant]:
    if not run.config.optimization.enable_gradient_checkpointing:
        yield run.changed("optimization.enable_gradient_checkpointing = true", optimization={"enable_gradient_checkpointing": True})


def _batch_size(run: Variant, estimator: Estimator) -> Iterator[Variant]:
    table = run.config.optimization
    if table.batch_size > 1:
        accumulated = table.batch_size * table.gradient_accumulation_steps
        yield run.changed(
            f"optimization.batch_size = 1, and gradient_accumulation_steps = {accumulated} for the same global batch",
            optimization={"batch_size": 1, "gradient_accumulation_steps": accumulated},
        )


def _stage(run: Variant, estimator: Estimator) -> Iterator[Variant]:
    if uses_zero(run.config, run.processes) and run.config.engine.stage in (1, 2):
        yield run.changed("engine.stage = 3", engine={"stage": 3})


def _quantization(run: Variant, estimator: Estimator) -> Iterator[Variant]:
    if run.config.acceleration.quantization is None:
        for name in ("int8", "nf4"):
            yield run.changed(f'acceleration.quantization = "{name}"', acceleration={"quantization": name})


def _offload(run: Variant, estimator: Estimator) -> Iterator[Variant]:
    if uses_zero(run.config, run.processes):
        for name in {"none": ("optimizer", "all"), "optimizer": ("all",), "all": ()}[run.config.engine.offload]:
            yield run.changed(f'engine.offload = "{name}"', engine={"offload": name})


def _offload_blocks(run: Variant, estimator: Estimator) -> Iterator[Variant]:
    for count in range(max(4, run.config.acceleration.offload_blocks + 4), estimator.base.num_layers + 1, 4):
        yield run.changed(f"acceleration.offload_blocks = {count}", acceleration={"offload_blocks": count})


def _gpus(run: Variant, estimator: Estimator) -> Iterator[Variant]:
    for count in (count for count in GPUS if count > run.processes):
        yield run.changed(f"--gpus {count}", processes=count)


def _size(run: Variant, estimator: Estimator) -> Iterator[Variant]:
    size, frames = run.size or estimator.shapes.size, estimator.base.info.video_scale[0]
    while size is not None and size.frames > frames:
        size = Bucket(size.width, size.height, (size.frames - 1) // (2 * frames) * frames + 1)
        yield run.changed(f'preprocessing.resolution_buckets = "{size}"', size=size)


def _rank(run: Variant, estimator: Estimator) -> Iterator[Variant]:
    if run.config.model.training_mode == "lora" and run.config.lora.rank > LEAST_RANK:
        yield run.changed(f"lora.rank = {LEAST_RANK}", lora={"rank": LEAST_RANK, "alpha": None})


CHANGES: tuple[Callable[[Variant, Estimator], Iterator[Variant]], ...] = (
    _checkpointing, _quantization, _offload_blocks, _stage, _batch_size, _offload, _gpus, _rank, _size,
)  # fmt: skip
