"""The paths of samples, which are always `<root>/<folder>/<name>.safetensors`.

If a part of a name, with its extension, is longer than a file system accepts, the file's name is shortened and ends in a hash of the full
name. The file's name follows from the sample's name, but not the other way round: if the name was shortened, the sample's name is read from
the manifest or from the file's header.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from array import array
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise
from pathlib import Path, PurePosixPath

import attrs

from ltxcore.encoded.shards import SHARD, in_shards, is_shard, place_in, stays_inside
from ltxcore.errors import DataError
from ltxcore.files import DIGITS, LONGEST_NAME, MARK, UNFINISHED, fitted

SUFFIX = ".safetensors"
FOREIGN = ".pt"
"""The file ending of ltx-trainer's samples, which are read but never written."""

ENCODED = ".precomputed"
"""The name of the default folder of a dataset's samples, beside the file that lists the media."""


INDEX_FOLDER = ".index"
"""The name of the folder in a folder of samples that holds its index."""

FITS = 60
"""The number of letters up to which a name always fits, whatever the letters are, and is not checked further."""

PLAIN = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.-]*(/[0-9A-Za-z_][0-9A-Za-z_.-]*)*")
"""Names of ordinary letters, which lead nowhere else on any system. The other names are looked at more closely, which takes longer."""

SHORTENED = re.compile(rf"{MARK}[0-9a-f]{{{DIGITS}}}\Z")


@attrs.frozen
class File:
    """A sample's file.

    Attributes:
        folder: the folder of all samples.
        relative: the path of the file relative to this folder.
        bytes: the size of the file; 0 if it is unknown, as for a broken link.
        changed: the time of its last change in nanoseconds; 0 if it is unknown.
    """

    folder: Path
    relative: str
    bytes: int
    changed: int

    @property
    def path(self) -> Path:
        """The path of the file."""
        return self.folder / self.relative


def encoded_root(root: Path, folders: Iterable[str]) -> Path:
    """Return the folder that holds the folders of samples: the root itself, or its `.precomputed` if `root` is the folder of a dataset."""
    inner = root / ENCODED
    return inner if inner.is_dir() and not any((root / folder).is_dir() for folder in folders) else root


def sample_path(root: Path, folder: str, name: str) -> Path:
    """Return the path that the sample `name` of a folder is written to.

    Raises:
        DataError: the folder or the name would lead outside `root`, or is not a valid file name.
    """
    inside = _inside(root, folder)
    _refuse_climbing(name, "sample")
    return inside / f"{stored_name(name)}{SUFFIX}"


@functools.lru_cache(maxsize=256)
def _inside(root: Path, folder: str) -> Path:
    _refuse_climbing(folder, "folder")
    return Path(root, folder)  # to make it anew for every sample that is read would take longer than to open the file


def stored_name(name: str, ending: int = len(SUFFIX)) -> str:
    """Return the name of a sample's file without extension: the sample's name, shortened where it is too long.

    Args:
        name: the sample's name.
        ending: the number of bytes of the extension.
    """
    if len(name) <= FITS:
        return name
    *parents, last = name.split("/")
    return "/".join([*map(fitted, parents), fitted(last, ending)])


def looks_shortened(stored: str) -> bool:
    """Return whether a file's name, without its extension, may be the shortened form of a sample's name."""
    longest = LONGEST_NAME - len(SUFFIX)
    # Cutting may fall inside a letter of up to four bytes, which is then dropped whole.
    return len(stored) > FITS and any(SHORTENED.search(part) and len(os.fsencode(part)) > longest - 4 for part in stored.split("/"))


def find_sample(root: Path, folder: str, name: str) -> Path:
    """Return the path of a sample's file: our file if it exists or is in a shard, or else ltx-trainer's, or else the path that our file
    would have.

    Raises:
        DataError: the folder or the name would lead outside `root`.
    """
    ours = sample_path(root, folder, name)
    inside = _inside(root, folder)
    if _is_there(ours, inside):
        return ours
    candidates = [ours.with_name(PurePosixPath(each).name + FOREIGN) for each in (name, legacy_text_name(name)) if each]
    return next((path for path in candidates if _is_there(path, inside)), ours)


def _is_there(path: Path, folder: Path) -> bool:
    """Return whether a folder has a file, in a file of its own or in a shard."""
    if os.path.lexists(path):
        return True
    try:
        return place_in(folder, str(path)[len(str(folder)) + 1 :].replace(os.sep, "/")) is not None
    except OSError:  # the shards cannot be read, which is reported when the folder is listed
        return False


def legacy_text_name(name: str) -> str:
    """Return the name `condition_X` that an early ltx-trainer gave the text of a sample `latent_X`; "" for other names."""
    parent, _, last = name.rpartition("/")
    if not last.startswith("latent_"):
        return ""
    text = "condition_" + last.removeprefix("latent_")
    return f"{parent}/{text}" if parent else text


def files_in(folder: Path, folders: dict[str, int] | None = None) -> dict[str, File]:
    """Return the files of samples in a folder and in its shards, each keyed by its name without extension, and sorted by name. If a sample
    has two files, ours counts.

    Args:
        folder: the folder.
        folders: a dictionary to which the time of the last change of the folder, "", and of each of its sub-folders is added, in
            nanoseconds. Each time is taken before the folder is read.

    Raises:
        OSError: the folder or one of its sub-folders cannot be read.
    """
    found: dict[str, File] = {}
    times = {} if folders is None else folders
    files = [*_walk(folder, "", set(), times)]
    files += [File(folder, relative, place.bytes, place.changed) for relative, place in in_shards(folder).items()]
    for file in sorted(files, key=lambda file: file_order(file.relative)):  # of equal ones, the file that is not in a shard stays first
        found.setdefault(file.relative.rpartition(".")[0], file)
    return dict(sorted(found.items()))


def sizes_in(folder: Path, folders: dict[str, int]) -> tuple[bytearray, array[int], array[int]] | None:
    """Return names and sizes of the files that `files_in` returns, without an object for each; None if a sample has two files.

    Args:
        folder: the folder.
        folders: as in `files_in`.

    Returns:
        All names in UTF-8, one after the other, sorted; where each ends; and the sizes of the files in bytes.

    Raises:
        OSError: as in `files_in`.
    """
    # The size goes into the object that has the name, and both are sorted at once, which takes less memory than a list beside the list.
    found = list[bytes]()
    own = ((file.relative, file.bytes) for file in _walk(folder, "", set(), folders))
    for relative, size in chain(own, ((relative, place.bytes) for relative, place in in_shards(folder).items())):
        found.append(relative.rpartition(".")[0].encode("utf-8", "surrogatepass") + b"\0" + size.to_bytes(8, "big"))
    found.sort()  # no file's name contains a zero byte, so a name comes before those that begin with it
    if any(each[:-9] == after[:-9] for each, after in pairwise(found)):
        return None
    names, ends, sizes = bytearray(), array("q"), array("q")
    for each in found:
        names += each[:-9]
        ends.append(len(names))
        sizes.append(int.from_bytes(each[-8:], "big"))
    return names, ends, sizes


def file_order(relative: str) -> tuple[bool, str]:
    """Return a sort key that puts our files before ltx-trainer's."""
    return not relative.endswith(SUFFIX), relative


def _walk(folder: Path, prefix: str, seen: set[str], times: dict[str, int]) -> Iterator[File]:
    inside = folder / prefix
    real = os.path.realpath(inside)
    if real in seen:  # a symbolic link leads back to a folder above
        return
    seen = seen | {real}
    times[prefix] = inside.stat().st_mtime_ns
    with os.scandir(inside) as entries:
        for entry in entries:
            if _is_folder(entry):
                if prefix or entry.name != INDEX_FOLDER:
                    yield from _walk(folder, f"{prefix}{entry.name}/", seen, times)
            elif not prefix and SHARD.fullmatch(entry.name) and is_shard(Path(entry.path)):
                continue
            elif entry.name.endswith((SUFFIX, FOREIGN)) and not _no_sample(entry.name):
                size = changed = 0
                with contextlib.suppress(OSError):  # the link leads nowhere, which is reported when the file is opened
                    status = entry.stat()
                    size, changed = status.st_size, status.st_mtime_ns
                yield File(folder, prefix + entry.name, size, changed)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # the link leads to itself
        return False


def _no_sample(name: str) -> bool:
    """Return whether a file is not a sample but an unfinished file of a killed process, or the "._x" that a Mac adds to a file x."""
    return name.startswith("._") or (name.startswith(".") and UNFINISHED in name)


def _refuse_climbing(name: str, what: str) -> None:
    if PLAIN.fullmatch(name):
        return
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        raise DataError(f"the {what} name {name!a} contains characters that no file name can contain") from None
    if not stays_inside(name):
        raise DataError(
            f'the {what} name "{name}" could lead out of the data root',
            remedy='Use a relative path without ".." or empty parts, with "/" between its parts.',
        )
