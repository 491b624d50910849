"""Places and round numbers on the scale of a chart."""

from __future__ import annotations

import pytest

from ltxcore.scale import Scale, short_number


def test_the_ends_of_a_scale_are_the_ends_of_its_chart_and_a_value_between_lies_in_proportion() -> None:
    down = Scale(-1.0, 3.0, 250.0, 10.0)
    assert [down(value) for value in (-1.0, 0.0, 3.0)] == [250.0, 190.0, 10.0]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.13, 0.37, [0.15, 0.2, 0.25, 0.3, 0.35]),
        (0.0, 4321.0, [0, 1000, 2000, 3000, 4000]),
        (-1.0, 1.0, [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_the_numbers_along_a_scale_are_round_and_no_further_apart_than_asked(low: float, high: float, expected: list[float]) -> None:
    scale = Scale(low, high, 0.0, 1.0)
    assert scale.ticks(5) == expected
    assert scale.step(5) == pytest.approx(expected[1] - expected[0])


@pytest.mark.parametrize(
    ("value", "said"), [(0, "0"), (12345.6, "12,346"), (0.5, "0.5"), (0.00025, "2.5e-4"), (0.0001, "1e-4"), (1.23456, "1.235")]
)
def test_numbers_are_short(value: float, said: str) -> None:
    assert short_number(value) == said
