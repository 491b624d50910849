"""Samples that one command draws, as far as it is with them: a hidden file beside them says so until the last is there, so that the same command goes on where
it was killed, rather than to be refused for what it drew itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from ltxcore.files import read_regular, write_whole


@attrs.define
class Drawing:
    """What is drawn, and what of it is there.

    Attributes:
        record: the hidden file.
        paths: of all samples, without ending.
        there: the files of those that are drawn, by number of the sample.
    """

    record: Path
    paths: Sequence[Path]
    there: dict[int, Path]

    @classmethod
    def of(cls, folder: Path, asked: bytes, count: int, names: Callable[[], Sequence[Path]]) -> Drawing:
        """What the same command left, or a beginning.

        Args:
            folder: where the samples are to be.
            asked: all that was asked for.
            count: of the samples.
            names: gives the paths where there was no such command; it may refuse.
        """
        record = folder / f".drawing-{hashlib.sha256(asked).hexdigest()[:16]}.json"
        try:
            stems, files = json.loads(read_regular(record))
            paths, there = [folder / stem for stem in stems], {int(number): folder / name for number, name in files.items()}
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):  # none, or one that a disk has lost a part of
            paths, there = [], {}
        if len(paths) != count:
            return cls(record, names(), {})
        return cls(record, paths, {number: path for number, path in there.items() if path.is_file()})

    def left(self) -> list[int]:
        """Numbers of the samples that are not there yet."""
        return [number for number in range(len(self.paths)) if number not in self.there]

    def begin(self) -> None:
        """Say what is to be drawn; a single sample is there or not, and needs no record.

        Raises:
            OSError: it cannot be written.
        """
        if len(self.paths) > 1:
            files = {number: path.name for number, path in self.there.items()}
            write_whole(self.record, json.dumps([[path.name for path in self.paths], files]).encode())

    def add(self, number: int, path: Path) -> None:
        """Say that a sample is there."""
        self.there[number] = path
        self.begin()

    def end(self) -> None:
        """All are there."""
        self.record.unlink(missing_ok=True)
