"""The best checkpoint: which measurement is the best, what counts in it, and when a run has stopped getting better."""

from __future__ import annotations

import json
import math

import pytest

from ltxcore.errors import ConfigError
from ltxcore.train.best import PREFIX, Best


def measurement(video: float, audio: float, applied: float = 0.0) -> dict[str, float]:
    found = {f"{PREFIX}clips": 4.0}
    for sigma in ("sigma_0.50", "sigma_0.90"):
        found |= {f"{PREFIX}video/{sigma}": video, f"{PREFIX}audio/{sigma}": audio, f"half_width_95/{PREFIX}audio/{sigma}": 9.0}
        found |= {f"{PREFIX}audio/{sigma}/audio.cond0.mask/applied": applied, f"held_out/other_context/audio/{sigma}": 7.0}
    return found


def test_the_loss_is_the_mean_over_modalities_and_sigmas_in_the_clips_own_context() -> None:
    assert Best().loss(measurement(1.0, 2.0)) == 1.5


@pytest.mark.parametrize(("by", "loss"), [("audio", 2.0), ("video/sigma_0.90", 1.0), ("audio/sigma_0.50/audio.cond0.mask/applied", 3.0)])
def test_a_part_of_it_counts_alone_where_asked(by: str, loss: float) -> None:
    assert Best(by).loss(measurement(1.0, 2.0, 3.0)) == loss


def test_a_part_that_is_not_measured_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match='"sound" is no part of the validation loss') as error:
        Best("sound").loss(measurement(1.0, 2.0))
    assert "Name one of audio, " in str(error.value)


def test_a_lower_loss_is_the_best_and_others_are_counted_since() -> None:
    best = Best(stop_after=2)
    said = [best.measured(step, measurement(loss, loss)) for step, loss in ((10, 2.0), (20, 1.0), (30, 1.0))]
    assert said == [True, True, False]
    assert (best.value, best.step, best.since, best.is_over) == (1.0, 20, 1, False)
    assert not best.measured(40, measurement(3.0, 3.0))
    assert best.is_over
    assert best.reason == "the validation loss has not fallen for 2 measurements; it was lowest, 1.0000, after step 20"


def test_a_loss_that_is_no_number_is_never_the_best() -> None:
    best = Best()
    assert not best.measured(10, measurement(math.nan, 1.0))
    assert best.measured(20, measurement(5.0, 5.0))


def test_without_a_limit_a_run_never_ends_early() -> None:
    best = Best()
    for step in range(100):
        best.measured(step, measurement(1.0, 1.0))
    assert not best.is_over


@pytest.mark.parametrize("measured", [0, 3])
def test_another_process_goes_on_from_what_was_saved(measured: int) -> None:
    first, second = Best(stop_after=9), Best(stop_after=9)
    for step in range(measured):
        first.measured(step, measurement(1.0 + step, 1.0))
    second.restore(json.loads(json.dumps(first.state())))
    assert second == first
