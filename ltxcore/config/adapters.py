"""Apply the type of adapters to the other keys of `[lora]`, and read the older key for one of the types."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ltxcore.config.parts import evolved
from ltxcore.config.reading import Reading, Unreadable
from ltxcore.config.run_file import LoraTable

DORA = "dora"
"""The type that the older key `use_dora` stands for."""


def with_type(table: LoraTable, said: Mapping[str, Any], reading: Reading) -> LoraTable:
    """Return the table, with the type that `use_dora` stands for if the run file (`said`) sets that key."""
    try:
        use_dora = table.use_dora
    except Unreadable:
        return table
    if use_dora and said.get("type", DORA) != DORA:
        reading.note(f'means type = "{DORA}", but type has another value', "Keep one of the two.", below=("use_dora",))
    return evolved(table, use_dora=None, **({"type": DORA} if use_dora else {}))


def with_dropout(table: LoraTable, reading: Reading) -> LoraTable:
    """Return the table, and note as a mistake every dropout that its type of adapters does not support."""
    with suppress(Unreadable):
        if getattr(table.adapter, "takes_dropout", True):
            return table
        places: list[tuple[str | int, ...]] = [("groups", index) for index, group in enumerate(table.groups) if group.dropout]
        for place in [*([()] if table.dropout else []), *places]:
            reading.note(f'the adapter "{table.type}" has no dropout', "Set the value to 0, or remove the key.", below=(*place, "dropout"))
    return table
