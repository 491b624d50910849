"""Follow files that other processes append lines to, such as the manifests of processes that encode together."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from ltxcore.files import matching


class Tails:
    """Some files of a folder, each with the part that is already known."""

    def __init__(self, folder: Path, pattern: str, own: str = "") -> None:
        """Take everything that the files hold now as known.

        Args:
            folder: the folder, which need not exist yet.
            pattern: a pattern for the names of the files.
            own: the name of a file that is never read, since this process writes it.
        """
        self._folder, self._own = folder, own
        self._known: dict[Path, int] = {}
        with contextlib.suppress(OSError):
            for path in matching(folder, pattern):
                with contextlib.suppress(OSError):
                    self._known[path] = path.stat().st_size

    def new_lines(self, names: Iterable[str]) -> Iterator[bytes]:
        """Yield the complete lines that were appended since the last call. A file that has become shorter is new as a whole. A file that
        cannot be read now is read next time.

        Args:
            names: the names of files that may exist by now, beside those that were there before. The folder, which may hold a million
                samples, is not searched.
        """
        for path in sorted({*self._known, *(self._folder / name for name in names)}):
            if path.name == self._own:
                continue
            known = self._known.get(path, 0)
            with contextlib.suppress(OSError):
                size = path.stat().st_size
                if size != known:
                    yield from self._read(path, known if known <= size else 0)

    def _read(self, path: Path, start: int) -> list[bytes]:
        with path.open("rb") as file:
            file.seek(start)
            data = file.read()
        end = data.rfind(b"\n") + 1
        self._known[path] = start + end
        return data[:end].splitlines()
