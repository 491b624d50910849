"""The default folders of a dataset's encoded samples, chosen so that no two datasets overwrite each other's.

The samples of a media folder such as `clips` are encoded beside it, in `clips.precomputed`. The samples of the first dataset file in a
folder are encoded in `.precomputed` in this folder, as recorded in `.precomputed/datasets.json`. Any further dataset file gets
`.precomputed-NAME` with its own name. A set that 0.1.0 encoded has no such record; it stays with the dataset file that it was encoded from,
which is recognized by samples and captions. If a place cannot be written, a place in the user's cache is used instead.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import attrs

from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.dataset.media_folder import is_media_folder
from ltxcore.dataset.rows import Sample, survey_dataset
from ltxcore.dataset.sources import PLUGIN, endings, is_dataset
from ltxcore.encode.work import TEXT, text_product
from ltxcore.encoded.listing import list_folder
from ltxcore.encoded.sample_names import ENCODED
from ltxcore.encoded.user_cache import user_cache
from ltxcore.errors import DataError, LtxError
from ltxcore.files import UNFINISHED, is_file, is_folder, write_whole
from ltxcore.protocols import Entry

OWNERS = "datasets.json"
"""The file in a root that lists the dataset files which share this root."""

LONGEST = 200
"""The maximum number of bytes of a dataset's name to repeat in the name of its root; a longer name is replaced by a hash."""


@attrs.frozen
class _Places:
    """The possible roots of a dataset file's samples: the shared root of its folder, or a root of its own."""

    shared: Path
    own: Path


def data_kind(path: Path, options: PreprocessingTable | None = None) -> Literal["dataset", "encoded set", "run file"]:
    """Return the kind of data at a path. For a file, its extension decides; for a folder, whether it holds media or encoded samples.

    Args:
        path: the file or folder.
        options: the options of a command that takes a dataset; they may have plugins that read the path.

    Raises:
        DataError: the path does not exist, or holds none of these kinds of data.
    """
    if is_folder(path):
        return "dataset" if is_media_folder(path) or (is_dataset(path, options) and not (path / ENCODED).is_dir()) else "encoded set"
    if not is_file(path):
        remedy = "Name a dataset file, a folder of media, an encoded set or a run file."
        raise DataError("there is no such file or folder", where=str(path), remedy=remedy)
    if path.suffix.lower() == ".toml":
        return "run file"
    if not is_dataset(path, options):
        remedy = f"Name a folder, or a file in {', '.join(endings(options))} or .toml, or {PLUGIN}"
        raise DataError("is not a dataset, an encoded set or a run file", where=str(path), remedy=remedy)
    return "dataset"


def default_root(dataset: Path, options: PreprocessingTable | None = None) -> Path:
    """Return the folder for a dataset's samples if the user names none. Nothing is written.

    Args:
        dataset: a dataset file, or a folder of media.
        options: the options of preprocessing, which help to recognize the dataset file whose captions are in a set of 0.1.0.
    """
    path = Path(os.path.normpath(dataset.absolute()))
    if is_folder(path):
        return _writable(path.parent / f"{path.name or 'root'}.precomputed", f"{path.name}-{_key(path)}")
    places = _places(path)
    return places.shared if _may_share(path, places, options or PreprocessingTable()) else places.own


def claim(root: Path, dataset: Path, options: PreprocessingTable) -> Path:
    """Record that a dataset is about to be written to its default root, and return the root to use.

    If another dataset file has taken the shared root since `root` was found, the dataset is given a root of its own.

    Raises:
        DataError: the root cannot be written.
    """
    path = Path(os.path.normpath(dataset.absolute()))
    if is_folder(path) or root != _places(path).shared:
        return root
    owners = _owners(root)
    if owners is None or not _are_there(path, owners):
        try:
            _record(root, [path.name] if owners is not None else _owners_to_be(root, path, options), replaces=owners is not None)
        except OSError as error:
            remedy = "Name another folder to write to."
            raise DataError(f"cannot be made: {error.strerror}", where=str(root), remedy=remedy) from error
    return default_root(dataset, options)


def _places(path: Path) -> _Places:
    folder, key = path.parent, _key(path.parent)
    name = path.name if len(os.fsencode(path.name)) <= LONGEST else f"{_key(path)}{path.suffix}"
    shared = _writable(folder / ENCODED, f"{folder.name}-{key}")
    return _Places(shared, _writable(folder / f"{ENCODED}-{name}", f"{folder.name}-{key}-{name}"))


def _writable(beside: Path, name: str) -> Path:
    if os.access(beside if beside.is_dir() else beside.parent, os.W_OK):
        return beside
    return user_cache() / "precomputed" / name


def _key(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]


def _may_share(path: Path, places: _Places, options: PreprocessingTable) -> bool:
    """Return whether this dataset file uses, or would use, the shared root."""
    if places.own.is_dir():
        return False
    owners = _owners(places.shared)
    if owners is not None:
        return path.name in owners or not _are_there(path, owners)
    makers = _makers(places.shared, path, options)
    return path.name in makers or not makers


def _owners(root: Path) -> list[str] | None:
    """Read the names of the dataset files that a root belongs to; None if there is no readable record."""
    try:
        told = json.loads((root / OWNERS).read_text(encoding="utf-8"))["datasets"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return [name for name in told if isinstance(name, str)] if isinstance(told, list) else None


def _are_there(path: Path, names: list[str]) -> bool:
    """Return whether any of these dataset files exists next to `path`. A root is free if all its dataset files were renamed or removed."""
    return any(is_file(path.parent / name) for name in names)


def _owners_to_be(root: Path, path: Path, options: PreprocessingTable) -> list[str]:
    return sorted({path.name, *_makers(root, path, options)})


def _record(root: Path, names: list[str], replaces: bool) -> None:
    """Record which dataset files a root belongs to. If several processes make the first record, only one of them succeeds."""
    root.mkdir(parents=True, exist_ok=True)
    record, data = root / OWNERS, (json.dumps({"datasets": names}) + "\n").encode()
    if not replaces:
        beside = root / f".{OWNERS}.{os.getpid()}-{threading.get_ident()}{UNFINISHED}"
        beside.write_bytes(data)
        try:
            record.hardlink_to(beside)  # a hard link appears whole, and only if there is no record yet
        except FileExistsError:
            replaces = _owners(root) is None  # the record is damaged
        except OSError:  # the file system has no hard links
            replaces = not record.exists()
        finally:
            beside.unlink(missing_ok=True)
    if replaces:
        write_whole(record, data)


def _makers(root: Path, path: Path, options: PreprocessingTable) -> list[str]:
    """Find the dataset files in a folder that a set without a record was encoded from.

    A dataset file counts if the samples that it shares with the set are at least half of its rows or half of the set. If there are such
    files for which at least half of the shared samples have the encoded captions, only these count.
    """
    if not root.is_dir():
        return []
    others = sorted(each.name for each in path.parent.iterdir() if is_file(each) and is_dataset(each, options) and each.name != path.name)
    if not others:
        return []
    entries = list_folder(root / TEXT, remember=False).entries
    shares: dict[str, tuple[int, int]] = {}
    for name in (path.name, *others):
        try:
            data, _ = survey_dataset(path.parent / name, options, {TEXT})
        except LtxError:  # it is not a dataset, or its columns need options
            continue
        there = [sample for sample in data.samples if sample.name in entries and entries[sample.name].origin in ("", sample.origin)]
        if there and 2 * len(there) >= min(len(data.samples), len(entries)):
            shares[name] = len(there), sum(_has_caption(sample, entries) for sample in there)
    fitting = [name for name, (there, alike) in shares.items() if 2 * alike >= there]
    return fitting or list(shares)


def _has_caption(sample: Sample, entries: Mapping[str, Entry]) -> bool:
    entry = entries[sample.name]
    return bool(entry.shape) and text_product(sample.captions, entry.shape[0], entry.encoder).fingerprint == entry.fingerprint
