"""How long encoding takes is measured on its first samples, and told once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ltxcore.encode.pace import Pace, spelled


def told(caplog: pytest.LogCaptureFixture, total: int, workers: int, ends: list[float]) -> list[str]:
    """What is said of samples that end at some times, in seconds."""
    caplog.set_level("INFO", "ltx")
    clock: Iterator[float] = iter([0.0])
    pace = Pace("media", total, workers, lambda: next(clock))
    for end in ends:
        clock = iter([end])
        pace.step()
    return [record.message for record in caplog.records]


def test_the_weights_that_the_first_round_reads_do_not_count(caplog: pytest.LogCaptureFixture) -> None:
    ends = [300.0, 300.0, *(300.0 + 20 * (number // 2) for number in range(2, 100))]
    (said,) = told(caplog, 100, 2, ends)
    assert said == "media: 5 of 100 are encoded, the last 3 in 40 seconds: about 21 minutes left"


def test_one_round_is_measured_where_there_are_no_more_than_two(caplog: pytest.LogCaptureFixture) -> None:
    assert told(caplog, 12, 8, [30.0] * 8 + [45.0] * 4) == ["media: 8 of 12 are encoded, the last 8 in 30 seconds: about 15 seconds left"]


def test_nothing_is_told_where_the_end_is_near(caplog: pytest.LogCaptureFixture) -> None:
    assert told(caplog, 12, 2, [float(number) for number in range(12)]) == []
    assert told(caplog, 4, 8, [50.0] * 4) == []


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.7, "1 second"), (42.4, "42 seconds"), (100, "2 minutes"), (3600, "60 minutes"), (9000, "2.5 hours")]
)
def test_durations_are_rounded_to_what_one_plans_with(seconds: float, said: str) -> None:
    assert spelled(seconds) == said
