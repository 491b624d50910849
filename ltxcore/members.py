"""The samples of a run that has several sets: the set that each comes from, and where its files are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import attrs


class Names(Protocol):
    """The names of samples, as a sequence; `protocols.Manifest` finds them in its folders."""

    def __contains__(self, name: object, /) -> bool: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...


@attrs.frozen
class Member:
    """A sample of one of several sets that a run reads.

    Attributes:
        set: the name of the set.
        root: the data root of the set.
        name: the sample's name in that root.
    """

    set: str
    root: Path
    name: str


@attrs.frozen(eq=False)
class Members(Mapping[str, Member]):
    """The samples of several sets by name, which is the name of the set, "/", and the sample's name there.

    Attributes:
        sets: for each set, by its name, the data root and the samples there.
    """

    sets: Mapping[str, tuple[Path, Names]]

    __hash__ = None  # type: ignore[assignment]

    @property
    def roots(self) -> dict[str, Path]:
        """The data root of each set that has samples."""
        return {each: root for each, (root, names) in self.sets.items() if len(names)}

    def __getitem__(self, name: str) -> Member:
        each, _, own = name.partition("/")
        if each not in self.sets or own not in self.sets[each][1]:
            raise KeyError(name)
        return Member(each, self.sets[each][0], own)

    def __iter__(self) -> Iterator[str]:
        return (f"{each}/{name}" for each, (_, names) in self.sets.items() for name in names)

    def __len__(self) -> int:
        return sum(len(names) for _, names in self.sets.values())


def set_of(members: Mapping[str, Member], name: str) -> str:
    """Return the name of the set that a sample comes from; "" if there are no sets, and so no members."""
    if isinstance(members, Members):
        return name.partition("/")[0]
    return members[name].set if members else ""


def place_of(members: Mapping[str, Member], name: str, root: Path) -> tuple[Path, str]:
    """Return the data root that a sample's files are in, and the sample's name there: `root` and `name` if there are no members."""
    return (members[name].root, members[name].name) if members else (Path(root), name)


def roots_of(members: Mapping[str, Member]) -> dict[str, Path]:
    """Return the data root of each set that has samples."""
    return members.roots if isinstance(members, Members) else {each.set: each.root for each in members.values()}
