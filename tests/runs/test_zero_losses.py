"""A loss that is 0 in every step is told once, when it has been so for long enough."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

import pytest

from ltxcore.runs.zero_losses import ENOUGH, ZeroLosses


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING, logger="ltx")
    return caplog


def told(warned: pytest.LogCaptureFixture, objectives: Iterable[str], steps: Sequence[Mapping[str, float]]) -> list[tuple[int, str]]:
    """The steps after which there is a warning, and its beginning."""
    zeros, found = ZeroLosses.of(objectives), []
    for step, metrics in enumerate(steps, start=1):
        warned.clear()
        zeros.log(step, metrics)
        found += [(step, message.partition(":")[0]) for message in warned.messages]
    return found


def test_a_loss_that_is_0_in_every_step_is_told_once_and_no_other_is(warned: pytest.LogCaptureFixture) -> None:
    step = {"loss": 1.0, "loss/audio": 1.0, "loss/flow_matching/audio": 2.0, "loss/change": 0.0, "loss/change/audio": 0.0}
    assert told(warned, ["flow_matching", "change"], [step] * 3 * ENOUGH) == [
        (20, "nothing has been learned from loss/change/audio, which was 0 in each of 20 steps")
    ]


def test_a_loss_that_was_ever_above_0_is_not_told(warned: pytest.LogCaptureFixture) -> None:
    assert told(warned, [], [{"loss/video": 1.0 if step == 5 else 0.0} for step in range(3 * ENOUGH)]) == []


def test_steps_in_which_an_objective_is_not_learned_do_not_count(warned: pytest.LogCaptureFixture) -> None:
    steps = [{"loss/change/video": 0.0} if step % 2 else {} for step in range(3 * ENOUGH)]
    assert [step for step, _ in told(warned, ["change"], steps)] == [2 * ENOUGH]


def test_losses_that_are_0_together_are_told_together(warned: pytest.LogCaptureFixture) -> None:
    assert told(warned, [], [{"loss/video": 0.0, "loss/audio": 0.0}] * ENOUGH) == [
        (20, "nothing has been learned from loss/video, loss/audio, which were 0 in each of 20 steps")
    ]
