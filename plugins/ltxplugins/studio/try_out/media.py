"""Media for conditions: files that the browser sends, and what is needed to paint a mask or to mark a span."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool

from ltxcore.api import DataError, LtxError, Sound
from ltxcore.api.media import probe, read_clip, read_sound, write_media
from ltxplugins.studio.arriving import arriving
from ltxplugins.studio.studio import PLAYED
from ltxplugins.studio.try_out.conditions import spans_of
from ltxplugins.studio.workspace import Workspace

if TYPE_CHECKING:
    from torch import Tensor

BARS = 800
"""How many bars a waveform has."""
LONGEST = 900.0
"""The maximum number of seconds of a sound that a waveform shows."""
RATE = 16_000
"""Samples per second of waveforms and of masks of sounds."""


def new_upload(workspace: Workspace, name: str) -> Path:
    """Return the path for a file that the browser sends under a name.

    Raises:
        DataError: the file is not a media file.
    """
    ending = Path(name).suffix.lower()
    if ending not in PLAYED:
        raise DataError(f"{name} is not a media file", remedy=f"Drop a file that ends in {', '.join(sorted(PLAYED))}.")
    stem = re.sub(r"[^\w.-]+", "-", Path(name.replace("\\", "/")).stem, flags=re.ASCII).strip(".-")[:60] or "file"
    return workspace.own("uploads") / f"{stem}-{secrets.token_hex(4)}{ending}"


async def receive(path: Path, pieces: AsyncIterator[bytes]) -> None:
    """Write what the browser sends to a file, and look whether it can be used. A file that did not arrive whole is removed.

    Raises:
        DataError: it cannot be written, or is not a media file.
        ClientDisconnect: the browser went away.
    """
    try:
        async with arriving(pieces, path.parent, path.suffix) as beside:
            await run_in_threadpool(probe, beside)
            beside.replace(path)
    except OSError as error:
        remedy = "Free some space on the disk, or open a folder that you may write to."
        raise DataError(f"{path.name} cannot be written: {error.strerror or error}", remedy=remedy) from error
    except LtxError as error:
        raise DataError(f"{path.name} cannot be used: {error.problems[0].what}", remedy="Drop an image, a clip or a sound.") from error


def frame_of(workspace: Workspace, path: Path) -> Path:
    """Return an image with the first frame of a clip; of an image, itself.

    Raises:
        LtxError: the file cannot be read, or has no video.
    """
    if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp", ".gif"):
        return path
    mark = hashlib.sha256(f"{path}\0{path.stat().st_mtime_ns if path.exists() else 0}".encode()).hexdigest()[:24]
    image = workspace.own("frames") / f"{mark}.png"
    return image if image.exists() else write_media(image.with_suffix(""), read_clip(path, max_frames=1))


def waveform(path: Path) -> dict[str, Any]:
    """Return the length of a sound in seconds, and the loudest amplitude within each of up to 800 equal spans.

    Raises:
        LtxError: the file cannot be read, or has no sound.
    """
    sound = read_sound(path, max_duration=LONGEST, rate=RATE, mono=True)
    samples = sound.samples[0].abs()
    bars = min(BARS, samples.shape[0])
    peaks = [float(part.max()) for part in samples.tensor_split(bars)] if bars else []
    return {"seconds": sound.samples.shape[1] / RATE, "peaks": [round(peak, 3) for peak in peaks]}


def mask_of_spans(workspace: Workspace, path: Path, text: str) -> Path:
    """Write the mask of a sound in which some spans are generated and the rest is given, and return its path.

    Args:
        workspace: the opened folder.
        path: the sound, or a clip with sound.
        text: the spans in seconds, such as "0.5-1.2, 2-2.5".

    Raises:
        LtxError: the spans cannot be read or lie after the end of the sound, or the sound cannot be read.
    """
    import torch

    spans = spans_of(text)
    if not spans:
        raise DataError(f'"{text}" is not a list of spans', remedy="Write for example 0.5-1.2, 2-2.5, in seconds.")
    length = read_sound(path, rate=RATE, mono=True).samples.shape[1]
    mask: Tensor = torch.ones(1, length)
    for begin, end in spans:
        mask[:, round(begin * RATE) : round(end * RATE)] = 0
    if bool(mask.all()):
        raise DataError("the spans lie after the end of the sound", remedy=f"The sound lasts {length / RATE:.2f} seconds.")
    return write_media(workspace.own("uploads") / f"mask-{secrets.token_hex(4)}", sound=Sound(mask, RATE))
