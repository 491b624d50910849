"""What lies in the folders already, what of it is up to date, and what is written now."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Mapping
from pathlib import Path

import attrs

from ltxcore.encode.products import Made, Product
from ltxcore.encode.summary import Counts
from ltxcore.encoded.manifest import append_entry, remove_sample, source_listing
from ltxcore.encoded.sample_names import find_sample, sample_path
from ltxcore.encoded.store import damage, write_sample
from ltxcore.files import remove_unfinished
from ltxcore.protocols import Entry
from ltxcore.writer import Writer


class Ledger:
    """The folders of a root as this process sees them. Safe to use from several threads."""

    def __init__(
        self, root: Path, folders: Collection[str], rank: int, anew: bool = False, verify: bool = False, writer: Writer | None = None
    ) -> None:
        """`anew`: nothing that is there counts as up to date. `verify`: files are, if their bytes are those that were written, for which they are read.
        `writer`: this process as the one that does this share, which is looked at before each write."""
        self._root, self._rank, self._anew, self._verify, self._writer = root, rank, anew, verify, writer
        self._lock = threading.Lock()
        listings = {folder: source_listing(root, folder) for folder in folders}
        self._entries = {folder: dict(listing.entries) for folder, listing in listings.items()}
        self._gone = {folder: frozenset(listing.gone) for folder, listing in listings.items()}
        self._after = {folder: listing.latest for folder, listing in listings.items()}
        self._counts = {folder: Counts() for folder in folders}
        for folder in folders:
            if (root / folder).is_dir():
                remove_unfinished(root / folder)

    @property
    def counts(self) -> Mapping[str, Counts]:
        """Of each folder, in this process."""
        return dict(self._counts)

    @property
    def origins(self) -> Mapping[str, str]:
        """The raw file of each sample that is there, as its dataset named it."""
        return {name: entry.origin for entries in self._entries.values() for name, entry in entries.items()}

    def entries_of(self, name: str) -> dict[str, Entry]:
        """What there is of a sample, by folder."""
        return {folder: entries[name] for folder, entries in self._entries.items() if name in entries}

    def is_fresh(self, product: Product, name: str) -> bool:
        """Whether a sample's file is there and made of the same ingredients."""
        entry = self._entries[product.folder].get(name)
        if self._anew or entry is None or not entry.finite or entry.fingerprint != product.fingerprint:
            return False
        return not self._verify or damage(find_sample(self._root, product.folder, name), entry) is None

    def reuse(self, folder: str) -> None:
        """Count a file that stays as it is."""
        with self._lock:
            counts = self._counts[folder]
            self._counts[folder] = attrs.evolve(counts, reused=counts.reused + 1)

    def write(self, product: Product, name: str, origin: str, made: Made, length: int = 0) -> Entry:
        """Write a sample's file, then record it; a process that is killed between the two leaves a file that says itself what it is.

        Args:
            product: what it is made of.
            name: of the sample.
            origin: its raw file, as the dataset names it.
            made: what to write.
            length: of text, the positions that it is padded to when it is loaded.

        Raises:
            DataError: the disk does not take it.
            ProcessError: another process has taken this share over.
        """
        if self._writer is not None:
            self._writer.check()
        shape = (length,) if length else ()
        entry = Entry(shape=shape, rate=made.rate, fingerprint=product.fingerprint, origin=origin, encoder=product.encoder)
        entry = write_sample(self._root, product.folder, name, made.tensors, entry)
        with self._lock:
            append_entry(self._root, product.folder, name, entry, self._rank, self._after[product.folder])
            self._entries[product.folder][name] = entry
            counts = self._counts[product.folder]
            self._counts[product.folder] = attrs.evolve(counts, done=counts.done + 1)
        return entry

    def drop(self, folder: str, name: str) -> None:
        """Take out a sample's file that is out of date and cannot be made again, so that nothing trains on it.

        Raises:
            DataError: the folder cannot be written.
        """
        with self._lock:
            known = self._entries[folder].pop(name, None)
            if known is not None or name in self._gone[folder] or os.path.lexists(sample_path(self._root, folder, name)):
                remove_sample(self._root, folder, name, self._rank, self._after[folder])
