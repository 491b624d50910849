"""The record of an encoding; it tracks the files that are already up to date and the files that are written now.

The summary of preprocessing has counts, the refused samples with reasons, and notes for the user.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Mapping
from pathlib import Path

import attrs

from ltxcore.encode.leases import numbers_of_processes
from ltxcore.encode.outdated import told_by_reason
from ltxcore.encode.products import Made, Product
from ltxcore.encoded.checks import count
from ltxcore.encoded.manifest import append_entry, manifest_name, remove_sample, source_listing
from ltxcore.encoded.manifest_lines import line_of
from ltxcore.encoded.sample_names import find_sample, sample_path
from ltxcore.encoded.store import MANIFESTS, damage, write_sample
from ltxcore.errors import Problem, many
from ltxcore.files import remove_unfinished
from ltxcore.protocols import Entry
from ltxcore.tails import Tails
from ltxcore.writer import Writer


class Ledger:
    """The folders of a root as this process sees them. Several threads may use one instance."""

    def __init__(
        self, root: Path, folders: Collection[str], rank: int, anew: bool = False, verify: bool = False, writer: Writer | None = None
    ) -> None:
        """Read what the folders of `root` hold.

        With `anew`, files that existed at first do not count as up to date. With `verify`, these files are read, and count as up to date
        only if their bytes are still as they were written. The attribute `found` is what the folders held at first. Before each write,
        `writer` checks that no other process has taken over this process's place, which has the number `rank`.
        """
        self._root, self._rank, self._anew, self._verify, self._writer = root, rank, anew, verify, writer
        self._lock = threading.Lock()
        # Lines that are appended while the folders are listed are read twice, and not missed.
        self._tails = {folder: Tails(root / folder, MANIFESTS, manifest_name(rank)) for folder in folders}
        self._manifests = {manifest_name(number) for number in {0} | numbers_of_processes(root)}
        self._of_others: set[tuple[str, str]] = set()
        self._wrote = False
        self.found = {folder: source_listing(root, folder) for folder in folders}
        self._entries = {folder: dict(listing.entries) for folder, listing in self.found.items()}
        self._gone = {folder: frozenset(listing.gone) for folder, listing in self.found.items()}
        self._after = {folder: listing.latest for folder, listing in self.found.items()}
        self._counts = {folder: Counts() for folder in folders}
        for folder in folders:
            if (root / folder).is_dir():
                remove_unfinished(root / folder)

    def catch_up(self) -> list[tuple[str, str]]:
        """Learn what other processes have written since, and return the folder and name of each sample that they wrote."""
        found = list[tuple[str, str]]()
        with self._lock:
            self._manifests |= {manifest_name(number) for number in numbers_of_processes(self._root)}
            for folder, tails in self._tails.items():
                for line in filter(None, map(line_of, tails.new_lines(self._manifests))):
                    self._after[folder] = max(self._after[folder], line.time)
                    if line.removed:
                        self._entries[folder].pop(line.name, None)
                        self._of_others.discard((folder, line.name))
                    else:
                        self._entries[folder][line.name] = line.entry
                        found.append((folder, line.name))
            self._of_others.update(found)
        return found

    @property
    def has_changed(self) -> bool:
        """Whether this process, or another one that it learned of, wrote or removed files."""
        return self._wrote or bool(self._of_others)

    def has_all(self, name: str, folders: Collection[str]) -> bool:
        """Return whether there is an entry of a sample, up to date or not, in each of these folders."""
        return all(name in self._entries[folder] for folder in folders)

    @property
    def counts(self) -> Mapping[str, Counts]:
        """The counts of each folder, in this process."""
        return dict(self._counts)

    @property
    def origins(self) -> Mapping[str, str]:
        """The raw file of each sample in the root, as the sample's dataset named it."""
        return {name: entry.origin for entries in self._entries.values() for name, entry in entries.items()}

    def entries_of(self, name: str) -> dict[str, Entry]:
        """Return the entries of a sample's files, by folder."""
        return {folder: entries[name] for folder, entries in self._entries.items() if name in entries}

    def is_fresh(self, product: Product, name: str) -> bool:
        """Return whether a sample's file exists and was made from the same ingredients as the product."""
        entry, is_new = self._entries[product.folder].get(name), (product.folder, name) in self._of_others
        if (self._anew and not is_new) or entry is None or not entry.finite or entry.fingerprint != product.fingerprint:
            return False
        return not self._verify or is_new or damage(find_sample(self._root, product.folder, name), entry) is None

    def reuse(self, folder: str, name: str) -> None:
        """Count a file that is left unchanged, which may be one that another process has just made."""
        with self._lock:
            counts, others = self._counts[folder], (folder, name) in self._of_others
            self._counts[folder] = attrs.evolve(counts, reused=counts.reused + (not others), others=counts.others + others)

    def write(self, product: Product, name: str, origin: str, made: Made, length: int = 0) -> Entry:
        """Write a sample's file, then record it. If the process is killed in between, the file's header still identifies the file.

        Args:
            product: the product, with its ingredients.
            name: the sample's name.
            origin: the sample's raw file, as the dataset names it.
            made: the tensors to write.
            length: for text, the number of positions that it is padded to when it is loaded.

        Raises:
            DataError: the file cannot be written.
            ProcessError: another process has taken over this share.
        """
        if self._writer is not None:
            self._writer.check()
        shape = (length,) if length else ()
        entry = Entry(shape, made.rate, fingerprint=product.fingerprint, origin=origin, encoder=product.encoder, column=product.column)
        entry = write_sample(self._root, product.folder, name, made.tensors, entry)
        with self._lock:
            append_entry(self._root, product.folder, name, entry, self._rank, self._after[product.folder])
            self._entries[product.folder][name] = entry
            self._wrote = True
            counts = self._counts[product.folder]
            self._counts[product.folder] = attrs.evolve(counts, done=counts.done + 1)
        return entry

    def drop(self, folder: str, name: str) -> None:
        """Remove a sample's file that is out of date and cannot be made again, so that no run trains on it.

        Raises:
            DataError: the folder cannot be written.
        """
        with self._lock:
            known = self._entries[folder].pop(name, None)
            if known is not None or name in self._gone[folder] or os.path.lexists(sample_path(self._root, folder, name)):
                remove_sample(self._root, folder, name, self._rank, self._after[folder])
                self._wrote = True


@attrs.frozen
class Counts:
    """The numbers of files of a folder that this process made, that were up to date, and that other processes made meanwhile."""

    done: int = 0
    reused: int = 0
    others: int = 0

    def __str__(self) -> str:
        return f"{self.done:>6} made  {self.reused:>6} reused" + (f"  {self.others:>6} made by others" if self.others else "")


@attrs.frozen
class Summary:
    """The outcome of `preprocess`.

    Attributes:
        root: the folder where the samples are.
        folders: this process's counts for each folder, in the order in which folders are made.
        refused: the samples that are left out, each with the reason; empty unless `on_error` is "skip".
        silent: the clips that lack audio, each with the reason; their other folders are made. Empty unless `on_error` is "skip".
        pictureless: the audio files in a dataset of clips, each with the reason; only their audio and captions are encoded. Empty
            unless `on_error` is "skip".
        samples: the names of the dataset's complete samples, which a run on this dataset trains on.
        notes: facts that the user should know but that are not mistakes.
        own_notes: the notes that this process alone knows.
        anew: the samples that this process encoded again because the reading of their files was corrected, with the corrections.
        set_right: for a run that keeps the samples it began with, the samples, of all processes, that were encoded after a correction in
            reading their files.
        without: the samples, of all processes, that stay as they were encoded in spite of corrections since then, with these corrections.
    """

    root: Path
    folders: Mapping[str, Counts]
    refused: tuple[Problem, ...]
    silent: tuple[Problem, ...]
    samples: tuple[str, ...]
    notes: tuple[str, ...]
    pictureless: tuple[Problem, ...] = ()
    own_notes: tuple[str, ...] = ()
    anew: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    set_right: frozenset[str] = frozenset()
    without: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)

    @property
    def is_partial(self) -> bool:
        """Whether rows were left out, wholly or in part."""
        return bool(self.refused or self.silent or self.pictureless)

    @property
    def done(self) -> int:
        """The number of files that were made, in all folders."""
        return sum(counts.done for counts in self.folders.values())

    @property
    def others(self) -> int:
        """The number of files that other processes made meanwhile, in all folders."""
        return sum(counts.others for counts in self.folders.values())

    @property
    def reused(self) -> int:
        """The number of files that were already up to date, in all folders."""
        return sum(counts.reused for counts in self.folders.values())

    def __str__(self) -> str:
        lines = self._counts()
        lines.append(f"{count(self.samples)} in {self.root}" + (f", {len(self.refused)} refused:" if self.refused else ""))
        lines += [f"  {problem}" for problem in self.refused]
        for problems, what in (
            (self.silent, "without audio, for video-only runs"),
            (self.pictureless, "without video, for audio-only runs"),
        ):
            if problems:
                lines.append(f"{len(problems)} more {what}:")
                lines += [f"  {problem.where}: {problem.what}" for problem in problems]
        return "\n".join([*lines, *self._remarks()])

    def of_share(self) -> str:
        """Return the report that this process, one of several, adds to the report of the first: its own work, and facts that only it
        knows."""
        return "\n".join([*self._counts(), *self.own_notes, *told_anew(self.anew)])

    def _counts(self) -> list[str]:
        width = max((len(folder) for folder in self.folders), default=0)
        return [f"{folder:<{width}}  {counts}" for folder, counts in self.folders.items()]

    def brief(self) -> str:
        """Return a short report for work in which nothing was refused: how much was done, and notes for the user."""
        now = self.done + self.others
        return "\n".join([f"{count(self.samples)} in {self.root}, {now} file{'s' * (now != 1)} encoded now", *self._remarks()])

    def _remarks(self) -> list[str]:
        return [*self.notes, *told_anew(self.anew), *told_without(self.without)]


def told_anew(samples: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return a line for each reason for encoding samples again, with the samples' names."""
    return [
        f"{many(count, 'sample', 'samples')} encoded again, since {reason} now: {names}" for count, reason, names in told_by_reason(samples)
    ]


def told_without(samples: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return a line for each reason for which samples could be encoded again but stay unchanged, with the samples' names."""
    return [
        f"{many(count, 'sample', 'samples')} kept as they were when this run began, although {reason} now: {names}; `ltx preprocess`, or --allow-changes, encodes again"
        for count, reason, names in told_by_reason(samples)
    ]
