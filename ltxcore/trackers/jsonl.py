"""`metrics.jsonl`: one JSON object a line, which every other view of a run reads."""

from __future__ import annotations

import json
import os.path
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import attrs

from ltxcore.api import hookimpl

FILE = "metrics.jsonl"


@attrs.define
class Jsonl:
    """Writes `metrics.jsonl` in the output folder. Each line has `step`, and is there as soon as it is logged; paths are relative to that folder."""

    _folder: Path = attrs.field(default=Path(), init=False, repr=False)
    _file: IO[str] | None = attrs.field(default=None, init=False, repr=False)

    def start(self, output_dir: Path, run: Mapping[str, Any], total_steps: int, first_step: int) -> None:
        """Begin the file, or go on with it: steps that will be done again, and a line cut off by a kill, are dropped."""
        self._folder = output_dir
        path = output_dir / FILE
        kept = _until(path, first_step) if first_step and path.exists() else []
        self._file = path.open("w")
        self._file.writelines(kept)
        self._file.flush()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._write({"step": step, **metrics})

    def sample(self, step: int, name: str, path: Path) -> None:
        self._write({"step": step, "sample": name, "path": os.path.relpath(path, self._folder)})

    def finish(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, line: Mapping[str, Any]) -> None:
        if self._file is None:
            raise RuntimeError("the tracker has not been started")
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


def _until(path: Path, step: int) -> list[str]:
    kept = []
    for line in path.read_text().splitlines(keepends=True):
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except json.JSONDecodeError:
            break
    return kept


@hookimpl
def ltx_trackers() -> dict[str, type]:
    return {"jsonl": Jsonl}
