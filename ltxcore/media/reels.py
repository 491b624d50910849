"""Files whose windows are read one after the other: each frame is decoded once, although windows may overlap."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import attrs
from torch import Tensor

from ltxcore.media.clips import Memory, reading
from ltxcore.media.container import empty
from ltxcore.protocols import Clip


@attrs.define(eq=False)
class _Reel:
    """An open file, and the frames of its last window.

    Attributes:
        rate: the file's frames per second.
        pictures: the frames after the last window.
        start: the frame that the last window begins with.
        frames: the frames of the last window; None before the first.
    """

    stack: ExitStack = attrs.field(factory=ExitStack)
    rate: Fraction = Fraction(1)
    pictures: Iterator[Tensor] = attrs.field(factory=lambda: iter(()))
    start: int = 0
    frames: Tensor | None = None
    memory: Memory = attrs.field(factory=Memory)

    def read(self, start: int, most: int) -> Tensor | None:
        """Return up to `most` frames from a frame that is not before the last window's first; None if there are no frames."""
        before = self.frames
        kept = 0 if before is None else max(0, self.start + before.shape[0] - start)
        if before is not None and kept >= most:
            return before[start - self.start :][:most]
        held = before[-kept:].clone() if before is not None and kept else None
        self.start, count, frames = start, kept, None
        for picture in islice(self.pictures, most - kept):
            if frames is None:
                frames = self.memory.take(most, *picture.shape)
            frames[count] = picture
            count += 1
        if frames is None:
            self.frames = held
            return held
        if held is not None:
            frames[:kept] = held
        self.frames = frames[:count]
        return self.frames


@attrs.define(eq=False)
class Reels:
    """The open files of a thread."""

    _open: dict[Hashable, _Reel] = attrs.field(factory=dict)

    def read(self, path: Path, kind: Hashable, start: int, most: int, **how: Any) -> Clip:
        """Read a window of a file, as `read_clip` does. If the previous window of the file did not begin later, reading continues from
        there.

        Args:
            path: the file.
            kind: what distinguishes readings of the file that give different frames.
            start: the frame to begin with.
            most: the maximum number of frames to read.
            how: the other arguments of `reading`.

        Raises:
            DataError: as in `read_clip`.
        """
        key = path, kind
        if key in self._open and start < self._open[key].start:
            self._close(key)
        reel = self._open.setdefault(key, _Reel(start=start))
        try:
            if reel.frames is None:
                reel.rate, reel.pictures = reel.stack.enter_context(reading(path, start=lambda: reel.start, **how))
            frames = reel.read(start, most)
            if frames is None:
                raise empty(path)
        except BaseException:
            self._close(key)
            raise
        return Clip(frames, float(reel.rate))

    def close(self) -> None:
        """Close all files."""
        for key in [*self._open]:
            self._close(key)

    def _close(self, key: Hashable) -> None:
        reel = self._open.pop(key, None)
        if reel is not None:
            reel.stack.close()
