"""The cost of a run file: what `ltx plan` says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from ltxcore.config.load import LoadedRun
from ltxcore.errors import LtxError
from ltxcore.models.base import released
from ltxcore.train.cost.advice import Remedy, remedies
from ltxcore.train.cost.estimate import CONTEXT, SHARE, Estimator, Need
from ltxcore.train.cost.shapes import Shapes, shapes_of
from ltxcore.train.memory import missing_here
from ltxcore.train.plan import Outline, located, outline

GIB = 2**30

UNKNOWN = (
    "Computed from the model's shapes, as PyTorch's own kernels keep tensors. Not known: fragmentation, and what kernels (cuDNN, flash attention, NCCL) work in. "
    f"The margin of {SHARE:.0%} and {CONTEXT // GIB} GiB is for them."
)


@attrs.frozen(eq=False)
class Cost:
    """What a run costs.

    Attributes:
        found: the run without its data.
        shapes: of its largest micro-batch.
        need: bytes.
        memory: of a device.
        remedies: changes with which it fits, where it does not.
        lacking: what the run file asks for and this machine lacks; the one that trains needs it.
    """

    found: Outline
    shapes: Shapes
    need: Need
    memory: int
    remedies: tuple[Remedy, ...]
    lacking: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether a device will do."""
        return self.need.fits(self.memory)


def cost(loaded: LoadedRun, processes: int, memory: int, *, nodes: int = 1, model: str | None = None, bucket: str | None = None) -> Cost:
    """What a run costs, and what would make it fit.

    Args:
        loaded: the run file.
        processes: one a device.
        memory: bytes of a device.
        nodes: machines that the processes are on, evenly.
        model: name of a released model, in place of the file at `model_path`.
        bucket: `WxHxF`, in place of what the run file or the data say.

    Raises:
        LtxError: for all that is wrong with the run file; nothing says how large clips are.
    """
    try:
        base = None if model is None else released(model)
        found = outline(loaded, processes, writes=False, base=base, here=False)
        shapes = shapes_of(found, found.base, bucket)
        estimator = Estimator(found, found.base, shapes, nodes)
        need = estimator.need(loaded.config, processes)
        better = [] if need.fits(memory) else remedies(estimator, loaded.config, processes, memory)
        lacking = tuple(f"{key} {what}. {remedy}" for key, what, remedy in missing_here(loaded.config))
        return Cost(found, shapes, need, memory, tuple(better), lacking)
    except LtxError as error:
        raise located(error, loaded) from error


# ---- for people


def told(found: Cost) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Parts of the answer: a head, and rows of a name and a value."""
    need, states = found.need, found.need.states
    config = found.found.loaded.config
    kind = f"LoRA of rank {config.lora.rank}" if config.model.training_mode == "lora" else "full fine-tuning"
    streams = " and ".join(sorted(found.found.modalities))
    ways = "checkpointed" if config.optimization.enable_gradient_checkpointing else "not checkpointed"
    yield (
        f"{kind} of {streams} on {found.found.info.name}, {need.engine}",
        [
            ("trained", f"{need.parameters.trained:,} of {need.parameters.loaded:,} parameters loaded"),
            ("micro-batch", f"{config.optimization.batch_size} of {found.shapes.described}"),
        ],
    )
    yield (
        f"Each of {need.processes} GPUs" if need.processes > 1 else "The GPU",
        [
            ("weights", gib(states.weights)),
            ("gradients", gib(states.gradients)),
            ("optimiser", gib(states.optimizer)),
            ("communication", gib(states.communication)),
            (f"activations, {ways}", f"{gib(need.activations.peak)}, of which {gib(need.activations.saved)} wait for the backward"),
            ("inputs", gib(need.activations.inputs)),
            (
                "at the most",
                f"{gib(need.device)}, {'in forward and backward' if need.backward >= need.update else 'as the optimiser steps'}",
            ),
            ("with the margin", f"{gib(need.with_margin)} of {gib(found.memory)}: {'fits' if found.fits else 'does not fit'}"),
        ],
    )
    machine = "Host memory" if need.nodes == 1 else f"Host memory of each of {need.nodes} machines"
    yield machine, [("moved there", gib(states.host * -(-need.processes // need.nodes))), ("in all, about", gib(need.host))]
    data = "not encoded yet" if found.shapes.stored_bytes is None else gib(found.shapes.stored_bytes)
    yield (
        "Disk",
        [
            ("checkpoints", f"{gib(need.checkpoint * need.checkpoints)}, {need.checkpoints} of {gib(need.checkpoint)} at once"),
            ("result", gib(need.exported)),
            ("encoded data", data),
        ],
    )


def advice(found: Cost) -> Iterator[str]:
    """What the machine that trains must have; and what to change, where the run does not fit."""
    for each in found.lacking:
        yield f"Not here, and needed where it trains: {each}"
    if found.fits:
        return
    if not found.remedies:
        yield "No setting makes it fit, nor do all of them together: it needs GPUs with more memory."
        return
    together = len(found.remedies[0].said) > 1
    yield f"It would fit with {'all of' if together else 'any one of' if len(found.remedies) > 1 else 'this'}:"
    for remedy in found.remedies:
        for each in remedy.said[:-1]:
            yield f"  {each}"
        yield f"  {remedy.said[-1]}  ({gib(remedy.need.with_margin)})"


def machine(found: Cost) -> dict[str, Any]:
    """For `--json`, in bytes."""
    need = found.need
    return {
        "model": found.found.info.name,
        "engine": need.engine,
        "processes": need.processes,
        "trained_parameters": need.parameters.trained,
        "loaded_parameters": need.parameters.loaded,
        "largest_micro_batch": found.shapes.described,
        "gpu": {**attrs.asdict(need.states, filter=lambda field, _: field.name != "host"), "activations": attrs.asdict(need.activations)},
        "gpu_peak": need.device,
        "gpu_peak_with_margin": need.with_margin,
        "gpu_memory": found.memory,
        "fits": found.fits,
        "host": need.host,
        "disk": {
            "checkpoint": need.checkpoint,
            "checkpoints": need.checkpoints,
            "result": need.exported,
            "data": found.shapes.stored_bytes,
        },
        "lacking": list(found.lacking),
        "would_fit": [{"changes": list(remedy.said), "gpu_peak_with_margin": remedy.need.with_margin} for remedy in found.remedies],
    }


def gib(size: int) -> str:
    """Bytes in GiB."""
    return f"{size / GIB:,.1f} GiB" if size >= GIB / 10 else f"{size / 2**20:,.1f} MiB"
