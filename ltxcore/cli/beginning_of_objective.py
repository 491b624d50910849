"""The template of an objective for `ltx plugins new`."""

from __future__ import annotations

from ltxcore.cli.beginning import Beginning

OBJECTIVE = Beginning(
    does="large errors count by their size, and small errors by their square",
    made="counts large errors by their size, and small errors by their square",
    use="""\
[[objectives]]
type = "$name"
scale = 0.5
weight = 1.0""",
    method="loss",
    change="learn what you want",
    module='''\
"""Large errors count by their size, and small errors by their square."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs
from ltxcore.api import hookimpl
from ltxcore.api.objectives import Pass, Prepared

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen
class $cls:
    """Count errors that are much larger than the scale by their size, and much smaller ones by their square."""

    passes = (Pass("model"),)  # the forward passes that it needs; the core runs them, and the backward pass

    scale: float = attrs.field(
        default=1.0,
        validator=attrs.validators.gt(0),
        metadata={"help": "errors that are much larger than this count by their size", "unit": "velocity"},
    )

    def loss(self, predicted: Mapping[str, Mapping[str, Tensor]], prepared: Prepared) -> Mapping[str, Tensor]:
        """Return one number per sample for each modality; `given.velocity` is what the model should predict."""
        losses = {}
        for name, given in prepared.inputs["model"].items():
            if given.velocity is None or given.loss_mask is None:  # a frozen modality
                continue
            error = predicted["model"][name][:, : given.velocity.shape[1]] - given.velocity
            each = ((error / self.scale).square() + 1).sqrt().sub(1).mean(dim=-1)
            counted = given.loss_mask
            losses[name] = each.masked_fill(~counted, 0.0).sum(dim=1) / counted.sum(dim=1).clamp_min(1)
        return losses


@hookimpl
def ltx_objectives() -> dict[str, type]:
    return {"$name": $cls}
''',
    test='''\
"""Test that $name follows the protocol and does what it should."""

import pytest
import torch
from ltxcore.api import ModelInput
from ltxcore.api.objectives import Prepared
from ltxcore.testing import check_imports_lightly, check_objective

from $module import $cls


@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_it_keeps_to_the_protocol(scale: float) -> None:
    check_objective($cls(scale))


def test_it_costs_other_commands_nothing() -> None:
    check_imports_lightly("$module")


def test_an_error_that_is_a_hundred_times_the_scale_counts_by_its_size() -> None:
    tokens, mask = torch.zeros(1, 2, 4), torch.tensor([[True, False]])
    sigma, timesteps, positions = torch.ones(1), torch.ones(1, 2), torch.zeros(1, 1, 2, 2)
    velocity = torch.full((1, 2, 4), 100.0)
    given = ModelInput(tokens, sigma, timesteps, positions, tokens, velocity=velocity, loss_mask=mask)
    prepared = Prepared({"model": {"audio": given}}, {}, lambda predicted, inputs: {})
    losses = $cls().loss({"model": {"audio": tokens}}, prepared)
    assert losses["audio"].item() == pytest.approx(99, rel=1e-3)
''',
)
