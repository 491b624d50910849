"""The noise levels of sampling, against the recording and the formula."""

import math

import pytest
import torch

from helpers.golden_io import load_case
from ltxcore.errors import ConfigError
from ltxcore.sample.schedule import schedule


@pytest.mark.parametrize("steps", [8, 30])
def test_the_levels_agree_with_the_recording(steps: int) -> None:
    case = load_case("08_sampler", f"ltx2_scheduler.steps{steps}")
    torch.testing.assert_close(schedule(steps), case.outputs["sigmas.default_4096"], **case.tolerance)


def test_the_levels_follow_the_formula_and_end_at_a_tenth_and_zero() -> None:
    shifted = [math.exp(2.05) / (math.exp(2.05) + 1 / (1 - i / 5) - 1) for i in range(5)]
    expected = [1 - (1 - s) * 0.9 / (1 - shifted[-1]) for s in shifted] + [0.0]
    assert schedule(5).tolist() == pytest.approx(expected, abs=1e-7)
    assert schedule(5)[-2:].tolist() == pytest.approx([0.1, 0.0])


def test_one_step_is_refused() -> None:
    with pytest.raises(ConfigError) as error:
        schedule(1)
    assert str(error.value) == "validation.inference_steps: sampling takes at least 2 steps, not 1\n    30 is usual."
