"""The disk space that a run needs, compared with what is free. The space is computed before the run starts, from the shapes of the run's
model.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ltxcore.adapters import AdapterSettings
from ltxcore.encode.buckets import ReferenceFactors
from ltxcore.encode.candidates import candidate_count
from ltxcore.encode.sample_sizes import Planned
from ltxcore.encode.standing import Standing
from ltxcore.encode.survey import Survey
from ltxcore.errors import LtxError, Problem, many
from ltxcore.memory import gib
from ltxcore.models.blueprint import Description
from ltxcore.models.groups import settings_of
from ltxcore.models.parameter_names import is_needed
from ltxcore.models.targets import resolve_targets
from ltxcore.runs.checkpoint import MARGIN
from ltxcore.runs.run_plan import Outline
from ltxcore.sample.cuts import samples_in, steps_of

STATE_BYTES = {"full": 12, "minimal": 4, "off": 0}
"""The bytes of training state for each trained number, besides the exported number, by `checkpoints.save_training_state`."""

WEIGHT_BYTES = {"bfloat16": 2, "float32": 4}
"""The bytes of each exported number, by `checkpoints.precision`."""

LATENT_BYTES = 4
"""The bytes per number in encoded latents, which are float32, as VAEs make them."""


def room_for(found: Outline, problems: list[Problem]) -> Iterator[str]:
    """Yield a note on every rank that is higher than the matrices can use, and a note if the disk has no room for everything that the run
    keeps. If there is not even room for its first checkpoint, add a problem to `problems`.
    """
    config = found.config
    try:
        backbone = found.base.described(found.streams)
        adapted = _adapted(found, backbone)
    except LtxError:  # targets that match nothing, which is reported elsewhere
        return
    for rank in sorted({settings.rank for settings, _ in adapted}):
        highest = max(min(shape) for settings, shape in adapted if settings.rank == rank)
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
    """Yield a note if the disk has no room for the latents that the first run encodes; the space for captions is not counted."""
    free = free_bytes(seen.encoding.root)
    if not seen.planned or free is None:
        return
    widths = found.base.token_widths
    count = standing.encodes - len(standing.of_captions)
    needed = latent_bytes(seen.planned, seen, widths) * count // len(seen.planned)
    if free < needed:
        yield f"{seen.encoding.root}: the latents of {many(count, 'sample', 'samples')} take {gib(needed)} or more, but only {gib(free)} are free."


def latent_bytes(planned: Iterable[Planned], seen: Survey, widths: Mapping[str, int]) -> int:
    """Return the bytes of the latents and keyframes of samples, as far as their length is known before they are decoded."""
    return LATENT_BYTES * sum(_latent_numbers(each, seen, widths) for each in planned)


def _latent_numbers(planned: Planned, seen: Survey, widths: Mapping[str, int]) -> int:
    tools, found = seen.encoding.tools, 0
    for column in (each for each in tools.columns.all if each.folder in planned.folders and not each.is_data):
        if column.modality == "video" and planned.bucket is not None and tools.video is not None:
            cells = ReferenceFactors.of_column(column).of(planned.bucket).cells(tools.video.scale)
            if column.kind == "latents":
                found += widths["video"] * math.prod(cells)
            elif column.kind == "pictures":
                pictures = candidate_count(seen.encoding.options, planned.bucket.frames)
                found += widths["video"] * pictures * math.prod(planned.bucket.cells(tools.video.scale)[1:])
        elif (column.kind, column.modality) == ("latents", "audio") and planned.duration is not None and tools.audio is not None:
            found += widths["audio"] * steps_of(samples_in(planned.duration), tools.audio.scale)
    return found


def _adapted(found: Outline, backbone: Description) -> list[tuple[AdapterSettings, tuple[int, ...]]]:
    """Return the settings of the adapters and the shapes of their matrices, including matrices that possibly no loss reaches; empty in full
    mode.
    """
    lora = found.config.lora
    if found.config.model.training_mode == "full":
        return []
    targets = resolve_targets(backbone, lora.target_modules, modalities=found.modalities)
    settings = settings_of(targets.adapted, lora.settings, lora.groups)
    return [(each, backbone.blueprint.shapes[f"{name}.weight"]) for name, each in settings.items()]


def _numbers(found: Outline, backbone: Description, adapted: Sequence[tuple[AdapterSettings, tuple[int, ...]]]) -> tuple[int, int]:
    """Return the largest possible count of trained numbers, and the count of exported numbers."""
    lora = found.config.lora
    if not adapted:
        shapes = backbone.blueprint.shapes
        trained = sum(math.prod(shape) for name, shape in shapes.items() if is_needed(name, found.modalities))
        return trained, sum(math.prod(shape) for shape in shapes.values())
    trained = sum(math.prod(shape) for settings, of in adapted for shape in lora.adapter.shapes(*of, settings).values())
    return trained, trained


def free_bytes(folder: Path) -> int | None:
    """Return the free bytes on the disk of a folder, which need not exist yet; None if they cannot be determined."""
    try:
        there = next(path for path in [folder, *folder.absolute().parents] if path.exists())
        return shutil.disk_usage(there).free
    except (OSError, ValueError):  # a name that no folder can have
        return None
