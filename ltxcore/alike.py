"""Functions that group samples by the facts that many share, such as their shape and encoder.

A set of a million samples has few different shapes and encoders, so facts about samples are found once for each group. Entries may lie in a
dictionary or in an index of an encoded set, which knows the groups already.
"""

from __future__ import annotations

import hashlib
import itertools
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import attrs


class Facts(Protocol):
    """The facts about a sample that many samples share; `protocols.Entry` has them."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def rate(self) -> float | None: ...
    @property
    def finite(self) -> bool: ...
    @property
    def encoder(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def modality(self) -> str: ...
    @property
    def widths(self) -> tuple[int, ...]: ...
    @property
    def column(self) -> str: ...


E = TypeVar("E", bound=Facts)


@attrs.frozen(eq=False)
class Coded(Generic[E]):
    """The samples of a folder, with a code for the facts of each.

    Attributes:
        names: the names of the samples, sorted.
        facts: an entry for each code, in which only the shared facts are meaningful (`shared_facts`).
        codes: the code of each sample.
    """

    names: tuple[str, ...]
    facts: Sequence[E]
    codes: Sequence[int]


def shared_facts(entry: Facts) -> tuple[Any, ...]:
    """Return the facts by which samples are grouped."""
    rate = entry.rate if entry.rate is None else float(entry.rate)
    return (entry.shape, rate, entry.finite, entry.encoder, entry.kind, entry.modality, entry.widths, entry.column)


def coded(entries: Mapping[str, E]) -> Coded[E]:
    """Return the samples of a folder with codes for their facts, in the order of their names."""
    own = getattr(entries, "coded", None)
    if own is not None:
        found: Coded[E] = own()
        return found
    names, facts, codes, of = tuple(sorted(entries)), list[E](), array("i"), dict[tuple[Any, ...], int]()
    for name in names:
        entry = entries[name]
        code = of.setdefault(shared_facts(entry), len(facts))
        if code == len(facts):
            facts.append(entry)
        codes.append(code)
    return Coded(names, facts, codes)


def alike(entries: Mapping[str, E]) -> list[tuple[E, Sequence[str]]]:
    """Return the groups of a folder's samples that have the same facts, in the order of their first samples.

    A group consists of an entry, in which only the shared facts are meaningful, and the sorted names of its samples.
    """
    own: list[tuple[E, Sequence[str]]] | None = getattr(entries, "alike", None)
    return grouped(coded(entries)) if own is None else own


def grouped(found: Coded[E]) -> list[tuple[E, Sequence[str]]]:
    """Return the groups of samples whose facts have the same code, as `alike` does."""
    if len(found.facts) == 1 and found.names:
        return [(found.facts[0], found.names)]
    groups: dict[int, list[str]] = {}
    for name, code in zip(found.names, found.codes, strict=True):
        groups.setdefault(code, []).append(name)
    return [(found.facts[code], names) for code, names in groups.items()]


def alike_in_all(entries: Mapping[str, Mapping[str, E]], samples: Sequence[str]) -> tuple[tuple[Mapping[str, E], Sequence[str]], ...]:
    """Return the groups of samples that have the same facts in all roles, in the order of their first samples.

    A group consists of its entries by role, without the roles that the samples lack, and the sorted names of its samples.

    Args:
        entries: the entries by role and name.
        samples: the names of all samples, sorted.
    """
    roles = {role: coded(own) for role, own in entries.items()}
    groups: dict[tuple[int, ...], list[str]] = {}
    for name, *key in zip(samples, *(_aligned(each, samples) for each in roles.values()), strict=True):
        groups.setdefault(tuple(key), []).append(name)
    return tuple(
        ({role: each.facts[code] for (role, each), code in zip(roles.items(), key, strict=True) if code >= 0}, names)
        for key, names in groups.items()
    )


def all_names(entries: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the names of the samples that are in any of several folders, sorted. Folders with the same samples share their names."""
    first, *others = list(entries) or [{}]
    if all(have_same_names(first, each) for each in others):
        return names_in(first)
    return tuple(sorted(frozenset[str]().union(first, *others)))


def names_in(entries: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of a folder's samples, sorted."""
    own: tuple[str, ...] | None = getattr(entries, "names", None)
    return tuple(sorted(entries)) if own is None else own


def have_same_names(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two folders have the same samples."""
    if one is other:
        return True
    if len(one) != len(other):
        return False
    digests = (getattr(one, "names_digest", None), getattr(other, "names_digest", None))
    if None not in digests:
        return digests[0] == digests[1]
    return names_in(one) == names_in(other)


def positions(names: Sequence[str], among: Sequence[str]) -> Iterator[int]:
    """Yield, for each of the sorted names `among`, its place in the sorted `names`; -1 if it is not there."""
    place = 0
    for name in among:
        while place < len(names) and names[place] < name:
            place += 1
        yield place if place < len(names) and names[place] == name else -1


def fingerprints(entries: Mapping[str, Any]) -> Iterable[str]:
    """Return the fingerprints of a folder's samples, in the order of their names."""
    own: Iterable[str] | None = getattr(entries, "fingerprints", None)
    return [entries[name].fingerprint for name in sorted(entries)] if own is None else own


def bytes_of(entries: Mapping[str, Any]) -> int:
    """Return the size of a folder's files in bytes."""
    own: int | None = getattr(entries, "bytes", None)
    return sum(entry.bytes for entry in entries.values()) if own is None else own


def made_digest(entries: Mapping[str, Any]) -> str:
    """Return a hash of the names and fingerprints of a folder's samples. It does not depend on the place of their entries."""
    own: str | None = getattr(entries, "made_digest", None)
    if own is not None:
        return own
    found = hashlib.sha256()
    for texts in (names_in(entries), fingerprints(entries)):
        parts = [text.encode("utf-8", "surrogatepass") for text in texts]
        found.update(made_part(b"".join(parts), array("q", itertools.accumulate(map(len, parts))).tobytes()))
    return found.hexdigest()


def made_part(texts: bytes | memoryview, ends: bytes | memoryview) -> bytes:
    """Return the hash of a column of texts: all texts, one after the other, and where each ends."""
    return hashlib.sha256(hashlib.sha256(texts).digest() + hashlib.sha256(ends).digest()).digest()


def _aligned(own: Coded[Any], samples: Sequence[str]) -> Iterable[int]:
    if len(own.names) == len(samples):  # the samples are a superset
        return own.codes
    return (own.codes[place] if place >= 0 else -1 for place in positions(own.names, samples))
