"""Where samples lie: `<root>/<folder>/<name>.safetensors`, and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import attrs

from ltxcore.errors import DataError
from ltxcore.files import UNFINISHED

SUFFIX = ".safetensors"
FOREIGN = ".pt"
"""Suffix of the samples of ltx-trainer, which are read but never written."""

ENCODED = ".precomputed"
"""Where the samples of a dataset lie by default, beside the file that lists its media."""


@attrs.frozen
class File:
    """A sample's file; `bytes` is its size, `changed` its time of last change in nanoseconds."""

    path: Path
    bytes: int
    changed: int


def encoded_root(root: Path, folders: Iterable[str]) -> Path:
    """Where the folders of a data root lie: in it, or in its `.precomputed`, where the folder of a dataset was named and not what was made from it."""
    inner = root / ENCODED
    return inner if inner.is_dir() and not any((root / folder).is_dir() for folder in folders) else root


def sample_path(root: Path, folder: str, name: str) -> Path:
    """Where the sample `name` of a folder is written.

    Raises:
        DataError: the folder or the name would lead outside `root`.
    """
    _refuse_climbing(folder, "folder")
    _refuse_climbing(name, "sample")
    return Path(root) / folder / f"{name}{SUFFIX}"


def find_sample(root: Path, folder: str, name: str) -> Path:
    """The file of a sample that is there: ours, else that of ltx-trainer; where ours would be if neither is there.

    Raises:
        DataError: the folder or the name would lead outside `root`.
    """
    ours = sample_path(root, folder, name)
    if ours.exists():
        return ours
    candidates = [ours.with_name(PurePosixPath(each).name + FOREIGN) for each in (name, legacy_text_name(name)) if each]
    return next((path for path in candidates if path.exists()), ours)


def legacy_text_name(name: str) -> str:
    """What an early ltx-trainer called the text of the sample `latent_X`: `condition_X`; "" for other names."""
    parent, _, last = name.rpartition("/")
    if not last.startswith("latent_"):
        return ""
    text = "condition_" + last.removeprefix("latent_")
    return f"{parent}/{text}" if parent else text


def files_in(folder: Path) -> dict[str, File]:
    """The samples whose files lie in a folder, by name, sorted. Where a sample has two files, ours counts."""
    found: dict[str, File] = {}
    for relative, file in sorted(_walk(folder, "", set()), key=lambda pair: file_order(pair[0])):
        found.setdefault(relative.rpartition(".")[0], file)
    return dict(sorted(found.items()))


def file_order(relative: str) -> tuple[bool, str]:
    """A sort key that puts our files before those of ltx-trainer."""
    return not relative.endswith(SUFFIX), relative


def _walk(folder: Path, prefix: str, seen: set[str]) -> Iterator[tuple[str, File]]:
    real = os.path.realpath(folder)
    if real in seen:  # a symbolic link back to a folder above
        return
    seen = seen | {real}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", seen)
            elif entry.name.endswith((SUFFIX, FOREIGN)) and not _no_sample(entry.name):
                status = entry.stat()
                yield prefix + entry.name, File(Path(entry.path), status.st_size, status.st_mtime_ns)


def _no_sample(name: str) -> bool:
    """What a killed process left half-written; or "._x", a Mac's note on x."""
    return name.startswith("._") or (name.startswith(".") and UNFINISHED in name)


def _refuse_climbing(name: str, what: str) -> None:
    path = Path(name)  # the system's own reading of the name, beside POSIX's: on Windows a backslash separates too
    parts = name.split("/")
    if path.is_absolute() or path.drive or ".." in path.parts or any(part in ("", ".", "..") for part in parts) or "\0" in name:
        raise DataError(
            f'the {what} name "{name}" may lead out of the data root',
            remedy='Use a relative path without ".." or empty parts, with "/" between its parts.',
        )
