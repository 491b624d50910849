"""A step before training, to find in the first minute whether memory suffices for it."""

from __future__ import annotations

from rich.console import Console

from ltxcore.devices import memory_is_bounded
from ltxcore.errors import OutOfMemory
from ltxcore.memory import give_back_memory, let_go
from ltxcore.runs.engine import uses_zero
from ltxcore.runs.sizes import largest
from ltxcore.train.loop import Loop
from ltxcore.train.out_of_memory import TRAINING, Advice
from ltxcore.train.trained_model import TrainedModel


def try_largest(loop: Loop, model: TrainedModel, advice: Advice, first: int, console: Console) -> None:
    """Forward and backward of the largest micro-batch that is to come; nothing of it is kept, and no draw of the run is taken.

    Only where memory is bounded, and one process has the whole model: several divide it, with buffers that outlast a step. Nor where blocks are compiled:
    compiled code depends on the sizes that it has seen.

    Args:
        loop: of the run.
        model: what it trains.
        advice: what is told where memory runs out.
        first: the step that the run goes on after; 0: it begins, and has no state of its optimiser yet.
        console: told where that state may be too much.

    Raises:
        OutOfMemory: memory does not suffice.
    """
    config, samples = advice.planned.outline.loaded.config, loop.samples
    device = loop.engine.device
    if not memory_is_bounded(device) or uses_zero(config, loop.engine.world_size) or config.acceleration.compile:
        return
    count = (config.optimization.steps - first) * loop.accumulation
    if count <= 0:
        return
    try:
        with advice.during("trying a step before training", TRAINING):
            loop.attempt(largest(loop.order, samples.manifest, samples.sources, first * loop.accumulation, count))
    except OutOfMemory:
        raise
    except Exception as error:  # noqa: BLE001 - a condition of the user's may not take draws that are all 0, and takes those of the run
        console.out(f"no step could be tried before training: {type(error).__name__}: {error}", highlight=False)
        let_go(error)
    finally:
        for parameter in model.parameters.values():
            parameter.grad = None
        give_back_memory()
    if not first and (said := advice.of_first_update()):
        console.out(said, highlight=False)
