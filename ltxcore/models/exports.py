"""The support of other programs, for which LoRAs are exported, for a type of adapters. Nothing here needs torch."""

from __future__ import annotations

import attrs

from ltxcore.errors import listed
from ltxcore.exporters import needs_base
from ltxcore.registry import load


@attrs.frozen
class Program:
    """A program that loads LoRAs, and its support for one type.

    Attributes:
        name: the name of its exporter.
        takes: whether it can load an exported file.
        loads_saved: whether it can load the file that a run saves.
        needs_base: whether an export needs the base model.
    """

    name: str
    takes: bool
    loads_saved: bool
    needs_base: bool


def programs_for(type: str) -> list[Program]:
    """Return what each program can do with files of a type of adapters; programs that cannot load the saved file of any
    run are left out.
    """
    found = []
    for name, named in sorted(load().of_kind("exporter").items()):
        saved: frozenset[str] = getattr(named.value, "loads_saved", frozenset())
        if saved:
            found.append(Program(name, type in named.value.adapters, type in saved, needs_base(named.value, type)))
    return found


def said_of_programs(type: str) -> str:
    """Return in words which programs load the file that a run saves, and which do not; "" if all of them do."""
    programs = programs_for(type)
    if all(program.loads_saved for program in programs):
        return ""
    saved = [program.name for program in programs if program.loads_saved]
    cannot = [program.name for program in programs if not program.takes]
    parts = [f"{listed(saved)} can load it as it is" if saved else "no program can load it as it is"]
    for program in programs:
        if program.takes and not program.loads_saved:
            base = ", with the base as --model" if program.needs_base else ""
            parts.append(f"{program.name} can once `ltx export --for {program.name}` has converted it{base}")
    parts += [f"{listed(cannot)} cannot"] if cannot else []
    return f'lora.safetensors of this run will be of the type "{type}": {"; ".join(parts)}'
