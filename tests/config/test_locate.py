"""Every key has a line, wherever it stands."""

from __future__ import annotations

import random
from typing import Any

import pytest
import tomli

from ltxcore.config.locate import locate

DOCUMENT = '''\
title = "a # no comment, [no.table]"   # a comment with = and [x]
"quoted key" = 1
a.b."c.d" = 2

[table]   # header
list = [
  1, # one ]
  2,
  [ "x]", 'y"' ],
  { deep = { deeper = 3 },
    other = 4 },
]
text = """
[not.a.table]
key = "value"
\\""" still text """
literal = \'\'\'
x = 1 \'\'\'
after = true

[[rows]]
name = "first"
[rows.inner]
k = 1
[[rows]]
name = "second"
[[rows.more]]
n = 1
[[rows.more]]
n = 2
[far.away.table]
date = 1979-05-27T07:32:00Z
quotes = """two""\\"""""
end = 1
'''

PLACES: dict[tuple[str | int, ...], int] = {
    ("title",): 1,
    ("quoted key",): 2,
    ("a",): 3,
    ("a", "b"): 3,
    ("a", "b", "c.d"): 3,
    ("table",): 5,
    ("table", "list"): 6,
    ("table", "list", 0): 7,
    ("table", "list", 1): 8,
    ("table", "list", 2): 9,
    ("table", "list", 2, 1): 9,
    ("table", "list", 3): 10,
    ("table", "list", 3, "deep", "deeper"): 10,
    ("table", "list", 3, "other"): 11,
    ("table", "text"): 13,
    ("table", "literal"): 17,
    ("table", "after"): 19,
    ("rows",): 21,
    ("rows", 0): 21,
    ("rows", 0, "name"): 22,
    ("rows", 0, "inner"): 23,
    ("rows", 0, "inner", "k"): 24,
    ("rows", 1): 25,
    ("rows", 1, "name"): 26,
    ("rows", 1, "more"): 27,
    ("rows", 1, "more", 0, "n"): 28,
    ("rows", 1, "more", 1): 29,
    ("rows", 1, "more", 1, "n"): 30,
    ("far",): 31,
    ("far", "away", "table"): 31,
    ("far", "away", "table", "date"): 32,
    ("far", "away", "table", "quotes"): 33,
    ("far", "away", "table", "end"): 34,
}


@pytest.mark.parametrize(("path", "line"), PLACES.items(), ids=str)
def test_a_key_is_found_in_every_form_that_toml_has(path: tuple[str | int, ...], line: int) -> None:
    assert locate(DOCUMENT).of(path) == line


def test_lines_ended_as_on_windows_count_the_same() -> None:
    lines = locate(DOCUMENT.replace("\n", "\r\n"))
    assert {path: lines.of(path) for path in PLACES} == PLACES


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("table", "missing"), 5),
        (("table", "list", 3, "missing"), 10),
        (("rows", 1, "missing", "further"), 25),
        (("missing",), 1),
        ((), 1),
    ],
)
def test_what_is_not_in_the_file_is_placed_at_the_nearest_table(path: tuple[str | int, ...], line: int) -> None:
    assert locate(DOCUMENT).of(path) == line


def test_a_table_that_is_first_named_by_a_table_inside_it_has_its_own_line() -> None:
    assert locate("[a.b]\nx = 1\n[a]\ny = 1\n").of(("a",)) == 3


@pytest.mark.parametrize("text", ["a = [", "a = {", 'a = "', "[a", "a", '"""', "a = '''", "[[x]"])
def test_text_that_is_no_toml_does_no_harm(text: str) -> None:
    assert locate(f"first = 1\n{text}").of(("first",)) == 1


@pytest.mark.parametrize("seed", range(60))
def test_every_key_of_a_random_document_has_the_line_it_was_written_on(seed: int) -> None:
    writer = Writer(random.Random(seed))
    writer.table((), depth=3)
    text = "\n".join(writer.lines)
    leaves = paths(tomli.loads(text))
    lines = locate(text)
    assert {path: lines.of(path) for path in leaves} == {path: writer.places[path] for path in leaves}


def paths(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Key paths of all values in a document, tables and lists included."""
    inner = list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    return [*([path] if path else []), *(found for name, below in inner for found in paths(below, (*path, name)))]


class Writer:
    """Writes a random document and remembers on which line each key stands."""

    def __init__(self, rng: random.Random) -> None:
        self.rng, self.lines, self.places, self.count = rng, [""], {}, 0

    def write(self, text: str) -> None:
        first, *more = text.split("\n")
        self.lines[-1] += first
        self.lines.extend(more)

    def name(self) -> tuple[str, str]:
        self.count += 1
        plain = f"k{self.count}"
        return self.rng.choice(
            [(plain, plain), (f"{plain} .#]=", f'"{plain} .#]="'), (f"{plain}'", f'"{plain}\'"'), (f'{plain}"', f"'{plain}\"'")]
        )

    def place(self, path: tuple[str | int, ...]) -> None:
        self.places[path] = len(self.lines)

    def table(self, path: tuple[str | int, ...], depth: int, spelled: str = "") -> None:
        for _ in range(self.rng.randint(0, 4)):
            if self.rng.random() < 0.3:
                self.write(self.rng.choice(["\n", "# x = [ { ''' \"\n", "  \n"]))
            self.pair(path)
            self.write(self.rng.choice(["\n", "  # = ] }\n"]))
        for _ in range(self.rng.randint(0, 3) if depth else 0):
            key, written = self.name()
            name = f"{spelled}.{written}" if spelled else written
            if self.rng.random() < 0.5:
                self.place((*path, key))
                self.write(f"[ {name} ]\n")
                self.table((*path, key), depth - 1, name)
            else:
                self.place((*path, key))
                for index in range(self.rng.randint(1, 3)):
                    self.place((*path, key, index))
                    self.write(f"[[{name}]] # [[\n")
                    self.table((*path, key, index), depth - 1, name)

    def pair(self, path: tuple[str | int, ...]) -> None:
        key, written = self.name()
        self.place((*path, key))
        self.write(f"{written} = ")
        self.value((*path, key), 3)

    def value(self, path: tuple[str | int, ...], depth: int) -> None:
        kind = self.rng.choice(["scalar", "text", "list", "table"] if depth else ["scalar", "text"])
        if kind == "scalar":
            self.write(self.rng.choice(["1", "-2.5e3", "true", "1979-05-27", "1979-05-27 07:32:00", "inf", "0xFF"]))
        elif kind == "text":
            self.write(
                self.rng.choice(['"a"', '"#[{\\"="', "'\\'", '"""a\n"b"\n\\"""c"""', "'''\n]'''", '""', "''", '"""a"""""', "'''b''''"])
            )
        elif kind == "list":
            self.write("[")
            for index in range(self.rng.randint(0, 3)):
                self.write(self.rng.choice(["", "\n  ", " # ]\n"]))
                self.place((*path, index))
                self.value((*path, index), depth - 1)
                self.write(self.rng.choice([",", " ,", "\n,"]))
            self.write("]")
        else:
            self.write("{ ")
            for index in range(self.rng.randint(0, 3)):
                self.write(", " if index else "")
                key, written = self.name()
                self.place((*path, key))
                self.write(f"{written} = ")
                self.value((*path, key), depth - 1)
            self.write("}")
