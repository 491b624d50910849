"""Follow files that other processes append lines to, such as the manifests of processes that encode together."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


class Tails:
    """The files of a folder whose names match a pattern, each with the part that is already known."""

    def __init__(self, folder: Path, pattern: str, own: str = "") -> None:
        """Take everything that the files hold now as known.

        Args:
            folder: the folder, which need not exist yet.
            pattern: a pattern for the names of the files.
            own: the name of a file that is never read, since this process writes it.
        """
        self._folder, self._pattern, self._own = folder, pattern, own
        self._known = dict(self._sizes())

    def new_lines(self) -> Iterator[bytes]:
        """Yield the complete lines that were appended since the last call. A file that has become shorter is new as a whole. A file that
        cannot be read now is read next time.
        """
        for path, size in self._sizes():
            start = self._known.get(path, 0)
            if size == start:
                continue
            with contextlib.suppress(OSError), path.open("rb") as file:
                file.seek(start if start <= size else 0)
                data = file.read()
                end = data.rfind(b"\n") + 1
                self._known[path] = (start if start <= size else 0) + end
                yield from data[:end].splitlines()

    def _sizes(self) -> Iterator[tuple[Path, int]]:
        with contextlib.suppress(OSError):
            for path in sorted(self._folder.glob(self._pattern)):
                if path.name != self._own:
                    with contextlib.suppress(OSError):
                        yield path, path.stat().st_size
