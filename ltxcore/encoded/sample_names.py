"""The paths of samples: `<root>/<folder>/<name>.safetensors`, and nowhere else.

If a part of a name, together with its extension, is longer than a file system accepts, the file's name is shortened,
and ends in a hash of the whole. The file's name follows from the sample's; the sample's name is known from the manifest
and from the file's own header.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import attrs

from ltxcore.errors import DataError
from ltxcore.files import DIGITS, LONGEST_NAME, MARK, UNFINISHED, fitted

SUFFIX = ".safetensors"
FOREIGN = ".pt"
"""The suffix of ltx-trainer's samples, which are read but never written."""

ENCODED = ".precomputed"
"""The default folder of a dataset's samples, beside the file that lists its media."""


FITS = 60
"""The number of letters up to which a name is not checked more closely, since it fits whatever the letters are."""

SHORTENED = re.compile(rf"{MARK}[0-9a-f]{{{DIGITS}}}\Z")


@attrs.frozen
class File:
    """A sample's file; `bytes` is its size, `changed` its time of last change in nanoseconds. Both are 0 if the system
    does not tell, as for a broken link.
    """

    path: Path
    bytes: int
    changed: int


def encoded_root(root: Path, folders: Iterable[str]) -> Path:
    """Return the folder that holds the folders of a data root: the root itself, or its `.precomputed` if the folder of
    a dataset was named instead.
    """
    inner = root / ENCODED
    return inner if inner.is_dir() and not any((root / folder).is_dir() for folder in folders) else root


def sample_path(root: Path, folder: str, name: str) -> Path:
    """Return the path that the sample `name` of a folder is written to.

    Raises:
        DataError: the folder or the name would lead outside `root`, or is not a valid file name.
    """
    _refuse_climbing(folder, "folder")
    _refuse_climbing(name, "sample")
    return Path(root) / folder / f"{stored_name(name)}{SUFFIX}"


def stored_name(name: str, ending: int = len(SUFFIX)) -> str:
    """Return a sample's name as its file has it: unchanged, or shortened where it is too long.

    Args:
        name: the sample's name.
        ending: the number of bytes that follow it in the file's name.
    """
    if len(name) <= FITS:
        return name
    *parents, last = name.split("/")
    return "/".join([*map(fitted, parents), fitted(last, ending)])


def looks_shortened(stored: str) -> bool:
    """Return whether a file's name, without its extension, may be that of a sample with a longer name."""
    longest = LONGEST_NAME - len(SUFFIX)
    # A letter of up to four bytes may have been cut, and is dropped whole.
    return len(stored) > FITS and any(SHORTENED.search(part) and len(os.fsencode(part)) > longest - 4 for part in stored.split("/"))


def find_sample(root: Path, folder: str, name: str) -> Path:
    """Return the file of a sample: ours if it is there, else that of ltx-trainer, else the path where ours would be.

    Raises:
        DataError: the folder or the name would lead outside `root`.
    """
    ours = sample_path(root, folder, name)
    if os.path.lexists(ours):
        return ours
    candidates = [ours.with_name(PurePosixPath(each).name + FOREIGN) for each in (name, legacy_text_name(name)) if each]
    return next((path for path in candidates if os.path.lexists(path)), ours)


def legacy_text_name(name: str) -> str:
    """Return the name that an early ltx-trainer gave the text of the sample `latent_X`: `condition_X`; "" for other names."""
    parent, _, last = name.rpartition("/")
    if not last.startswith("latent_"):
        return ""
    text = "condition_" + last.removeprefix("latent_")
    return f"{parent}/{text}" if parent else text


def files_in(folder: Path) -> dict[str, File]:
    """Find the samples whose files lie in a folder, by the file's name without its extension, sorted. If a sample has
    two files, ours counts.

    Raises:
        OSError: the folder, or one in it, cannot be read.
    """
    found: dict[str, File] = {}
    for relative, file in sorted(_walk(folder, "", set()), key=lambda pair: file_order(pair[0])):
        found.setdefault(relative.rpartition(".")[0], file)
    return dict(sorted(found.items()))


def file_order(relative: str) -> tuple[bool, str]:
    """Return a sort key that puts our files before those of ltx-trainer."""
    return not relative.endswith(SUFFIX), relative


def _walk(folder: Path, prefix: str, seen: set[str]) -> Iterator[tuple[str, File]]:
    real = os.path.realpath(folder)
    if real in seen:  # a symbolic link back to a folder above
        return
    seen = seen | {real}
    with os.scandir(folder) as entries:
        for entry in entries:
            if _is_folder(entry):
                yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", seen)
            elif entry.name.endswith((SUFFIX, FOREIGN)) and not _no_sample(entry.name):
                size = changed = 0
                with contextlib.suppress(OSError):  # a link that leads nowhere; whoever opens it says so
                    status = entry.stat()
                    size, changed = status.st_size, status.st_mtime_ns
                yield prefix + entry.name, File(Path(entry.path), size, changed)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _no_sample(name: str) -> bool:
    """Return whether a file is not a sample: it was left half-written by a killed process, or is the "._x" that a Mac adds to a file x."""
    return name.startswith("._") or (name.startswith(".") and UNFINISHED in name)


def _refuse_climbing(name: str, what: str) -> None:
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        raise DataError(f"the {what} name {name!a} contains characters that no file name can contain") from None
    path = Path(name)  # the system's own reading of the name, besides POSIX's: on Windows a backslash separates too
    parts = name.split("/")
    if path.is_absolute() or path.drive or ".." in path.parts or any(part in ("", ".", "..") for part in parts) or "\0" in name:
        raise DataError(
            f'the {what} name "{name}" may lead out of the data root',
            remedy='Use a relative path without ".." or empty parts, with "/" between its parts.',
        )
