"""The template of `ltx plugins new` for sigma samplers: one that works, and its tests."""

from __future__ import annotations

from ltxcore.cli.beginning import Beginning

SIGMA_SAMPLER = Beginning(
    does="noise levels are drawn near the middle",
    made="draws noise levels near the middle",
    use="""\
[flow_matching]
timestep_sampling_mode = "$name"
timestep_sampling_params = { count = 4 }""",
    method="sample",
    change="draw the noise levels that you want",
    module='''\
"""Noise levels near the middle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from ltxcore.api import Draws, hookimpl

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen
class $cls:
    """Draw the mean of several uniform numbers."""

    count: int = attrs.field(
        default=3,
        validator=attrs.validators.ge(1),
        metadata={"help": "number of uniform numbers that a noise level is the mean of"},
    )

    def sample(self, draws: Draws, key: str, tokens: int) -> Tensor:
        """Return noise levels in [0, 1], `[B]`. All random numbers come from `draws`, so that a run resumes exactly."""
        return draws.uniform(f"{key}.$name", (self.count,)).mean(dim=1)


@hookimpl
def ltx_sigma_samplers() -> dict[str, type]:
    return {"$name": $cls}
''',
    test='''\
"""Test that $name draws what it should."""

from __future__ import annotations

import pytest
import torch
from ltxcore.testing import check_imports_lightly
from torch import Tensor

from $module import $cls


class Drawn:
    """Random numbers for a thousand samples, in place of those of a run."""

    def uniform(self, key: str, shape: tuple[int, ...] = ()) -> Tensor:
        assert key.startswith("video.")
        return torch.rand(1000, *shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("count", [1, 12])
def test_noise_levels_lie_between_0_and_1(count: int) -> None:
    found = $cls(count).sample(Drawn(), "video", tokens=64)
    assert found.shape == (1000,)
    assert 0 <= found.min() <= found.max() <= 1


def test_it_costs_other_commands_nothing() -> None:
    check_imports_lightly("$module")


def test_more_numbers_draw_nearer_to_the_middle() -> None:
    few, many = ($cls(count).sample(Drawn(), "video", tokens=64) for count in (1, 12))
    assert many.std() < few.std() / 2
    assert many.mean().item() == pytest.approx(0.5, abs=0.02)
''',
)
