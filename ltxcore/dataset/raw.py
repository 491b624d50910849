"""Facts about raw files: what they hold, and a hash of their content. The facts are stored, so that unchanged files are not read again.

A sample is encoded again when the content of its file has changed, not when only the date has, so a copied or freshly checked out dataset
keeps its encoded samples. A file whose date and size are unchanged is taken to be unchanged, and is not read. A file that had changed less
than two seconds before it was looked at is read again next time, since it might have changed once more under the same date.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import attrs

from ltxcore.dataset.uneven import resampled
from ltxcore.errors import DataError
from ltxcore.media.aspect import squared
from ltxcore.media.boxes import shows_as_stored
from ltxcore.media.probe import MediaInfo, probe, read_sound
from ltxcore.media.times import Uneven
from ltxcore.media.upright import first_look
from ltxcore.tails import Tails

FILE = "raw_files"
UNCERTAIN = 2_000_000_000
"""The nanoseconds within which two versions of a file can have the same date, on the coarsest file systems in use."""

CHUNK = 1 << 20

READERS = 2
"""The version of the readers, raised whenever they begin to find out more or different facts about a file. Facts stored by other versions
are found out again, except for the hash.
"""


@attrs.frozen
class Facts:
    """The known facts about a version of a file; the version is identified by the file's size and the time of its last change.

    Attributes:
        bytes, changed: the file's size, and the time of its last change in nanoseconds.
        seen: the time when the file was last looked at, in nanoseconds.
        info: the file's description, with height and width as shown; None if the file was not opened.
        content: the hash of the file's bytes; "" if they were not read.
        seconds: the duration of the decoded audio, which may differ slightly from what the container states; None if no audio was
            decoded.
    """

    bytes: int
    changed: int
    seen: int
    info: MediaInfo | None = None
    content: str = ""
    seconds: float | None = None


class RawFiles:
    """The facts about raw files, stored in `<root>/raw_files*.jsonl`, one file per process. Several threads may use one instance."""

    def __init__(
        self, root: Path, folder: Path, rank: int = 0, *, writes: bool = True, recalls: bool = True, resamples: bool = False
    ) -> None:
        """Store facts in `root` as process number `rank`, with paths relative to the dataset's `folder`.

        Nothing is written while the root does not exist, or if `writes` is false. If `recalls` is false, previously stored facts are
        ignored. If `resamples` is true, clips with a variable frame rate are resampled to a constant one.
        """
        self._folder, self._writes, self.resamples = folder, writes, resamples
        self._store = root / f"{FILE}-{rank}.jsonl"
        self._unwritten: list[str] = []
        self._lock = threading.Lock()
        self._facts: dict[str, Facts] = {}
        self._others = Tails(root, f"{FILE}*.jsonl")
        for path in sorted(root.glob(f"{FILE}*.jsonl")) if recalls else ():
            self._facts.update(_remembered(path))

    def catch_up(self) -> None:
        """Learn the facts that other processes have stored since."""
        with self._lock:
            for line in self._others.new_lines(path.name for path in self._store.parent.glob(f"{FILE}*.jsonl")):
                self._facts.update(_told(line.decode("utf-8", "replace")))

    def take_number(self, rank: int) -> None:
        """Store facts as process number `rank` from now on. What this process has stored so far stays where it is."""
        with self._lock:
            self._store = self._store.with_name(f"{FILE}-{rank}.jsonl")

    def info(self, path: Path) -> MediaInfo:
        """Return a file's description as `probe` does, but with height and width as shown, and with a duration for every audio file.

        If clips are resampled, the description of an uneven clip states its frames and rate after resampling.

        Raises:
            DataError: the file or its first frame cannot be read.
        """
        known = self._known(path)
        if known.info is None:
            info = _upright(probe(path), path)
            if info.frames is None and info.duration is None:
                info = attrs.evolve(info, duration=self.seconds(path))
            known = attrs.evolve(known, info=info)
            self._remember(path, known)
        assert known.info is not None
        info = attrs.evolve(known.info, path=path)
        return resampled(info, info.uneven) if self.resamples and info.uneven is not None else info

    def content(self, path: Path) -> str:
        """Return a hash of a file's bytes.
        Raises:
            DataError: the file cannot be read.
        """
        known = self._known(path)
        if not known.content:
            known = attrs.evolve(known, content=_hash(path))
            self._remember(path, known)
        return known.content

    def knows_content(self, path: Path) -> bool:
        """Return whether `content` knows a file's hash without reading it, because the file has not changed since it was last read."""
        try:
            return bool(self._known(path).content)
        except DataError:
            return False

    def remembered(self, path: Path) -> str:
        """Return the hash of a file's bytes from when it was last read, even if the file is gone; "" if it was never read."""
        with self._lock:
            known = self._facts.get(self._key(path))
        return "" if known is None else known.content

    def seconds(self, path: Path) -> float:
        """Return the duration of a file's audio in seconds, measured by decoding it.

        Raises:
            DataError: the file cannot be read, or has no audio.
        """
        known = self._known(path)
        if known.seconds is None:
            known = attrs.evolve(known, seconds=read_sound(path).duration)
            self._remember(path, known)
        assert known.seconds is not None
        return known.seconds

    def _known(self, path: Path) -> Facts:
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}", where=str(path), remedy="Check the path in the dataset.") from error
        with self._lock:
            known = self._facts.get(self._key(path))
        if (
            known is not None
            and (known.bytes, known.changed) == (status.st_size, status.st_mtime_ns)
            and known.seen - known.changed > UNCERTAIN
        ):
            return known
        return Facts(status.st_size, status.st_mtime_ns, time.time_ns())

    def _remember(self, path: Path, facts: Facts) -> None:
        key = self._key(path)
        line = json.dumps({"path": key, **_to_json(facts)}) + "\n"
        with self._lock:
            self._facts[key] = facts
            self._unwritten.append(line)
            if self._writes and self._store.parent.is_dir():
                # Without stored facts, files only have to be read again, so a root that cannot be written is not an error here.
                with contextlib.suppress(OSError), self._store.open("a", encoding="utf-8") as file:
                    file.write("".join(self._unwritten))
                self._unwritten.clear()

    def _key(self, path: Path) -> str:
        return os.path.relpath(path, self._folder)


def _upright(info: MediaInfo, path: Path) -> MediaInfo:
    if info.frames is None or info.height is None or info.width is None:
        return info
    if info.frames > 1 and shows_as_stored(path):
        height, width = squared(info.height, info.width, info.aspect)
        return attrs.evolve(info, height=height, width=width)
    # Phones store clips on their side and note the rotation in the first frame; buckets are chosen by the size as shown.
    look = first_look(path)
    assert look is not None
    corrections = {*info.picture_corrections, *(("turned",) if look.is_turned_anew else ())}
    return attrs.evolve(info, height=look.size[0], width=look.size[1], picture_corrections=tuple(sorted(corrections)))


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(CHUNK):
                digest.update(block)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from error
    return digest.hexdigest()


def _remembered(path: Path) -> Iterator[tuple[str, Facts]]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return  # it may belong to another user; its files are looked at again
    for line in lines:
        yield from _told(line)


def _told(line: str) -> Iterator[tuple[str, Facts]]:
    """Yield the facts of a line with the path that they are about; nothing for an incomplete line, which a killed process left, so that the
    file is looked at again.
    """
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError):
        told = json.loads(line)
        yield told["path"], _from_json(told)


def _to_json(facts: Facts) -> dict[str, Any]:
    told = {**attrs.asdict(facts), "readers": READERS}
    if facts.info is not None:
        info, uneven = told["info"], facts.info.uneven
        info |= {"path": "", "rate": _text(facts.info.rate), "aspect": str(facts.info.aspect)}
        if uneven is not None:
            info["uneven"] |= {"resampled_rate": str(uneven.resampled_rate)}
    return told


def _text(rate: Fraction | None) -> str | None:
    return None if rate is None else str(rate)


def _from_json(told: dict[str, Any]) -> Facts:
    if told.get("readers") != READERS:
        return Facts(told["bytes"], told["changed"], told["seen"], content=told["content"])
    info = told["info"]
    if info is not None:
        rate, uneven = info["rate"], info["uneven"]
        known = {
            "path": Path(),
            "rate": None if rate is None else Fraction(rate),
            "aspect": Fraction(info["aspect"]),
            "picture_corrections": tuple(info["picture_corrections"]),
            "sound_corrections": tuple(info["sound_corrections"]),
            "uneven": None if uneven is None else Uneven(**{**uneven, "resampled_rate": Fraction(uneven["resampled_rate"])}),
        }
        info = MediaInfo(**{**info, **known})
    return Facts(told["bytes"], told["changed"], told["seen"], info, told["content"], told["seconds"])
