"""Copy an encoded set to an address, in shards. The set itself stays as it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import attrs

from ltxcore.encoded.remote import Store
from ltxcore.encoded.sample_names import files_in
from ltxcore.encoded.shards import PIECE, SHARD, groups_of, is_shard, next_shard, write_shard
from ltxcore.encoded.store import MANIFESTS
from ltxcore.errors import DataError
from ltxcore.files import matching


@attrs.frozen
class Part:
    """A file to write.

    Attributes:
        path: its path relative to the address.
        samples: the number of samples in it.
        write: a function that writes its content into an open file.
    """

    path: str
    samples: int
    write: Callable[[BinaryIO], object]


def upload(root: Path, folders: list[str], store: Store, most: int, done: Callable[[str, int], object]) -> None:
    """Copy folders of an encoded set to an address. Samples in files of their own are put into shards there; shards are copied as they are.

    The manifests come last, so that an interrupted copy is not taken for a set; the next call writes all files again.

    Args:
        root: the set.
        folders: the names of the folders to copy.
        store: where to write.
        most: the number of bytes after which the next shard begins.
        done: a function that is called after each file, with the folder and the number of samples in the file.

    Raises:
        DataError: there is a set already, or something cannot be read or written.
    """
    there = [path for path in store.files() if Path(path).match(MANIFESTS)]
    if there:
        remedy = "Name another address, or remove the set there first."
        raise DataError(f"there is an encoded set already, with {there[0]}", where=store.address, remedy=remedy)
    for folder in folders:
        for part in _parts(root / folder, folder, most):
            store.write(part.path, part.write)
            done(folder, part.samples)
    for folder in folders:
        for path in matching(root / folder, MANIFESTS):
            store.write(f"{folder}/{path.name}", partial(_copy, path))


def _parts(root: Path, folder: str, most: int) -> Iterator[Part]:
    own = [(file.relative, file.bytes) for file in files_in(root).values() if file.path.exists()]
    if folder.startswith("."):  # texts of prompts, which are read one by one
        yield from (Part(f"{folder}/{relative}", 1, partial(_copy, root / relative)) for relative, _ in own)
        return
    for path in (path for path in matching(root, "shard-*.safetensors") if SHARD.fullmatch(path.name) and is_shard(path)):
        yield Part(f"{folder}/{path.name}", 0, partial(_copy, path))
    first = next_shard(root)
    for number, group in enumerate(groups_of(own, most), first):
        yield Part(f"{folder}/shard-{number:05}.safetensors", len(group), partial(write_shard, folder=root, group=group))


def _copy(path: Path, out: BinaryIO) -> None:
    with path.open("rb") as file:
        shutil.copyfileobj(file, out, PIECE)
