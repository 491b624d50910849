"""Tables of which some keys are not known: the others are there, and whoever asks for one that is not goes no further."""

from __future__ import annotations

import attrs
import pytest

from ltxcore.config.parts import evolved, is_whole, made_of, parted
from ltxcore.config.reading import Unreadable
from ltxcore.config.run_file import LoraTable
from ltxcore.errors import collecting


def test_what_is_known_is_there_with_defaults_and_the_rest_raises() -> None:
    table = parted(LoraTable, {"dropout": 0.5, "rank": 7}, {"rank"})
    assert (table.dropout, table.use_dora, isinstance(table, LoraTable)) == (0.5, None, True)
    for key in ("rank", "alpha"):  # which is the rank by default
        with pytest.raises(Unreadable):
            getattr(table, key)
    with pytest.raises(AttributeError, match="LoraTable has no attribute other"):
        table.other  # type: ignore[attr-defined]  # noqa: B018
    assert parted(LoraTable, {"alpha": 3}, {"rank"}).alpha == 3


def test_a_part_of_a_table_is_no_other_table_and_not_the_same_either_since_that_cannot_be_known() -> None:
    table = parted(LoraTable, {}, {"rank"})
    assert not is_whole(table)
    assert is_whole(LoraTable())
    with pytest.raises(Unreadable):
        table == LoraTable()  # noqa: B015
    with pytest.raises(Unreadable):
        LoraTable() == table  # noqa: B015


def test_a_changed_table_knows_what_it_knew_and_what_was_changed() -> None:
    table = parted(LoraTable, {"dropout": 0.5}, {"rank", "use_dora"})
    changed = evolved(table, rank=4, alpha=2)
    assert (changed.dropout, changed.rank, changed.alpha) == (0.5, 4, 2)
    with pytest.raises(Unreadable):
        changed.use_dora  # noqa: B018
    assert evolved(table, rank=4, alpha=2, use_dora=True) == LoraTable(rank=4, alpha=2, use_dora=True, dropout=0.5)
    with pytest.raises(Unreadable):
        evolved(LoraTable(), ("rank",), dropout=0.1).rank  # noqa: B018


def test_what_is_made_of_a_table_knows_what_that_knows() -> None:
    @attrs.frozen
    class Adapter:
        size: int
        scale: int
        name: str

    names = {"size": "rank", "scale": "alpha"}
    assert made_of(Adapter, LoraTable(rank=4), names, name="x") == Adapter(4, 4, "x")
    lacking = made_of(Adapter, parted(LoraTable, {"rank": 4}, {"alpha"}), names, name="x")
    assert (lacking.size, lacking.name) == (4, "x")
    with pytest.raises(Unreadable):
        lacking.scale  # noqa: B018


def test_a_check_that_asks_for_what_is_not_known_finds_nothing_and_the_next_one_goes_on() -> None:
    problems: list[object] = []
    with collecting(problems, "run.toml:1"):  # type: ignore[arg-type]
        _ = parted(LoraTable, {}, {"rank"}).rank
    assert problems == []
