"""Find the runs and the run files of the opened folder, whoever started them."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from ltxcore.api import DataError, LtxError
from ltxcore.api.config import parsed_toml, text_of
from ltxcore.api.runs import Record, read_run, writer_of
from ltxplugins.studio.jobs import Job, read_json
from ltxplugins.studio.studio import Studio
from ltxplugins.studio.workspace import Workspace

DEEPEST = 6
"""How many folders deep runs and run files are looked for."""

FRESH = 1.5
"""The number of seconds for which files that were found on the disk are assumed to be still there."""

KEPT = 16
"""How many records of runs are kept in memory."""

RunState = Literal["running", "finished", "stopped", "broken off"]


@attrs.frozen
class Glance:
    """The facts about a run that the list shows, found without reading all its numbers.

    Attributes:
        name: the output folder, relative to the opened folder.
        state: how far the run is; "broken off" if the run's process ended without recording how.
        step: the last step in the run's metrics.
        total: the number of steps of the whole run; 0 if it is not known.
        loss: the last training loss.
        writer: a description of the process that works on the run; "" if there is none.
        changed: when the run last wrote metrics, in seconds since 1970.
    """

    name: str
    state: RunState
    step: int
    total: int
    loss: float | None
    writer: str
    changed: float


@attrs.frozen
class Found:
    """The output folders of runs and the run files, relative to the opened folder."""

    runs: tuple[str, ...]
    files: tuple[str, ...]


class Library:
    """The runs of a workspace. What is read is kept as long as its files do not change."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._found: tuple[float, Found] | None = None
        self._records: dict[Path, tuple[tuple[int, ...], Record]] = {}
        self._totals: dict[Path, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def found(self) -> Found:
        """Return the runs and the run files of the folder."""
        with self._lock:
            if self._found is None or time.monotonic() - self._found[0] > FRESH:
                self._found = time.monotonic(), _walk(self.workspace)
            return self._found[1]

    def forget(self) -> None:
        """Let the next request look at the disk again."""
        with self._lock:
            self._found = None

    def folder(self, name: str) -> Path:
        """Return the output folder of a run.

        Raises:
            DataError: the folder is outside the opened folder, or holds no run.
        """
        folder = self.workspace.path(name)
        if not name or not (folder / "run.json").is_file():
            raise DataError(f"there is no run in {name or 'no folder'}", remedy="Reload the page: the folder may have been moved.")
        return folder

    def record(self, name: str) -> Record:
        """Return the record of a run, and read it again only if it has changed."""
        folder = self.folder(name)
        stamp = tuple(_stamp(folder / each) for each in ("run.json", "run.toml", "metrics.jsonl", "samples"))
        with self._lock:
            kept = self._records.get(folder)
        if kept is None or kept[0] != stamp:
            kept = stamp, read_run(folder)
            with self._lock:
                self._records.pop(folder, None)
                self._records[folder] = kept
                for old in list(self._records)[:-KEPT]:
                    del self._records[old]
        return kept[1]

    def glances(self) -> list[Glance]:
        """Return every run; the one that wrote something last comes first."""
        found = [self.glance(name) for name in self.found().runs]
        return sorted(found, key=lambda each: (each.state != "running", -each.changed, each.name))

    def glance(self, name: str) -> Glance:
        """Return what the list shows of a run."""
        folder = self.workspace.path(name)
        last = _last_line(folder / "metrics.jsonl")
        writer = writer_of(folder)
        status = read_json(folder / "run.json").get("status")
        loss = last.get("loss")
        return Glance(
            name,
            "running" if writer else "finished" if status == "finished" else "stopped" if status == "stopped" else "broken off",
            int(last.get("step", 0)),
            self._total(folder / "run.toml"),
            float(loss) if isinstance(loss, int | float) else None,
            str(writer or ""),
            _stamp(folder / "metrics.jsonl") / 1e9 or _stamp(folder / "run.json") / 1e9,
        )

    def _total(self, path: Path) -> int:
        stamp = _stamp(path)
        kept = self._totals.get(path)
        if kept is None or kept[0] != stamp:
            try:
                steps = _run_file(path).get("optimization", {}).get("steps", 0)
            except (LtxError, OSError, AttributeError):
                steps = 0
            kept = self._totals[path] = stamp, steps if isinstance(steps, int) else 0
        return kept[1]


def output_of(studio: Studio, job: Job) -> Path | None:
    """Return the output folder of a job's run, if it is inside the opened folder."""
    try:
        return studio.workspace.path(str(job.about["output_dir"])) if job.about.get("output_dir") else None
    except LtxError:
        return None


def job_of(studio: Studio, folder: Path) -> Job | None:
    """Return the last job that wrote to an output folder."""
    return next((job for job in reversed(studio.jobs.all()) if job.kind == "run" and output_of(studio, job) == folder), None)


def output_in(workspace: Workspace, run_file: Path) -> str:
    """Return the output folder that a run file names, in the way that a run started by the studio reads it.

    Raises:
        ConfigError: the run file cannot be read.
    """
    run = _run_file(run_file)
    named = run.get("output_dir", "outputs")
    path = (workspace.root / Path(named if isinstance(named, str) else "outputs").expanduser()).resolve()
    if run_file.name == "run.toml" and (run_file.parent / "run.json").is_file():
        path = run_file.parent  # a run that was moved goes on where it lies
    return workspace.name(path) if path.is_relative_to(workspace.root) else str(path)


def _run_file(path: Path) -> Mapping[str, Any]:
    return parsed_toml(text_of(path), path)


def _walk(workspace: Workspace) -> Found:
    runs, files = [], []
    for folder, names in _folders(workspace.root, 0):
        if "run.json" in names and "run.toml" in names:
            runs.append(workspace.name(folder))
            continue
        files += [workspace.name(folder / name) for name in names if name.endswith(".toml") and _is_run_file(folder / name)]
    return Found(tuple(runs), tuple(sorted(files)))


def _folders(folder: Path, depth: int) -> Iterator[tuple[Path, set[str]]]:
    """Yield folders with the names of their files. Hidden folders and links are not followed, nor the folders in a run's output."""
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except OSError:
        return
    names = {entry.name for entry in found if entry.is_file()}
    yield folder, names
    if depth < DEEPEST and not {"run.json", "run.toml"} <= names:
        for entry in sorted(found, key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                yield from _folders(folder / entry.name, depth + 1)


def _is_run_file(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            text = file.read(2**20)
    except OSError:
        return False
    return b"training_strategy" in text or b"[optimization]" in text


def _last_line(path: Path) -> dict[str, Any]:
    """Return the last whole line of metrics that has a training loss, or else the last whole line; empty if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 65_536))
            lines = file.read().split(b"\n")
    except OSError:
        return {}
    last: dict[str, Any] = {}
    for line in reversed(lines):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict) and isinstance(found.get("step"), int):
            if "loss" in found:
                return found
            last = last or found
    return last


def _stamp(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
