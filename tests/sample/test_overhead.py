"""What sampling costs beside the passes of the model that it must make."""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from measure_sampling import STEPS, asked, overheads, random_model


def test_the_overhead_is_measured_on_a_model_of_about_32_million_parameters_with_four_passes_a_step() -> None:
    backbone = random_model()
    assert sum(parameter.numel() for parameter in backbone.parameters()) == pytest.approx(32e6, rel=0.05)
    for sample in asked(backbone.info):
        request = sample.canvas.request
        assert (request.steps, request.generated) == (STEPS, {"video", "audio"})
        assert all(scale.cfg != 1 and scale.stg != 0 and scale.modality != 1 for scale in request.scales.values())


@pytest.mark.slow
def test_sampling_takes_at_most_a_tenth_longer_than_its_passes() -> None:
    assert median(overheads(rounds=1)) < 1.1
