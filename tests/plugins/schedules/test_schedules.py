"""The schedules that come with ltx: each keeps to the protocol. Their numbers are in the tests of the engines."""

from __future__ import annotations

import pytest

from ltxcore.registry import load
from ltxcore.testing import check_schedule
from ltxplugins.schedules.warmup_stable_decay import WarmupStableDecay

OURS = {name: named.value for name, named in load().of_kind("schedule").items() if named.origin.distribution == "ltx"}


@pytest.mark.parametrize("name", OURS)
def test_each_keeps_to_the_protocol(name: str) -> None:
    check_schedule(OURS[name])


@pytest.mark.parametrize(
    ("shape", "end", "expected"),
    [("linear", 0.0, [1, 1, 1, 0.75, 0.5, 0.25, 0, 0]), ("linear", 0.5, [1, 1, 1, 0.875, 0.75, 0.625, 0.5, 0.5]), ("sqrt", 0.0, [1, 1, 1, 0.5, 1 - 0.5**0.5])],
)  # fmt: skip
def test_what_is_stable_decays_at_the_end(shape: str, end: float, expected: list[float]) -> None:
    made = WarmupStableDecay(decay=2 / 3, end_factor=end, shape=shape)
    assert [made.factor(step, 6) for step in range(len(expected))] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "key", "least"),
    [("step", "step_size", 1), ("cosine", "T_max", 1), ("linear", "total_iters", 0), ("polynomial", "total_iters", 0)],
)
def test_a_number_of_steps_is_not_negative(name: str, key: str, least: int) -> None:
    OURS[name](**{key: least})
    with pytest.raises(ValueError, match=f"'{key}' must be >= {least}: {least - 1}"):
        OURS[name](**{key: least - 1})
