"""The `output_dir` of a run: the paths of its files, and the progress of the run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import attrs

from ltxcore.config.load import HEADER
from ltxcore.config.run_file import RunFile
from ltxcore.errors import CheckpointError, ConfigError, Problem
from ltxcore.files import read_regular, sync, why_not_writable, write_whole
from ltxcore.headers import INDEX
from ltxcore.runs.checkpoint import STATE, found, newest
from ltxcore.runs.records import Status, StatusRecord, read_record
from ltxcore.runs.resume import RUN_FILE, difference, without_place

STATUS = "run.json"

START_OVER = "start over in that folder, which removes its checkpoints, with checkpoints.no_resume = true"

AVERAGED = "_ema"
"""The suffix in the name of a file with averaged weights, before the extension."""

LONGEST_INSIDE = Path("checkpoints") / f"step_{0:06d}" / ("x" * 100)
"""The longest path within an output folder, not counting the names of samples."""


@attrs.frozen
class RunFolder:
    """The paths in an output folder. Making an instance reads and writes nothing on the disk."""

    path: Path

    @property
    def run_file(self) -> Path:
        """The path of the resolved run file, which can be run again unchanged."""
        return self.path / RUN_FILE

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def best(self) -> Path:
        """The folder of the weights that had the lowest validation loss, if the run keeps them."""
        return self.path / "best"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    def weights(self, training_mode: str, averaged: bool = False) -> Path:
        """Return the path of the final weights, or of their moving average."""
        kind = "lora" if training_mode == "lora" else "model"
        return self.path / f"{kind}{AVERAGED if averaged else ''}.safetensors"

    def write_status(self, status: Status, **more: Any) -> None:
        text = json.dumps({"status": status, **more}, indent=1)
        write_whole(self.path / STATUS, text.encode())

    def status(self) -> dict[str, Any] | None:
        """Read the last status that `write_status` wrote; None if no run wrote a status.

        Raises:
            CheckpointError: the file is not the status of a run.
        """
        path = self.path / STATUS
        if not os.path.lexists(path):
            return None
        _, found = read_record(path, StatusRecord, "the status of a run", self.status_remedy())
        return {key: value for key, value in found.items() if value is not None}

    def status_remedy(self) -> str:
        """Return advice on a damaged or missing status of a run."""
        other = "choose another output_dir" if self.has_weights() else START_OVER
        return f"Restore it, or {other}."

    def remove_status(self) -> None:
        (self.path / STATUS).unlink(missing_ok=True)
        sync(self.path)

    def is_begun(self) -> bool:
        """Return whether a run wrote its run file to this folder; a file of that name from elsewhere does not count."""
        try:
            return read_regular(self.run_file, len(HEADER)) == HEADER.encode()
        except OSError:
            return False

    def has_weights(self) -> bool:
        """Return whether the folder holds the result of a run."""
        paths = [self.weights(mode) for mode in ("lora", "full")]
        return any(os.path.lexists(path) for each in paths for path in (each, each.with_name(each.name + INDEX)))


def holds(folder: RunFolder, resolved: str, saved: str) -> bool:
    """Return whether the folder holds a finished or unfinished run of this run file; `saved` is the run file in the folder as it
    would be written now.
    """
    try:
        return folder.status() is not None and without_place(saved) == without_place(resolved)
    except CheckpointError:  # nothing will be written there
        return False


def check_free(
    folder: RunFolder,
    resolved: str | None,
    saved: str,
    where: str,
    start_over: bool,
    *,
    processes: int = 1,
    allow_changes: bool = False,
    broken: Problem | None = None,
) -> bool:
    """Return whether there is an unfinished run of this run file to resume; False if the folder is free.

    Args:
        folder: the run's output folder.
        resolved: the run file with absolute paths; None if some values are unknown, in which case the files are not compared.
        saved: the run file in the folder, as it would be written now (`resume.begun`); "" if there is no such file.
        where: the place of `output_dir` in the run file, for messages.
        start_over: whether to start over if there is an unfinished run.
        processes: the number of processes that would resume the run.
        allow_changes: whether to resume the run even if its run file was different.
        broken: the reason why the run file in the folder cannot be read; None if it can.

    Raises:
        ConfigError: the folder cannot be written, or it holds a finished run, an unfinished run of another run file, or other
            files.
        CheckpointError: the folder holds a run with damaged files.
    """
    check_writable(folder.path, where)
    _check_kinds(folder)
    try:
        status = folder.status()
    except CheckpointError:
        if start_over and not folder.has_weights():
            return False
        raise
    if status is None:
        _check_unbegun(folder, where, start_over)
        return False
    if status["status"] == "finished":
        raise ConfigError(
            f"{folder.path} holds a finished run, which is not overwritten",
            where=where,
            remedy="Choose another output_dir, or move that folder away.",
        )
    if resolved is None or start_over or not (saved or broken or found(folder.checkpoints)):
        return False
    if not allow_changes:
        _check_same(folder, resolved, saved, where, (status.get("processes", 1), processes), broken)
    newest(folder.checkpoints)
    return True


def _check_same(folder: RunFolder, resolved: str, saved: str, where: str, processes: tuple[int, int], broken: Problem | None) -> None:
    """Check that a run is resumed with its own run file."""
    if broken is not None or not saved:
        what = "this file is missing, so it is unknown which run this is" if broken is None else broken.what
        remedy = "Restore this file, or resume with the run file that you gave: --allow-changes"
        raise CheckpointError(what, where=str(folder.run_file) if broken is None else broken.where, remedy=remedy)
    differs = difference(saved, resolved, processes)
    if differs is not None:
        raise ConfigError(f"{folder.path} holds an unfinished run {differs.what}", where=where, remedy=differs.remedy)


def _check_unbegun(folder: RunFolder, where: str, start_over: bool) -> None:
    """Check that a folder without a status is free: it must be empty, or left by a run that was killed before it wrote its
    status. Hidden files, such as those of a file system, do not count.
    """
    if folder.is_begun():
        if folder.has_weights() or (found(folder.checkpoints) and not start_over):
            what = "this file is missing, although there are weights of a run; it is unknown how far that run got"
            raise CheckpointError(what, where=str(folder.path / STATUS), remedy=folder.status_remedy())
    elif folder.path.is_dir() and any(not path.name.startswith(".") for path in folder.path.iterdir()):
        raise ConfigError(
            f"{folder.path} holds files that no run wrote",
            where=where,
            remedy="Choose another output_dir, or empty that folder.",
        )


def _check_kinds(folder: RunFolder) -> None:
    """Check that no file lies where a run needs a folder, and no folder where it needs a file."""
    for path in (folder.checkpoints, folder.best, folder.samples):
        if os.path.lexists(path) and not path.is_dir():
            raise CheckpointError("is a file, but a run needs a folder at this path", where=str(path), remedy="Move it away.")
    path = folder.metrics
    if os.path.lexists(path) and not path.is_file():
        raise CheckpointError("is not a regular file, but a run needs one at this path", where=str(path), remedy="Move it away.")


def check_writable(path: Path, where: str) -> None:
    """Check, without writing anything, that a folder can be made or, if it exists, written to.

    Args:
        path: the absolute path of the folder.
        where: the place that names the folder, for messages.

    Raises:
        ConfigError: the folder cannot be made, or cannot be written to.
    """
    what = why_not_writable(path, LONGEST_INSIDE)
    if what:
        raise ConfigError(what, where=where, remedy="Choose another output_dir.")


def goes_on(config: RunFile) -> str:
    """Tell the step after which the same command resumes the run, or that the run starts over or cannot be resumed."""
    saved = found(RunFolder(config.output_dir).checkpoints)
    if config.checkpoints.no_resume:
        return "The same command starts over, because checkpoints.no_resume is set."
    if not saved:
        often = "" if config.checkpoints.interval else " With checkpoints.interval, a run saves its state at regular intervals."
        return f"Nothing was saved yet, so the same command starts over.{often}"
    if not (saved[-1].path / STATE).exists():
        return f'The run keeps no training state (save_training_state = "off"), so it cannot be resumed; its last weights are in {saved[-1].path}.'
    return f"The same command resumes after step {saved[-1].step}, the last one saved."
