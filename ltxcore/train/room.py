"""The disk that a run fills, against what is free: known before it starts from the shapes of its model."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path

from ltxcore.errors import LtxError, Problem
from ltxcore.models.streams import is_needed
from ltxcore.models.targets import resolve_targets
from ltxcore.train.checkpoint import MARGIN
from ltxcore.train.plan import Outline

STATE_BYTES = {"full": 12, "minimal": 4, "off": 0}
"""Of a number that is trained, beside what is exported of it; by `checkpoints.save_training_state`."""

WEIGHT_BYTES = {"bfloat16": 2, "float32": 4}
"""Of a number that is exported; by `checkpoints.precision`."""


def room_for(found: Outline, problems: list[Problem]) -> Iterator[str]:
    """A note where the disk has no room for all that a run keeps; that it has none even for what a run makes sure of first is added to `problems`."""
    config = found.loaded.config
    try:
        trained, exported = _numbers(found)
    except LtxError:  # targets that name nothing, which is told
        return
    exported *= WEIGHT_BYTES[config.checkpoints.precision]
    checkpoint = exported + trained * STATE_BYTES[config.checkpoints.save_training_state]
    free = free_bytes(found.folder.path)
    if free is None:
        return
    if free < 2 * checkpoint + MARGIN:
        what = f"a checkpoint takes {gib(2 * checkpoint)}, twice while it is written, and {gib(free)} are free in {found.folder.path}"
        remedy = "Free some space, or choose another output_dir."
        problems.append(Problem(what, found.loaded.where("output_dir"), remedy))
        return
    interval, keep = config.checkpoints.interval, config.checkpoints.keep_last_n
    made = 0 if interval is None else (config.optimization.steps - 1) // interval
    at_once = min(made, keep + 1) if keep > 0 else made  # a new one is whole before an old one goes
    needed = at_once * checkpoint + exported + MARGIN
    if free < needed:
        yield (
            f"{found.folder.path}: {at_once} checkpoints of {gib(checkpoint)} are kept at once, with the result {gib(needed)}, and {gib(free)} are free; "
            "a smaller checkpoints.keep_last_n keeps fewer."
        )


def _numbers(found: Outline) -> tuple[int, int]:
    """Numbers that are trained, at most, since no loss may reach some of them; and those that are exported."""
    config = found.loaded.config
    sketch = found.base.sketch(found.streams)
    shapes = sketch.blueprint.shapes
    if config.model.training_mode == "full":
        trained = sum(math.prod(shape) for name, shape in shapes.items() if is_needed(name, found.modalities))
        return trained, sum(math.prod(shape) for shape in shapes.values())
    targets = resolve_targets(sketch, config.lora.target_modules, modalities=found.modalities)
    sides = (shapes[f"{name}.weight"] for name in targets.adapted)
    trained = sum(config.lora.rank * (rows + columns) + (rows if config.lora.use_dora else 0) for rows, columns in sides)
    return trained, trained


def free_bytes(folder: Path) -> int | None:
    """What is free on the disk of a folder, which need not exist yet; None: that cannot be known."""
    try:
        there = next(path for path in [folder, *folder.absolute().parents] if path.exists())
        return shutil.disk_usage(there).free
    except (OSError, ValueError):  # a name that no folder can have
        return None


def gib(size: int) -> str:
    """Bytes as a person reads them."""
    return f"{size / 2**30:.2f} GiB"
