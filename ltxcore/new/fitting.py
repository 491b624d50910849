"""The values that depend on the clips: the number of steps, the batch size, and how much of a clip is given."""

from __future__ import annotations

from collections.abc import Sequence

from ltxcore.encode.buckets import Bucket, nearest
from ltxcore.new.clips import Clips
from ltxcore.new.modes import By, Mode
from ltxcore.new.purposes import Purpose

SCALE = (8, 32, 32)
"""The frames, rows and columns that a latent cell covers in all LTX-2 models."""

STEPS_A_SECOND = 25
"""The number of latent audio steps per second."""

MOST_GIVEN = 8
"""The largest number of latent frames that a run file gives at the beginning or the end of a clip."""

MOST_SECONDS_GIVEN = 2


def at_once(mode: Mode) -> int:
    """Return the number of samples that a step on a real model sees, in all its micro-batches and processes."""
    own = {key.name: key for key in mode.keys.get("optimization", ())}
    return mode.processes * (int(own["gradient_accumulation_steps"].value) if "gradient_accumulation_steps" in own else 1)


def steps_for(mode: Mode, purpose: Purpose, clips: Clips | None) -> tuple[str, str]:
    """Return the number of steps on a real model, as TOML, and the reason for it."""
    if clips is None:
        return (
            str(purpose.steps),
            f"sees each of {at_once(mode) * purpose.steps // purpose.passes} clips about {purpose.passes} times; --data counts your own clips",
        )
    wanted = purpose.passes * clips.trained / at_once(mode)
    steps = min(purpose.most, max(purpose.fewest, round(wanted / 100) * 100))
    times = round(steps * at_once(mode) / max(1, clips.trained))
    bound = f"; {steps} at {'least' if steps > wanted else 'most'} for {purpose.about}" if abs(steps - wanted) > 50 else ""
    return str(steps), f"sees {f'each of {clips.trained} clips' if clips.trained > 1 else 'the one clip'} about {times} times{bound}"


def fitted(mode: Mode, table: str, name: str, value: str, clips: Clips | None) -> tuple[str, str]:
    """Return a value for the tiny model and, if it was reduced because there are few clips, the reason."""
    if (table, name) == ("optimization", "batch_size") and clips is not None and clips.trained < int(value):
        return str(max(1, clips.trained)), f"all {clips.trained} clips" if clips.trained > 1 else "the one clip"
    return value, ""


def at_boundaries(by: By, clips: Clips) -> tuple[str, str]:
    """Return how much of each clip is given, as TOML, and an explanation."""
    if by == "region":
        width, height = (min((getattr(size, side) for size in clips.sizes), default=64) for side in ("width", "height"))
        right, bottom = max(32, int(width * 0.6) // 32 * 32), max(32, height // 2 // 32 * 32)
        return (
            f"[0, 0, {bottom}, {right}]",
            f"y1, x1, y2, x2 of the rectangle, in pixels; clips are resized to at least {width} x {height}",
        )
    frames = min((size.frames for size in clips.sizes if size.frames > 1), default=1)
    if by == "steps":
        shown = frames / clips.rate if clips.rate and frames > 1 else clips.seconds
        steps = max(1, min(MOST_SECONDS_GIVEN * STEPS_A_SECOND, int(min(clips.seconds or shown, shown) * STEPS_A_SECOND / 2)))
        return str(steps), f"{steps / STEPS_A_SECOND:g} s of at least {min(clips.seconds or shown, shown):.2g} s"
    cells = max(1, min(MOST_GIVEN, ((frames - 1) // SCALE[0] + 1) // 2))
    given = SCALE[0] * (cells - 1) + 1 if by == "start" else SCALE[0] * cells
    return str(cells), f"latent frames: {given} of at least {frames} frames"


def halved(sizes: Sequence[Bucket]) -> str:
    """Return buckets of half the width and height; "" if the buckets are too small to be halved."""
    if any(min(size.width, size.height) < 256 for size in sizes):
        return ""
    smaller = [nearest(Bucket(size.width // 2, size.height // 2, size.frames), SCALE) for size in sizes]
    return ";".join(map(str, dict.fromkeys(smaller)))


def of_samples(sizes: Sequence[Bucket]) -> Bucket:
    """Return the bucket for generating samples: the largest of the buckets with the most frames."""
    return max(sizes, key=lambda size: (size.frames, size.width * size.height))
