"""Text in columns, of whatever a plugin gives."""

from __future__ import annotations

from ltxcore.api.commands import columns


def test_cells_lie_below_each_other_whatever_they_are() -> None:
    assert columns([("a", 1, "x"), ("long", 2.5, None)]) == "a     1    x\nlong  2.5  None"
