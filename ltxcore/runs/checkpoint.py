"""Checkpoints: folders that count only if they are complete. The run file sets how many are kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from ltxcore.errors import CheckpointError
from ltxcore.files import digest, is_file, not_written, sync, write_whole
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
"""The bytes that a save leaves free on the disk, for metrics and generated samples."""


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
    """Write the checkpoint `folder/step_NNNNNN`. The manifest, with a hash of every file, is written last: a folder without a
    manifest is not a checkpoint.

    Args:
        folder: the folder of all checkpoints.
        step: the number of optimizer steps done.
        weights: the names of the weight files, each with a function that writes the file to a path and, if the file has parts, writes these
            beside it.
        state: everything that the engine needs to resume exactly, or nothing if no state is kept; each entry is a tensor, or a function
            that returns a tensor when this is to be written.

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
    """Return the folders that have a manifest, oldest first; `look` and `check` find out whether a checkpoint is complete."""
    manifests = folder.glob(f"{STEP}*/{MANIFEST}")
    numbered = [(path.parent, path.parent.name.removeprefix(STEP)) for path in manifests]
    return sorted((Saved(path, int(number)) for path, number in numbered if number.isdecimal()), key=lambda saved: saved.step)


def newest(folder: Path) -> Saved | None:
    """Return the checkpoint to resume from; None if there is no checkpoint yet.

    Raises:
        CheckpointError: the checkpoint's manifest is damaged, a file differs in size from what the manifest says, or a run cannot be
            resumed from this checkpoint.
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
    """Remove all but the newest `number` checkpoints; with 0 or less, keep all. The newest checkpoint is always kept."""
    if number > 0:
        for saved in found(folder)[:-number]:
            _remove(saved.path)


def keep_only(folder: Path, step: int) -> None:
    """Remove all checkpoints except that of one step."""
    for saved in found(folder):
        if saved.step != step:
            _remove(saved.path)


def weights_in(saved: Saved) -> list[Path]:
    """Return the file of a checkpoint's weights, or the index of its parts."""
    names = sorted(look(saved).files.keys() - {STATE, VALUES})
    whole = [name for name in names if name.endswith(INDEX)] or names
    return [saved.path / name for name in whole]


def remove_all(folder: Path) -> None:
    """Remove all checkpoints in such a way that, if the process is killed, every remaining checkpoint is either complete or does
    not count.
    """
    for saved in found(folder):
        _remove(saved.path)
    if folder.exists():
        shutil.rmtree(folder)


def look(saved: Saved) -> ManifestRecord:
    """List the contents of a checkpoint, after checking that every file exists and has the size that it was saved with. Only the
    manifest is read.

    Raises:
        CheckpointError: the manifest is damaged, or a file is missing or has changed.
    """
    manifest, _ = read_record(saved.path / MANIFEST, ManifestRecord, "the manifest of a checkpoint", _remedy(saved))
    if manifest.step != saved.step:
        raise CheckpointError(f"the manifest is that of step {manifest.step}", where=str(saved.path), remedy=_remedy(saved))
    for name, known in manifest.files.items():
        file = saved.path / name
        if not is_file(file):
            raise _damaged(saved, f"{name} is missing")
        if file.stat().st_size != known.bytes:
            raise _damaged(saved, f"{name} was changed since it was saved")
    if not manifest.files.keys() - {STATE, VALUES} or (STATE in manifest.files) != (VALUES in manifest.files):
        raise _damaged(saved, "the manifest does not name the files of a checkpoint")
    return manifest


def check(saved: Saved) -> bool:
    """Return whether a checkpoint holds a training state, after checking that every file matches its hash.

    Raises:
        CheckpointError: a file or the manifest is missing or has changed.
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
    """Return advice on a damaged checkpoint. The advice is never to remove the checkpoint, because its weights may still be useful."""
    before = [other.path.name for other in found(saved.path.parent) if other.step < saved.step]
    then = f"the previous checkpoint, {before[-1]}, is used" if before else "the run starts over, since there is no previous checkpoint"
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
    """Refuse to begin a save for which the disk has no room.

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
