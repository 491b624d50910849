"""The disk space that a run needs, compared with what is free. It is known before the run starts, from the shapes of its model."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ltxcore.encode.sample_sizes import Planned
from ltxcore.encode.standing import Standing
from ltxcore.encode.survey import Survey
from ltxcore.errors import LtxError, Problem
from ltxcore.models.blueprint import Description
from ltxcore.models.groups import settings_of
from ltxcore.models.parameter_names import is_needed
from ltxcore.models.targets import resolve_targets
from ltxcore.runs.checkpoint import MARGIN
from ltxcore.runs.run_plan import Outline
from ltxcore.sample.cuts import samples_in, steps_of

STATE_BYTES = {"full": 12, "minimal": 4, "off": 0}
"""The bytes of training state for each trained number, in addition to its export, by `checkpoints.save_training_state`."""

WEIGHT_BYTES = {"bfloat16": 2, "float32": 4}
"""The bytes of each exported number, by `checkpoints.precision`."""

LATENT_BYTES = 2
"""The smallest number of bytes that a number in encoded latents takes."""


def room_for(found: Outline, problems: list[Problem]) -> Iterator[str]:
    """Yield a note if the disk has no room for everything that a run keeps; if there is not even room for its first
    checkpoint, that is added to `problems`.
    """
    config = found.config
    try:
        backbone = found.base.described(found.streams)
        adapted = _adapted(found, backbone)
    except LtxError:  # targets that match nothing, which is reported elsewhere
        return
    for rank in sorted({rank for rank, _ in adapted}):
        highest = max(min(shape) for own, shape in adapted if own == rank)
        if rank > highest:
            key = "lora.rank" if rank == config.lora.rank else "lora.groups"
            yield (
                f"{found.loaded.where(key)}: is {rank}, but the largest target has only {highest} rows or columns: "
                "a higher rank only takes more memory."
            )
    trained, exported = _numbers(found, backbone, adapted)
    exported *= WEIGHT_BYTES[config.checkpoints.precision]
    checkpoint = exported + trained * STATE_BYTES[config.checkpoints.save_training_state]
    free = free_bytes(found.folder.path)
    if free is None:
        return
    if free < 2 * checkpoint + MARGIN:
        what = f"a checkpoint takes {gib(2 * checkpoint)}, twice while it is written, but only {gib(free)} are free in {found.folder.path}"
        remedy = "Free some space, or choose another output_dir."
        problems.append(Problem(what, found.loaded.where("output_dir"), remedy))
        return
    interval, keep = config.checkpoints.interval, config.checkpoints.keep_last_n
    made = 0 if interval is None else (config.optimization.steps - 1) // interval
    at_once = min(made, keep + 1) if keep > 0 else made  # a new one is complete before an old one is removed
    needed = at_once * checkpoint + exported + MARGIN
    if free < needed:
        yield (
            f"{found.folder.path}: {at_once} checkpoints of {gib(checkpoint)} are kept at once, with the result {gib(needed)}, but only {gib(free)} are free; "
            "a smaller checkpoints.keep_last_n keeps fewer."
        )


def room_to_encode(found: Outline, seen: Survey, standing: Standing) -> Iterator[str]:
    """Yield a note if the disk has no room for the latents that the first run encodes; the space for its captions is not counted."""
    free = free_bytes(seen.encoding.root)
    if not standing.encodes or not seen.planned or free is None:
        return
    widths = found.base.token_widths
    numbers = sum(_latent_numbers(each, seen, widths) for each in seen.planned)
    needed = LATENT_BYTES * numbers * standing.encodes // len(seen.planned)
    if free < needed:
        yield f"{seen.encoding.root}: the latents of {standing.encodes} sample{'' if standing.encodes == 1 else 's'} take {gib(needed)} or more, but only {gib(free)} are free."


def _latent_numbers(planned: Planned, seen: Survey, widths: Mapping[str, int]) -> int:
    """Count the numbers in a sample's latents, without references."""
    found = 0
    if planned.bucket is not None and "latents" in planned.folders and seen.encoding.tools.video is not None:
        found += widths["video"] * math.prod(planned.bucket.cells(seen.encoding.tools.video.scale))
    if planned.duration is not None and "audio_latents" in planned.folders and seen.encoding.tools.audio is not None:
        found += widths["audio"] * steps_of(samples_in(planned.duration), seen.encoding.tools.audio.scale)
    return found


def _adapted(found: Outline, backbone: Description) -> list[tuple[int, tuple[int, ...]]]:
    """Return the ranks of the adapters and the shapes of their matrices, some of which no loss may reach; empty in full mode."""
    lora = found.config.lora
    if found.config.model.training_mode == "full":
        return []
    targets = resolve_targets(backbone, lora.target_modules, modalities=found.modalities)
    settings = settings_of(targets.adapted, lora.settings, lora.groups)
    return [(each.rank, backbone.blueprint.shapes[f"{name}.weight"]) for name, each in settings.items()]


def _numbers(found: Outline, backbone: Description, adapted: Sequence[tuple[int, tuple[int, ...]]]) -> tuple[int, int]:
    """Count the numbers that are trained, at most, and those that are exported."""
    lora = found.config.lora
    if not adapted:
        shapes = backbone.blueprint.shapes
        trained = sum(math.prod(shape) for name, shape in shapes.items() if is_needed(name, found.modalities))
        return trained, sum(math.prod(shape) for shape in shapes.values())
    trained = sum(rank * (rows + columns) + (rows if lora.use_dora else 0) for rank, (rows, columns) in adapted)
    return trained, trained


def free_bytes(folder: Path) -> int | None:
    """Return the free bytes on the disk of a folder, which need not exist yet; None if they cannot be known."""
    try:
        there = next(path for path in [folder, *folder.absolute().parents] if path.exists())
        return shutil.disk_usage(there).free
    except (OSError, ValueError):  # a name that no folder can have
        return None


def gib(size: int) -> str:
    """Write a number of bytes for a reader."""
    return f"{size / 2**30:.2f} GiB"
