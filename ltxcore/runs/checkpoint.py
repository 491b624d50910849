"""Checkpoints: folders that count only if they are complete, of which as many are kept as the run file asks for."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from ltxcore.errors import CheckpointError
from ltxcore.files import is_file, not_written, sync, write_whole
from ltxcore.headers import INDEX
from ltxcore.runs.records import ManifestRecord, read_record

if TYPE_CHECKING:
    from torch import Tensor

    from ltxcore.safetensors_files import Stored

STEP = "step_"
MANIFEST = "manifest.json"
STATE = "state.safetensors"
VALUES = "state.json"
MARGIN = 64 * 2**20
"""The bytes that stay free on the disk, for metrics and generated samples."""


@attrs.frozen
class Saved:
    """A complete checkpoint."""

    path: Path
    step: int


def save(
    folder: Path,
    step: int,
    weights: Mapping[str, Callable[[Path], object]],
    state: tuple[Mapping[str, Tensor | Stored], Mapping[str, Any]] | None,
) -> Saved:
    """Write `folder/step_NNNNNN`. Its manifest, with a hash of every file, comes last: a folder without one is not a checkpoint.

    Args:
        folder: the folder of all checkpoints.
        step: the number of optimizer steps done.
        weights: the names of the files of weights, each with a function that writes it to a path, with its parts beside it if
            there are any.
        state: everything that the engine needs to resume exactly, if it is kept: each tensor, or a function that
            returns it when its turn comes.

    Raises:
        CheckpointError: the disk is full, or the folder cannot be written.
    """
    from ltxcore.safetensors_files import write_tensors

    path = folder / f"{STEP}{step:06d}"
    try:
        if path.exists():
            _remove(path)
        path.mkdir(parents=True)
        for name, write in weights.items():
            write(path / name)
        if state is not None:
            tensors, values = state
            write_tensors(path / STATE, {key: _stored(value) for key, value in tensors.items()}, {})
            sync(path / STATE)
            write_whole(path / VALUES, json.dumps(values).encode())
        files = {file.name: {"bytes": file.stat().st_size, "sha256": digest(file)} for file in sorted(path.iterdir())}
        write_whole(path / MANIFEST, json.dumps({"step": step, "files": files}, indent=1).encode())
    except OSError as error:
        raise CheckpointError.of([not_written(error, path, "the run resumes from the checkpoint before it")]) from error
    return Saved(path, step)


def found(folder: Path) -> list[Saved]:
    """Return the folders that have a manifest, oldest first; `look` and `check` tell whether one is whole."""
    manifests = folder.glob(f"{STEP}*/{MANIFEST}")
    numbered = [(path.parent, path.parent.name.removeprefix(STEP)) for path in manifests]
    return sorted((Saved(path, int(number)) for path, number in numbered if number.isdecimal()), key=lambda saved: saved.step)


def newest(folder: Path) -> Saved | None:
    """Return the checkpoint to resume from; None if there is none yet.

    Raises:
        CheckpointError: its manifest is damaged, its files do not have the sizes in the manifest, or a run cannot be
            resumed from it.
    """
    whole = found(folder)
    if not whole:
        return None
    if STATE not in look(whole[-1]).files:
        raise CheckpointError(
            'this unfinished run cannot be resumed, because it kept no training state (save_training_state = "off")',
            where=str(whole[-1].path),
            remedy="Set checkpoints.no_resume = true to start over.",
        )
    return whole[-1]


def keep_last(folder: Path, number: int) -> None:
    """Remove all but the newest `number` checkpoints; 0 and below keep all. The newest is always kept."""
    if number > 0:
        for saved in found(folder)[:-number]:
            _remove(saved.path)


def keep_only(folder: Path, step: int) -> None:
    """Remove all checkpoints but that of a step."""
    for saved in found(folder):
        if saved.step != step:
            _remove(saved.path)


def weights_in(saved: Saved) -> list[Path]:
    """Return the file of a checkpoint's weights, or the index of its parts."""
    names = sorted(look(saved).files.keys() - {STATE, VALUES})
    whole = [name for name in names if name.endswith(INDEX)] or names
    return [saved.path / name for name in whole]


def remove_all(folder: Path) -> None:
    """Remove all checkpoints so that, if the process is killed, each one that is left is either complete or does not
    count.
    """
    for saved in found(folder):
        _remove(saved.path)
    if folder.exists():
        shutil.rmtree(folder)


def look(saved: Saved) -> ManifestRecord:
    """List the contents of a checkpoint after checking that every file is there with the size it was saved with; only
    the manifest is read.

    Raises:
        CheckpointError: the manifest is damaged, or a file is missing or was changed.
    """
    manifest, _ = read_record(saved.path / MANIFEST, ManifestRecord, "the manifest of a checkpoint", _remedy(saved))
    if manifest.step != saved.step:
        raise CheckpointError(f"its manifest is that of step {manifest.step}", where=str(saved.path), remedy=_remedy(saved))
    for name, known in manifest.files.items():
        file = saved.path / name
        if not is_file(file):
            raise _damaged(saved, f"{name} is missing")
        if file.stat().st_size != known.bytes:
            raise _damaged(saved, f"{name} was changed since it was saved")
    if not manifest.files.keys() - {STATE, VALUES} or (STATE in manifest.files) != (VALUES in manifest.files):
        raise _damaged(saved, "its manifest does not name the files of a checkpoint")
    return manifest


def check(saved: Saved) -> bool:
    """Return whether a checkpoint holds a training state, after checking that every file matches its hash.

    Raises:
        CheckpointError: a file is missing or was changed, or the manifest was.
    """
    manifest = look(saved)
    for name, known in manifest.files.items():
        try:
            same = digest(saved.path / name) == known.sha256
        except OSError as error:
            raise _damaged(saved, f"{name} cannot be read: {error.strerror or error}") from error
        if not same:
            raise _damaged(saved, f"{name} was changed since it was saved")
    return STATE in manifest.files


def _damaged(saved: Saved, what: str) -> CheckpointError:
    return CheckpointError(what, where=str(saved.path), remedy=_remedy(saved))


def _remedy(saved: Saved) -> str:
    """Say what to do about a damaged checkpoint. Nothing is removed, because its weights may still be useful."""
    before = [other.path.name for other in found(saved.path.parent) if other.step < saved.step]
    then = f"the one before it, {before[-1]}, is used" if before else "the run starts over, since there is none before it"
    return f"Move this checkpoint out of {saved.path.parent}, so that {then}."


def load_state(saved: Saved) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Load the state that `save` was given, from a checkpoint that `check` found intact."""
    from ltxcore.headers import read_file
    from ltxcore.safetensors_files import open_tensors

    with open_tensors(read_file(saved.path / STATE)) as file:
        # Mapped, not read: a process may need only a part of each file.
        tensors = {key: file.get_tensor(key) for key in file.names()}
    return tensors, json.loads((saved.path / VALUES).read_text(encoding="utf-8"))


def check_space(folder: Path, needed: int) -> None:
    """Refuse to begin a save that the disk has no room for.

    Args:
        folder: the folder to save in; it need not exist yet.
        needed: the bytes that the save needs.

    Raises:
        CheckpointError: too little space is free.
    """
    there = next(path for path in [folder, *folder.absolute().parents] if path.exists())
    free = shutil.disk_usage(there).free
    if free < needed + MARGIN:
        raise CheckpointError(
            f"a checkpoint takes {needed / 2**30:.2f} GiB, but only {free / 2**30:.2f} GiB are free",
            where=str(folder),
            remedy="Free some space, or choose another output_dir.",
        )


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stored(value: Tensor | Stored) -> Stored:
    from ltxcore.safetensors_files import Stored

    return value if isinstance(value, Stored) else Stored(value.dtype, tuple(value.shape), lambda: value)


def _remove(path: Path) -> None:
    # The manifest is removed first, from the disk too: what a kill or a power cut leaves half-removed is not a checkpoint.
    if not path.is_dir():
        path.unlink()
        return
    (path / MANIFEST).unlink(missing_ok=True)
    sync(path)
    shutil.rmtree(path)
