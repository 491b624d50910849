"""The entries of the samples of several sets, from the folder that has the same role in each set."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping

import attrs
import numpy as np

from ltxcore.alike import Coded, shared_facts
from ltxcore.encoded.columns import Array
from ltxcore.encoded.indexed_entries import IndexedEntries
from ltxcore.protocols import Entry


@attrs.frozen(eq=False)
class JoinedEntries(Mapping[str, Entry]):
    """The entries of the samples of several sets by name, which is the name of the set, "/", and the sample's name there.

    Attributes:
        sets: the entries of each set by its name; the sets are in the order of the samples' names.
    """

    sets: Mapping[str, IndexedEntries]

    __hash__ = None  # type: ignore[assignment]

    def __getitem__(self, name: str) -> Entry:
        each, _, own = name.partition("/")
        return self.sets[each][own]

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        each, _, own = name.partition("/")
        return each in self.sets and own in self.sets[each]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return sum(map(len, self.sets.values()))

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the samples, sorted."""
        return tuple(f"{each}/{name}" for each, own in self.sets.items() for name in own.names)

    @functools.cached_property
    def names_digest(self) -> str:
        """A hash of all names."""
        return hashlib.sha256(repr([(each, own.names_digest) for each, own in self.sets.items()]).encode()).hexdigest()

    @property
    def bytes(self) -> int:
        """The size of all files in bytes."""
        return sum(own.bytes for own in self.sets.values())

    @property
    def fingerprints(self) -> Iterator[str]:
        """The fingerprints of the samples, in the order of their names."""
        return (fingerprint for own in self.sets.values() for fingerprint in own.fingerprints)

    @property
    def origin_hashes(self) -> Array:
        """The hashes of the samples' origins, `[N, 2]`, in the order of their names; zeros for samples without one."""
        return np.concatenate([own.origin_hashes for own in self.sets.values()])

    def coded(self) -> Coded[Entry]:
        """Return the samples with codes for the facts that they share (see `alike`)."""
        parts = [own.coded() for own in self.sets.values()]
        facts = list({shared_facts(each): each for part in parts for each in part.facts}.values())
        code_of = {shared_facts(each): code for code, each in enumerate(facts)}
        codes: list[int] = []
        for part in parts:
            own = [code_of[shared_facts(each)] for each in part.facts]
            codes += [own[code] for code in part.codes]
        return Coded(self.names, facts, codes)


def joined_entries(sets: Mapping[str, Mapping[str, Entry]]) -> Mapping[str, Entry]:
    """Return the entries of the samples of several sets, in the order of their names."""
    sets = {each: sets[each] for each in sorted(sets, key=lambda each: f"{each}/")}
    indexed = {each: own for each, own in sets.items() if isinstance(own, IndexedEntries)}
    if len(indexed) == len(sets):
        return JoinedEntries(indexed)
    return {f"{each}/{name}": entry for each, own in sets.items() for name, entry in own.items()}
