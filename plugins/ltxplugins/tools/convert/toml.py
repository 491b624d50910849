"""Write the text of a run file: its tables in order, with comments that give reasons."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

import attrs

from ltxcore.api.config import value_text

WIDTH = 100


@attrs.define
class Section:
    """A table with its keys, values and comments, in the order in which they were added."""

    lines: list[str] = attrs.field(factory=list)
    keys: set[str] = attrs.field(factory=set)

    def set(self, key: str, value: Any, comment: str = "") -> None:
        """Add a key, with its comment above it."""
        if comment:
            self.say(comment)
        self.lines.append(f"{key} = {written(value)}")
        self.keys.add(key)

    def say(self, comment: str) -> None:
        """Add a comment."""
        self.lines += [f"# {line}" for line in textwrap.wrap(comment, WIDTH, break_long_words=False, break_on_hyphens=False)]


@attrs.define
class RunText:
    """A run file that is being written. Its tables come in the order in which they were first requested, and empty
    tables are left out.
    """

    head: Section = attrs.field(factory=Section)
    tables: dict[str, Section] = attrs.field(factory=dict)
    samples: list[Section] = attrs.field(factory=list)

    def table(self, name: str) -> Section:
        """Return the table `[name]`; the name may have dots."""
        return self.tables.setdefault(name, Section())

    def sample(self) -> Section:
        """Add a table `[[validation.samples]]`, and return it."""
        self.samples.append(Section())
        return self.samples[-1]

    def __str__(self) -> str:
        blocks = ["\n".join(self.head.lines)]
        for name, section in self.tables.items():
            blocks += self._blocks(name, section)
        return "\n\n".join(filter(None, blocks)) + "\n"

    def _blocks(self, name: str, section: Section) -> Iterator[str]:
        if section.lines:
            yield "\n".join([f"[{name}]", *section.lines])
        if name == "validation":
            yield from ("\n".join(["[[validation.samples]]", *sample.lines]) for sample in self.samples)


def written(value: Any) -> str:
    """Return a value written in TOML. A list of tables has one line per table."""
    if isinstance(value, list) and value and all(isinstance(inner, dict) for inner in value):
        return "[\n" + "".join(f"  {value_text(inner)},\n" for inner in value) + "]"
    return value_text(value)
