"""Checkpoints: folders that are whole or do not count, and as many of them as were asked for."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
from torch import Tensor

from ltxcore.errors import CheckpointError
from ltxcore.files import sync, write_whole
from ltxcore.models.files import Stored, open_tensors, write_tensors

MANIFEST = "manifest.json"
STATE = "state.safetensors"
VALUES = "state.json"
MARGIN = 64 * 2**20
"""Bytes that stay free on the disk, for metrics and samples."""


@attrs.frozen
class Saved:
    """A whole checkpoint."""

    path: Path
    step: int


def save(
    folder: Path,
    step: int,
    weights: tuple[str, Callable[[Path], object]],
    state: tuple[Mapping[str, Tensor | Stored], Mapping[str, Any]] | None,
) -> Saved:
    """Write `folder/step_NNNNNN`. Its manifest, with a hash of every file, comes last: a folder without one is no checkpoint.

    Args:
        folder: of all checkpoints.
        step: optimiser steps done.
        weights: name of the weights' file, and what writes it to a path; or parts of it beside it.
        state: what the engine needs to go on exactly, if it is kept: each tensor, or what gives it when its turn comes.

    Raises:
        CheckpointError: the disk is full, or the folder cannot be written.
    """
    path = folder / f"step_{step:06d}"
    if path.exists():
        _remove(path)
    path.mkdir(parents=True)
    name, write = weights
    try:
        write(path / name)
        if state is not None:
            tensors, values = state
            write_tensors(path / STATE, {key: _stored(value) for key, value in tensors.items()}, {})
            sync(path / STATE)
            write_whole(path / VALUES, json.dumps(values).encode())
        files = {file.name: {"bytes": file.stat().st_size, "sha256": digest(file)} for file in sorted(path.iterdir())}
        write_whole(path / MANIFEST, json.dumps({"step": step, "files": files}, indent=1).encode())
    except OSError as error:
        raise CheckpointError(
            f"this checkpoint cannot be written: {error.strerror or error}", where=str(path), remedy="Free some space, then resume."
        ) from error
    return Saved(path, step)


def found(folder: Path) -> list[Saved]:
    """Whole checkpoints, oldest first; without those that are removed while this looks."""
    whole = []
    for manifest in folder.glob(f"step_*/{MANIFEST}"):
        with contextlib.suppress(FileNotFoundError):
            whole.append(Saved(manifest.parent, int(json.loads(manifest.read_text())["step"])))
    return sorted(whole, key=lambda saved: saved.step)


def keep_last(folder: Path, number: int) -> None:
    """Remove all but the newest `number` checkpoints; 0 and below keep all. The newest always stays."""
    if number > 0:
        for saved in found(folder)[:-number]:
            _remove(saved.path)


def check(saved: Saved) -> bool:
    """Whether `save` was given a state, once every file matches its hash.

    Raises:
        CheckpointError: a file is missing or was changed.
    """
    manifest = json.loads((saved.path / MANIFEST).read_text())
    for name, known in manifest["files"].items():
        file = saved.path / name
        if not file.is_file() or digest(file) != known["sha256"]:
            what = "was changed since it was saved" if file.is_file() else "is missing"
            raise CheckpointError(
                f"{name} {what}", where=str(saved.path), remedy="Remove this checkpoint, so that the one before it is used."
            )
    return STATE in manifest["files"]


def load_state(saved: Saved) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save` was given as state, in a checkpoint that `check` found whole."""
    with open_tensors(saved.path / STATE) as file:
        # Mapped, not read: a process may need a part of each only.
        tensors = {key: file.get_tensor(key) for key in file.names()}
    return tensors, json.loads((saved.path / VALUES).read_text())


def check_space(folder: Path, needed: int) -> None:
    """Refuse to begin a save that the disk has no room for.

    Args:
        folder: where it goes; it need not exist yet.
        needed: bytes.

    Raises:
        CheckpointError: too little is free.
    """
    there = next(path for path in [folder, *folder.absolute().parents] if path.exists())
    free = shutil.disk_usage(there).free
    if free < needed + MARGIN:
        raise CheckpointError(
            f"a checkpoint takes {needed / 2**30:.2f} GiB, and {free / 2**30:.2f} GiB are free",
            where=str(folder),
            remedy="Free some space, or choose another output_dir.",
        )


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stored(value: Tensor | Stored) -> Stored:
    return value if isinstance(value, Stored) else Stored(value.dtype, tuple(value.shape), lambda: value)


def _remove(path: Path) -> None:
    # The manifest goes first: what is left half-removed by a kill is no checkpoint.
    (path / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(path)
