"""Values are read to the letter, and named in words."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union

import attrs
import cattrs
import pytest

from ltxcore.config.reading import Reading, Unreadable, spelled
from ltxcore.config.scalars import described, register_scalars, wanted

DATE = datetime.date(1979, 5, 27)


class Colour(enum.Enum):
    RED = "red"


@attrs.frozen
class Table:
    x: int = 0


def read(value: Any, kind: Any) -> tuple[Any, list[str]]:
    """What a value is read as, or what is said about it."""
    reading = Reading()
    converter = cattrs.Converter(detailed_validation=False)
    register_scalars(converter, reading)
    try:
        return converter.structure(value, kind), []
    except Unreadable:
        return None, [": ".join(filter(None, [spelled(m.path), m.what + (f" / {m.remedy}" if m.remedy else "")])) for m in reading.mistakes]


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (bool, True, True),
        (int, 3, 3),
        (float, 3.5, 3.5),
        (float, 3, 3.0),
        (str, "x", "x"),
        (int | None, 3, 3),
        (Optional[int], 3, 3),  # noqa: UP045 (a plugin may still write it so)
        (Union[int, str], "x", "x"),  # noqa: UP007 (as above)
        (int | float, 3, 3),
        (int | float, 3.5, 3.5),
        (float | str, 3, 3.0),
        (Literal["all"] | list[int], "all", "all"),
        (Literal["all"] | list[int], [1], [1]),
        (Literal["a", "b"], "b", "b"),
        (Literal[1, 2], 2, 2),
        (list[int], [1, 2], [1, 2]),
        (Sequence[int], [1], [1]),
        (tuple[int, ...], [1, 2], (1, 2)),
        (tuple[int, str], [1, "x"], (1, "x")),
        (frozenset[str], ["x", "x"], frozenset({"x"})),
        (set[int], [1], {1}),
        (list[list[float]], [[1], [2.5]], [[1.0], [2.5]]),
        (dict[str, float], {"x": 1}, {"x": 1.0}),
        (Mapping[str, int], {"x": 1}, {"x": 1}),
        (dict, {"x": [1]}, {"x": [1]}),
        (list, [1, "x"], [1, "x"]),
        (Any, {"x": 1}, {"x": 1}),
        (Annotated[int, "of something"], 3, 3),
        (Colour, "red", Colour.RED),
        (Table | str, {"x": 1}, Table(1)),
        (Table | str, "x", "x"),
    ],
    ids=str,
)
def test_a_value_is_read_as_its_type(kind: Any, value: Any, expected: Any) -> None:
    found, mistakes = read(value, kind)
    assert (found, type(found), mistakes) == (expected, type(expected), [])


@pytest.mark.parametrize(
    ("kind", "value", "mistakes"),
    [
        (bool, "false", ['must be true or false, not the text "false" / Write false, without quotes.']),
        (bool, "True", ['must be true or false, not the text "True" / Write true, without quotes.']),
        (bool, 1, ["must be true or false, not 1"]),
        (int, True, ["must be a whole number, not true"]),
        (int, 3.7, ["must be a whole number, not 3.7"]),
        (int, 3.0, ["must be a whole number, not 3.0 / Write 3."]),
        (int, "3", ['must be a whole number, not the text "3" / Write 3, without quotes.']),
        (int, "3.5", ['must be a whole number, not the text "3.5"']),
        (int, DATE, ["must be a whole number, not the date or time 1979-05-27"]),
        (float, "1e-4", ['must be a number, not the text "1e-4" / Write 1e-4, without quotes.']),
        (float, "nan", ['must be a number, not the text "nan"']),
        (float, False, ["must be a number, not false"]),
        (float, float("inf"), ["must be a finite number, not inf"]),
        (float, [], ["must be a number, not an empty list"]),
        (str, 3, ['must be text, not 3 / Write "3", in quotes.']),
        (str, ["x"], ["must be text, not a list"]),
        (str, {}, ["must be text, not a table"]),
        (Literal["lora", "full"], "lroa", ['must be "lora" or "full", not the text "lroa" / Did you mean "lora"?']),
        (Literal["lora", "full"], "xyz", ['must be "lora" or "full", not the text "xyz"']),
        (Literal[1, 2], True, ["must be 1 or 2, not true"]),
        (int | float, "x", ['must be a number, not the text "x"']),
        (Literal["all"] | list[int], "some", ['must be "all" or a list of whole numbers, not the text "some"']),
        (list[int], 3, ["must be a list of whole numbers, not 3 / Write it in brackets: [...]."]),
        (list[int], "x", ['must be a list of whole numbers, not the text "x"']),
        (list[int], ["x", 1, 2.5], ['[0]: must be a whole number, not the text "x"', "[2]: must be a whole number, not 2.5"]),
        (tuple[int, int, int], [1, 2], ["must be a list of 3 whole numbers, not of 2"]),
        (tuple[int, int, int], 1, ["must be a list of 3 whole numbers, not 1"]),
        (tuple[float, ...], [True], ["[0]: must be a number, not true"]),
        (dict[str, int], [1], ["must be a table, not a list"]),
        (dict[str, int], {"a": "x", "b c": 1.5}, ['a: must be a whole number, not the text "x"', '"b c": must be a whole number, not 1.5']),
        (str, "", []),
        (int, "x" * 50, [f'must be a whole number, not the text "{"x" * 37}..."']),
    ],
    ids=str,
)
def test_a_value_of_another_type_is_refused(kind: Any, value: Any, mistakes: list[str]) -> None:
    assert read(value, kind)[1] == mistakes


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (int | float | Path | None, "a number or a path"),
        (list[bool], "a list of truth values"),
        (list[Path], "a list of paths"),
        (tuple[str, str], "a list of 2 texts"),
        (dict[str, int], "a table"),
        (Table, "a table"),
        (Colour, "a Colour"),
        (list, "a list"),
    ],
    ids=str,
)
def test_a_type_is_named_in_words(kind: Any, words: str) -> None:
    assert wanted(kind) == words


def test_a_date_is_described_as_one() -> None:
    assert described(DATE) == "the date or time 1979-05-27"


def test_a_key_path_is_spelled_as_one_would_write_it() -> None:
    assert spelled(("a", "b c", 0, "d-e", 12, "ü")) == 'a."b c"[0].d-e[12]."ü"'
    assert spelled(()) == ""
