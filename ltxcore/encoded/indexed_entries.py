"""The entries of an encoded folder that has an index: a mapping that makes each entry when it is asked for."""

from __future__ import annotations

import functools
from collections.abc import Collection, ItemsView, Iterator, Mapping, Sequence, ValuesView

import attrs
import numpy as np

from ltxcore.alike import Coded, grouped
from ltxcore.encoded.columns import ORIGIN_HASH, Array, Columns
from ltxcore.protocols import Entry


@attrs.frozen(eq=False)
class IndexedEntries(Mapping[str, Entry]):
    """The entries of samples by name, sorted, which lie in columns.

    Attributes:
        columns: the columns of all samples of the folder.
        rows: the rows of the samples, in order; None for all rows.
    """

    columns: Columns
    rows: Array | None = None

    __hash__ = None  # type: ignore[assignment]

    def __getitem__(self, name: str) -> Entry:
        row = self._row(name)
        if row < 0:
            raise KeyError(name)
        return self.columns.entry(row)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._row(name) >= 0

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.columns) if self.rows is None else len(self.rows)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and len(self) == len(other) and dict(self.items()) == dict(other.items())

    def items(self) -> ItemsView[str, Entry]:
        return _Items(self)

    def values(self) -> ValuesView[Entry]:
        return _Values(self)

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the samples, sorted."""
        names = self.columns.names
        return names if self.rows is None else tuple(names[row] for row in self.rows.tolist())

    @functools.cached_property
    def names_digest(self) -> str:
        """A hash of all names."""
        return self._chosen.names_digest

    @functools.cached_property
    def made_digest(self) -> str:
        """A hash of all names and fingerprints."""
        return self._chosen.made_digest

    @functools.cached_property
    def _chosen(self) -> Columns:
        return self.columns if self.rows is None else self.columns.taken(self.rows.tolist())

    @property
    def bytes(self) -> int:
        """The size of all files in bytes."""
        return int(self._of("bytes").sum())

    @property
    def fingerprints(self) -> Iterator[str]:
        """The fingerprints of the samples, in the order of their names."""
        return iter(self.columns.texts("fingerprint", None if self.rows is None else self.rows.tolist()))

    @property
    def origin_hashes(self) -> Array:
        """The hashes of the samples' origins, `[N, 2]`, in the order of their names; zeros for samples without one."""
        return self._of(ORIGIN_HASH)

    def coded(self) -> Coded[Entry]:
        """Return the samples with codes for the facts that they share (see `alike`)."""
        return Coded(self.names, self.columns.facts, self._of("facts").tolist())

    @functools.cached_property
    def alike(self) -> list[tuple[Entry, Sequence[str]]]:
        """The groups of samples that have the same facts (`alike.alike`)."""
        return grouped(self.coded())

    def among(self, names: Collection[str] | None) -> IndexedEntries:
        """Return the entries of those samples that are among `names`; of all if it is None."""
        if names is None:
            return self
        wanted = frozenset(names)
        places = [place for place, name in enumerate(self.names) if name in wanted]
        if len(places) == len(self):
            return self
        return IndexedEntries(self.columns, np.asarray(places, np.int64) if self.rows is None else self.rows[places])

    def _of(self, column: str) -> Array:
        own = self.columns.arrays[column]
        return own if self.rows is None else own[self.rows]

    def _row(self, name: str) -> int:
        row = self.columns.find(name)
        if row < 0 or self.rows is None:
            return row
        place = int(np.searchsorted(self.rows, row))
        return row if place < len(self.rows) and self.rows[place] == row else -1


class _Values(ValuesView[Entry]):
    _mapping: IndexedEntries

    def __iter__(self) -> Iterator[Entry]:
        entries = self._mapping
        rows = range(len(entries.columns)) if entries.rows is None else entries.rows.tolist()
        return (entries.columns.entry(row) for row in rows)


class _Items(ItemsView[str, Entry]):
    _mapping: IndexedEntries

    def __iter__(self) -> Iterator[tuple[str, Entry]]:
        return zip(self._mapping.names, self._mapping.values(), strict=True)
