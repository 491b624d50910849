"""A run's `output_dir`: what lies where, and how far the run has come."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import attrs

from ltxcore.errors import CheckpointError, ConfigError
from ltxcore.files import write_whole
from ltxcore.train.resume import difference

Status = Literal["running", "stopped", "finished"]

STATUS = "run.json"


@attrs.frozen
class RunFolder:
    """Paths in an output folder; making one touches nothing."""

    path: Path

    @property
    def run_file(self) -> Path:
        """The resolved run file, which runs again as it is."""
        return self.path / "run.toml"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    def weights(self, training_mode: str) -> Path:
        """The result."""
        return self.path / ("lora.safetensors" if training_mode == "lora" else "model.safetensors")

    def write_status(self, status: Status, **more: Any) -> None:
        text = json.dumps({"status": status, **more}, indent=1)
        write_whole(self.path / STATUS, text.encode())

    def status(self) -> dict[str, Any] | None:
        """What `write_status` wrote last; None where no run has been.

        Raises:
            CheckpointError: the file is not that of a run.
        """
        path = self.path / STATUS
        if not path.exists():
            return None
        try:
            found = json.loads(path.read_text())
            if found["status"] in ("running", "stopped", "finished") and isinstance(found["held_out"], list):
                return dict(found)
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
            pass
        raise CheckpointError(
            "this is not the status of a run", where=str(path), remedy="Choose another output_dir, or remove that folder."
        )


def holds(folder: RunFolder, resolved: str, saved: str) -> bool:
    """Whether there is a run of the same run file, finished or not; `saved` is its run file as it would be written now."""
    return folder.status() is not None and saved == resolved


def check_free(
    folder: RunFolder, resolved: str, saved: str, where: str, start_over: bool, *, processes: int = 1, allow_changes: bool = False
) -> bool:
    """Whether there is an unfinished run of the same run file to go on with; False where the folder is free.

    Args:
        folder: the run's output folder.
        resolved: the run file with absolute paths.
        saved: that of the run in the folder, as it would be written now (`resume.begun`); "" where there is none.
        where: of `output_dir` in the run file.
        start_over: begin anew where a run is unfinished.
        processes: how many go on with it.
        allow_changes: go on with it although its run file was another one.

    Raises:
        ConfigError: the folder holds a finished run, an unfinished one of another run file, or other files.
    """
    if folder.path.exists() and not folder.path.is_dir():
        raise ConfigError(f"{folder.path} is a file, not a folder", where=where, remedy="Choose another output_dir.")
    status = folder.status()
    if status is None:
        if folder.path.is_dir() and any(folder.path.iterdir()):
            raise ConfigError(
                f"{folder.path} holds files that are not those of a run",
                where=where,
                remedy="Choose another output_dir, or empty that folder.",
            )
        return False
    if status["status"] == "finished":
        raise ConfigError(
            f"{folder.path} holds a finished run, which is not overwritten",
            where=where,
            remedy=f"Choose another output_dir, or remove it: rm -r {folder.path}",
        )
    if start_over:
        return False
    found = None if allow_changes else difference(saved, resolved, (int(status.get("processes", 1)), processes))
    if found is not None:
        raise ConfigError(f"{folder.path} holds an unfinished run {found.what}", where=where, remedy=found.remedy)
    return True
