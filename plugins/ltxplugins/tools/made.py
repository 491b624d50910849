"""Record what the files of a folder were made from, so that a second run makes a file again only if its source or the file itself has
changed.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path

from ltxcore.api import DataError
from ltxcore.api.commands import not_written

NAME = "made.jsonl"


class Made:
    """A record, in a folder, of the files that were made there: a line is appended when a file is finished. The record is safe to
    use from several threads.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / NAME
        self._lock = threading.Lock()
        self._of: dict[str, tuple[str, int]] = {}
        if self._path.is_file():
            for line in self._path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    told = json.loads(line)
                    self._of[str(told["name"])] = str(told["of"]), int(told["bytes"])
                except (ValueError, TypeError, KeyError, RecursionError):
                    continue  # an incomplete line of a killed process; the file is made again

    def is_fresh(self, path: Path, of: str) -> bool:
        """Return whether a file was made from the same source and has not changed since."""
        return path.is_file() and self._of.get(self._name(path)) == (of, path.stat().st_size)

    def record(self, path: Path, of: str) -> None:
        """Record that a file has just been made.

        Raises:
            DataError: the record cannot be written.
        """
        told = {"name": self._name(path), "of": of, "bytes": path.stat().st_size}
        try:
            with self._lock, self._path.open("a", encoding="utf-8") as file:
                file.write(f"\n{json.dumps(told)}\n")  # on its own line, even if a killed process left the last line incomplete
                file.flush()
        except OSError as error:
            raise DataError.of([not_written(error, self._path, "everything made so far is kept")]) from error

    def _name(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()
