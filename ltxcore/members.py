"""The samples of a run that has several sets: the set that each comes from, and where its files are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs


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


def set_of(members: Mapping[str, Member], name: str) -> str:
    """Return the name of the set that a sample comes from; "" if there are no sets, and so no members."""
    return members[name].set if members else ""


def place_of(members: Mapping[str, Member], name: str, root: Path) -> tuple[Path, str]:
    """Return the data root that a sample's files are in, and the sample's name there: `root` and `name` if there are no members."""
    return (members[name].root, members[name].name) if members else (Path(root), name)
