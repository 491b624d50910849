"""Moving thumbnails, waveforms and facts of media files, made when a card is seen, and kept until the file changes.

The thumbnails are made by the readers that training uses, so that a file which no browser plays is shown too, upright and with its right
colours.
"""

from __future__ import annotations

import hashlib
import io
import threading
from itertools import islice
from pathlib import Path
from typing import Any

import attrs
from PIL import Image

from ltxcore.api import DataError, LtxError, Problem
from ltxcore.api.commands import write_whole
from ltxcore.api.media import open_clip, open_sound, probe, read_clip
from ltxplugins.studio.data.sound_masks import Span, read_spans
from ltxplugins.studio.jobs import read_json, write_json
from ltxplugins.studio.workspace import Workspace

LARGEST = (256, 192)
"""The width and height of the largest thumbnail."""
LOOKED_AT, STEP = 48, 4
"""The number of frames that are decoded for a thumbnail, and the distance from one shown frame to the next."""
BARS = 120
"""The number of bars of a waveform."""
LONGEST = 60.0
"""The maximum number of seconds of sound that a waveform shows."""
AT_ONCE = 2
"""The number of files that are decoded at the same time."""


@attrs.frozen
class Facts:
    """What is known about a file after it was opened.

    Attributes:
        width, height: the size of the pictures as shown, in pixels; 0 for a sound.
        frames: the frames of the pictures.
        rate: the frames per second; 0 for a picture.
        seconds: the length; 0 for a picture.
        sound: the samples per second; 0 without sound.
        bars: the waveform, one number from 0 to 1 for each part of the sound.
        heard: the seconds of sound that the waveform shows.
        problem: why the file cannot be read, and what to do; None if it can be.
    """

    width: int = 0
    height: int = 0
    frames: int = 0
    rate: float = 0.0
    seconds: float = 0.0
    sound: int = 0
    bars: tuple[float, ...] = ()
    heard: float = 0.0
    problem: Problem | None = None


class Pictures:
    """The thumbnails and facts of a workspace's files."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._turns = threading.Semaphore(AT_ONCE)

    def facts(self, path: Path) -> Facts:
        """Return the facts of a file, and make its thumbnail if it has pictures. Only a file that has changed is opened again.

        Raises:
            DataError: there is no such file.
            ConfigError: the studio cannot write to the opened folder.
        """
        kept = self._kept(path)
        known = read_json(kept)
        if not known:
            with self._turns:
                known = read_json(kept) or self._make(path, kept)
        return _facts(known)

    def thumbnail(self, path: Path, *, still: bool = False) -> bytes:
        """Return the thumbnail of a file as WebP.

        Args:
            path: the file.
            still: whether only the first picture is wanted.

        Raises:
            DataError: the file has no pictures, or cannot be read.
        """
        found = self.facts(path)
        if found.problem is not None:
            raise DataError.of([found.problem])
        try:
            data = self._kept(path).with_suffix(".webp").read_bytes()
        except FileNotFoundError:
            raise DataError(f"{path.name} has no pictures") from None
        return _first(data) if still else data

    def spans(self, path: Path) -> tuple[Span, ...]:
        """Return the spans of the mask of some audio, as far as waveforms show it. Only a file that has changed is opened again.

        Raises:
            DataError: the file cannot be read, or has no audio.
            ConfigError: the studio cannot write to the opened folder.
        """
        kept = self._kept(path).with_suffix(".spans.json")
        known = read_json(kept)
        if not known:
            with self._turns:
                known = {"spans": [attrs.astuple(span) for span in read_spans(path, LONGEST)]}
            write_json(kept, known)
        return tuple(Span(*each) for each in known["spans"])

    def _kept(self, path: Path) -> Path:
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}", where=path.name, remedy="Check the path in the dataset.") from error
        name = hashlib.sha256(f"{path}\0{status.st_size}\0{status.st_mtime_ns}".encode("utf-8", "surrogateescape")).hexdigest()[:32]
        return self._workspace.own("thumbnails", name[:2]) / f"{name}.json"

    def _make(self, path: Path, kept: Path) -> dict[str, Any]:
        try:
            facts, pictures = look_at(path)
            if pictures:
                write_whole(kept.with_suffix(".webp"), pictures)
            told = attrs.asdict(facts)
        except LtxError as error:
            told = attrs.asdict(Facts(problem=attrs.evolve(error.problems[0], where="")))
        write_json(kept, told)
        return told


def look_at(path: Path) -> tuple[Facts, bytes]:
    """Open a file, and return its facts, and its thumbnail as WebP; empty if it has no pictures.

    Raises:
        LtxError: the file cannot be read.
    """
    info = probe(path)
    pictures, size = b"", (0, 0)
    if info.frames:
        if info.is_image:
            images = [Image.fromarray(read_clip(path, max_frames=1).frames[0].numpy())]
            size = images[0].size
        else:
            images = []
            with open_clip(path) as (_, frames):
                for frame in islice(frames, 0, LOOKED_AT, STEP):
                    size = size if images else (frame.shape[1], frame.shape[0])
                    images.append(_small(Image.fromarray(frame.numpy())))
        pictures = _webp([_small(image) for image in images], round(1000 * STEP / float(info.rate or 24)))
    heard, bars = _waveform(path) if info.sound_rate else (0.0, ())
    return (
        Facts(
            width=size[0],
            height=size[1],
            frames=info.frames or 0,
            rate=float(info.rate or 0),
            seconds=info.duration or (heard if heard < LONGEST else 0.0),
            sound=info.sound_rate or 0,
            bars=bars,
            heard=heard,
        ),
        pictures,
    )


def _waveform(path: Path) -> tuple[float, tuple[float, ...]]:
    """Return the seconds of sound that were read, and the loudest sample of each of `BARS` parts of them."""
    peaks: list[float] = []
    seconds = 0.0
    with open_sound(path) as pieces:
        for piece in pieces:
            samples = piece.samples.abs().amax(dim=0)
            peaks += [float(part.max()) for part in samples.split(max(1, piece.rate // 100))]
            seconds += samples.shape[0] / piece.rate
            if seconds >= LONGEST:
                break
    if not peaks:
        return 0.0, ()
    count = min(BARS, len(peaks))
    parts = (peaks[index * len(peaks) // count : (index + 1) * len(peaks) // count] for index in range(count))
    return seconds, tuple(round(min(1.0, max(part)), 3) for part in parts)


def _small(image: Image.Image) -> Image.Image:
    image = image.convert("RGB")
    image.thumbnail(LARGEST)
    return image


def _webp(images: list[Image.Image], milliseconds: int) -> bytes:
    file = io.BytesIO()
    images[0].save(
        file, "WEBP", quality=60, method=2, save_all=len(images) > 1, append_images=images[1:], duration=max(20, milliseconds), loop=0
    )
    return file.getvalue()


def _first(data: bytes) -> bytes:
    file = io.BytesIO()
    with Image.open(io.BytesIO(data)) as image:
        image.convert("RGB").save(file, "WEBP", quality=60)
    return file.getvalue()


def _facts(told: dict[str, Any]) -> Facts:
    problem = told["problem"]
    return Facts(**{**told, "bars": tuple(told["bars"]), "problem": None if problem is None else Problem(**problem)})
