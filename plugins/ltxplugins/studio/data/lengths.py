"""The lengths of clips, which are read from the headers of their files in the background when the user sorts by them."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

from ltxcore.api import LtxError
from ltxcore.api.media import probe
from ltxplugins.studio.workspace import Workspace

WAITED = 1.0
"""The seconds that a page waits for the lengths, so that those of a small dataset are complete at once."""

_Key = tuple[str, int, int]


class Lengths:
    """The lengths of a studio's files, each read once until the file changes."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._lock = threading.Lock()
        self._known: dict[_Key, float] = {}
        self._reading: threading.Thread | None = None

    def of(self, paths: Iterable[Path]) -> dict[Path, float]:
        """Return the lengths of files in seconds, without those that are still being read. The length of a picture, and of a file that
        cannot be read, is 0.

        Args:
            paths: the files.
        """
        keys = {path: _key(path) for path in paths}
        with self._lock:
            unknown = {key: path for path, key in keys.items() if key not in self._known}
            if unknown and (self._reading is None or not self._reading.is_alive()):
                self._reading = threading.Thread(target=self._read, args=(unknown,), daemon=True)
                self._reading.start()
            reading = self._reading
        if unknown and reading is not None:
            reading.join(WAITED)
        return {path: self._known[key] for path, key in keys.items() if key in self._known}

    def _read(self, files: dict[_Key, Path]) -> None:
        for key, path in files.items():
            self._known[key] = self._seconds(path)

    def _seconds(self, path: Path) -> float:
        try:
            return float(probe(self._workspace.path(str(path))).duration or 0.0)
        except LtxError:
            return 0.0


def _key(path: Path) -> _Key:
    try:
        status = path.stat()
    except OSError:
        return str(path), 0, 0
    return str(path), status.st_size, status.st_mtime_ns
