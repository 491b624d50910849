"""What the value of a key may be, which value a number stands for, and what it is called in metrics."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from ltxcore.drawn import Drawn, OneOf, Range, combinations, corners, drawn_part, first_value, spoken

NUMBERS = [index / 1000 for index in range(1000)]


def value(drawn: Drawn, number: float) -> Any:
    return drawn_part(drawn.parts, number)[1]


def test_every_whole_number_of_a_range_is_drawn_equally_often() -> None:
    assert Counter(value(Range(3, 7), number) for number in NUMBERS) == dict.fromkeys(range(3, 8), 200)


@pytest.mark.parametrize("drawn", [Range(1, 8), Range(0.25, 4.0), Range(0.3, 0.7), Range(0.1, 0.7, scale="log"), Range(-3.0, 0.7)])
def test_the_ends_of_a_range_are_reached_and_not_left(drawn: Range) -> None:
    values = [value(drawn, number) for number in (0.0, *NUMBERS, 1.0)]
    assert (values[0], values[-1]) == (drawn.min, drawn.max)
    assert all(drawn.min <= each <= drawn.max for each in values)
    assert values == sorted(values)


def test_equal_differences_are_equally_likely_and_equal_factors_on_a_log_scale() -> None:
    assert value(Range(1.0, 9.0), 0.5) == 5.0
    assert value(Range(1.0, 9.0, scale="log"), 0.5) == pytest.approx(3.0)


def test_one_of_several_is_drawn_as_often_as_its_weight_says() -> None:
    boxes = ((0, 0, 32, 64), (32, 0, 64, 64))
    assert Counter(value(OneOf(boxes, (1.0, 3.0)), number) for number in NUMBERS) == {boxes[0]: 250, boxes[1]: 750}
    assert Counter(value(OneOf(boxes), number) for number in NUMBERS) == {boxes[0]: 500, boxes[1]: 500}
    assert value(OneOf(boxes, (1.0, 3.0)), 1.0) == boxes[1]


def test_parts_that_may_or_may_not_fit_are_drawn_from_as_the_whole_is() -> None:
    for drawn in (Range(2, 9), Range(0.5, 2.0), Range(0.1, 10.0, scale="log"), OneOf((5, 3), (1.0, 2.0))):
        for number in (*NUMBERS, 1.0):
            assert drawn_part(drawn.fine_parts, number)[1] == pytest.approx(value(drawn, number), rel=1e-6)


def test_up_to_eight_values_are_named_and_more_are_named_by_the_bounds_of_eight_bins() -> None:
    assert [Range(1, 8).label(each) for each in (1, 8)] == ["1", "8"]
    assert list(dict.fromkeys(Range(1, 20).label(each) for each in range(1, 21))) == [
        *("1-3", "4-5", "6-8", "9-10", "11-13", "14-15", "16-18", "19-20")
    ]
    assert list(dict.fromkeys(Range(0.0, 4.0).label(4 * number) for number in NUMBERS)) == [
        *("0-0.5", "0.5-1", "1-1.5", "1.5-2", "2-2.5", "2.5-3", "3-3.5", "3.5-4")
    ]
    assert Range(0.0, 4.0).label(4.0) == "3.5-4"
    assert Range(0.01, 100.0, scale="log").label(1.5) == "1-3.16"
    assert Range(2.0, 2.0).label(2.0) == "2"


def test_values_from_a_list_are_named_by_themselves_or_many_by_their_size_or_place() -> None:
    assert [OneOf((True, False)).label(True), OneOf(("a/b", "c")).label("a/b")] == ["True", "a_b"]
    assert OneOf(((0, 0, 32, 64),)).label((0, 0, 32, 64)) == "0,0,32,64"
    numbers = OneOf((21, 1, 2, 3, 5, 8, 13, 34, 55, 89))
    assert [numbers.label(each) for each in (1, 2, 3, 89)] == ["1-2", "1-2", "3", "89"]
    many = OneOf(tuple((edge, edge) for edge in range(16)))
    assert [many.label((0, 0)), many.label((15, 15))] == ["number_1-2", "number_15-16"]


def test_every_combination_of_bounds_is_validated() -> None:
    drawn = {"length": Range(1, 8), "box": OneOf((1, 5, 9)), "same": Range(4, 4)}
    found = list(corners(drawn))
    assert len(found) == combinations(drawn) == 6
    assert found[0] == {"length": 1, "box": 1, "same": 4}
    assert found[-1] == {"length": 8, "box": 9, "same": 4}


def test_what_fits_is_found_among_all_values() -> None:
    assert combinations({"length": Range(1, 8, fit=True), "rate": Range(0.5, 2.0, fit=True), "box": OneOf((1, 2, 3))}) == 8 * 32 * 3


def test_values_are_said_as_a_run_file_writes_them() -> None:
    assert spoken({"length": 3, "box": (0, 0, 32, 64)}) == "length = 3, box = [0, 0, 32, 64]"
    assert spoken({"soft": True, "edge": "left"}) == 'soft = true, edge = "left"'


def test_what_a_key_is_drawn_from_is_said_in_a_few_words() -> None:
    assert [str(each) for each in (Range(1, 8), OneOf((3,)), OneOf((1, 3, 5)))] == ["1 to 8", "one of 1 value", "one of 3 values"]


@pytest.mark.parametrize(("written", "first"), [(3, 3), ({"min": 2, "max": 9}, 2), ({"one_of": [[1], [2]]}, [1]), ({"a": 1}, {"a": 1})])
def test_a_written_value_has_a_first(written: object, first: object) -> None:
    assert first_value(written) == first
