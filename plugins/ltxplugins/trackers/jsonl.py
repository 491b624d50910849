"""The tracker "jsonl", which writes `metrics.jsonl` with one JSON object per line. All other views of a run read this
file.
"""

from __future__ import annotations

import contextlib
import json
import os.path
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import attrs

from ltxcore.api import hookimpl
from ltxcore.api.commands import write_whole

FILE = "metrics.jsonl"


@attrs.define
class Jsonl:
    """Write `metrics.jsonl` in the output folder, with one JSON object per line.

    Each line has `step`, and is written as soon as it is logged. Paths are relative to the output folder.
    """

    _folder: Path = attrs.field(default=Path(), init=False, repr=False)
    _file: IO[str] | None = attrs.field(default=None, init=False, repr=False)

    def start(self, output_dir: Path, run: Mapping[str, Any], total_steps: int, first_step: int) -> None:
        """Begin the file, or continue it without the lines of steps that will be repeated and without a line that was
        cut off when the run was killed.
        """
        self._folder = output_dir
        path = output_dir / FILE
        kept = _until(path, first_step) if first_step and path.exists() else []
        write_whole(path, b"".join(kept))
        self._file = path.open("a", encoding="utf-8")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._write({"step": step, **metrics})

    def sample(self, step: int, name: str, path: Path) -> None:
        self._write({"step": step, "sample": name, "path": os.path.relpath(path, self._folder)})

    def finish(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # each line was written when it was logged, and errors were reported then
                self._file.close()
            self._file = None

    def _write(self, line: Mapping[str, Any]) -> None:
        if self._file is None:
            raise RuntimeError("the tracker has not been started")
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


def _until(path: Path, step: int) -> list[bytes]:
    """Return the lines of a file up to a step, except lines that are not JSON."""
    kept = []
    for line in path.read_bytes().splitlines(keepends=True):
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and isinstance(found.get("step"), int) and found["step"] <= step:
            kept.append(line if line.endswith(b"\n") else line + b"\n")
    return kept


@hookimpl
def ltx_trackers() -> dict[str, type]:
    return {"jsonl": Jsonl}
