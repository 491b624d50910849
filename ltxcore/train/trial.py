"""A step before training, to find in the first minute whether memory suffices for it."""

from __future__ import annotations

from ltxcore.devices import memory_is_bounded
from ltxcore.errors import OutOfMemory
from ltxcore.logs import warn
from ltxcore.memory import give_back_memory, let_go
from ltxcore.runs.sizes import largest
from ltxcore.train.loop import Loop
from ltxcore.train.out_of_memory import TRAINING, Advice


def try_largest(loop: Loop, advice: Advice, first: int) -> None:
    """Forward and backward of the largest micro-batch that is to come; nothing of it is kept, and no draw of the run is taken.

    Only where memory is bounded, and not where blocks are compiled: compiled code depends on the sizes that it has seen.

    Args:
        loop: of the run.
        advice: what is told where memory runs out.
        first: the step that the run goes on after; 0: it begins, and has no state of its optimiser yet.

    Raises:
        OutOfMemory: memory does not suffice.
    """
    config, samples = advice.planned.config, loop.samples
    if not memory_is_bounded(loop.engine.device) or config.acceleration.compile:
        return
    in_step = loop.accumulation * loop.engine.world_size
    count = (config.optimization.steps - first) * in_step
    if count <= 0:
        return
    try:
        with advice.during("trying a step before training", TRAINING):
            loop.attempt(largest(loop.order, samples.manifest, samples.sources, first * in_step, count))
    except OutOfMemory:
        raise
    except Exception as error:  # noqa: BLE001 - a condition of the user's may not take draws that are all 0, and takes those of the run
        warn(f"no step could be tried before training: {type(error).__name__}: {error}")
        let_go(error)
    finally:
        give_back_memory()
    if not first and (said := advice.of_first_update()):
        warn(said)
