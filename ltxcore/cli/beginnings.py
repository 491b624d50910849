"""The templates of `ltx plugins new`, by kind of plugin: a plugin that works, and its tests."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ltxcore.cli.beginning import Beginning
from ltxcore.cli.beginning_of_adapters import ADAPTER
from ltxcore.cli.beginning_of_column import COLUMN
from ltxcore.cli.beginning_of_command import COMMAND
from ltxcore.cli.beginning_of_exporter import EXPORTER
from ltxcore.cli.beginning_of_filter import REFERENCE_FILTER
from ltxcore.cli.beginning_of_objective import OBJECTIVE
from ltxcore.cli.beginning_of_quantizer import QUANTIZER
from ltxcore.cli.beginning_of_sigma_sampler import SIGMA_SAMPLER
from ltxcore.cli.beginning_of_source import SOURCE
from ltxcore.cli.beginning_of_strategy import STRATEGY
from ltxcore.cli.beginning_of_tracker import TRACKER

CONDITION = Beginning(
    does="every other latent frame of a clip, or latent step of a sound, is given",
    made="gives every other latent frame",
    use="""\
[training_strategy.video]
is_generated = true
latents_dir = "latents"
conditions = [{ type = "$name", every = 2 }]""",
    method="apply",
    change="give what you want",
    module='''\
"""Every n-th latent frame of a clip, or latent step of a sound, is given."""

import attrs
from ltxcore.api import Inputs, LatentState, hookimpl


@attrs.frozen
class $cls:
    """Give every n-th latent frame of a clip, or latent step of a sound."""

    modalities = frozenset({"video", "audio"})
    content = "whole"  # when sampling, its medium covers the "start" of the target, its "end", or the "whole"

    every: int = attrs.field(
        default=2,
        validator=attrs.validators.ge(2),
        metadata={"help": "distance from one given latent frame to the next", "unit": "latent frames"},
    )

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        """Give tokens; `state.grid.frame`, `.row` and `.column` say where each of them lies."""
        return state.given(state.grid.frame % self.every == self.every - 1)


@hookimpl
def ltx_conditions() -> dict[str, type]:
    return {"$name": $cls}
''',
    test='''\
"""Test that $name follows the protocol and gives what it should."""

import pytest
import torch
from ltxcore.api import Grid, Inputs, LatentState
from ltxcore.testing import check_condition, check_imports_lightly

from $module import $cls


@pytest.mark.parametrize("every", [2, 3])
def test_it_follows_the_protocol(every: int) -> None:
    check_condition($cls(every))


def test_it_costs_other_commands_nothing() -> None:
    check_imports_lightly("$module")


def test_every_third_latent_step_is_given() -> None:
    grid = Grid(7, scale=(4, 1, 1))
    clean, positions = torch.zeros(1, 7, 4), torch.zeros(1, 1, 7, 2)
    state = LatentState.start("audio", grid, torch.tensor([25.0]), clean, positions)
    after = $cls(every=3).apply(state, Inputs())
    assert (1 - after.denoise_mask).tolist() == [[0, 0, 1, 0, 0, 1, 0]]
''',
)

OPTIMIZER = Beginning(
    does="gradient descent with momentum",
    made="is gradient descent with momentum",
    use="""\
[optimization]
optimizer_type = "$name"
optimizer_params = { momentum = 0.9 }
learning_rate = 1e-2""",
    method="build",
    change="make the optimizer that you want",
    module='''\
"""Gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

import attrs
from ltxcore.api import hookimpl
from ltxcore.api.optimizers import ParameterGroup

if TYPE_CHECKING:
    from torch.optim import Optimizer


@attrs.frozen
class $cls:
    """Gradient descent with momentum: each weight follows a running mean of its gradient."""

    momentum: float = attrs.field(
        default=0.9,
        validator=[attrs.validators.ge(0), attrs.validators.lt(1)],
        metadata={"help": "share of the running mean that is kept from step to step"},
    )

    def build(self, groups: Sequence[ParameterGroup]) -> Optimizer:
        """Import heavy packages here, so that no other command waits for them."""
        from torch.optim import SGD

        return SGD([group.torch_group() for group in groups], momentum=self.momentum)

    def state_bytes(self, name: str, shape: tuple[int, ...]) -> int:
        """Return the bytes of one float32 number for each weight."""
        return 4 * prod(shape) if self.momentum else 0


@hookimpl
def ltx_optimizers() -> dict[str, type]:
    return {"$name": $cls}
''',
    test='''\
"""Test that $name follows the protocol and does what it should."""

import pytest
import torch
from ltxcore.api.optimizers import ParameterGroup
from ltxcore.testing import check_imports_lightly, check_optimizer
from torch.nn import Parameter

from $module import $cls


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_it_follows_the_protocol(momentum: float) -> None:
    check_optimizer($cls(momentum))


def test_it_costs_other_commands_nothing() -> None:
    check_imports_lightly("$module")


def test_a_first_step_is_the_gradient_times_the_learning_rate() -> None:
    weight = Parameter(torch.ones(2))
    optimizer = $cls().build([ParameterGroup({"weight": weight}, learning_rate=0.1, weight_decay=0.0)])
    weight.grad = torch.tensor([1.0, -2.0])
    optimizer.step()
    assert weight.tolist() == pytest.approx([0.9, 1.2])
''',
)

SCHEDULE = Beginning(
    does="the learning rate falls by the same factor in every step",
    made="falls by the same factor in every step",
    use="""\
[optimization]
scheduler_type = "$name"
scheduler_params = { last = 0.01 }
warmup_steps = 0.05""",
    method="factor",
    change="give the learning rates that you want",
    module='''\
"""The learning rate falls by the same factor in every step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from ltxcore.api import hookimpl

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler


@attrs.frozen
class $cls:
    """Fall by the same factor in every step."""

    last: float = attrs.field(
        default=0.01,
        validator=[attrs.validators.gt(0), attrs.validators.le(1)],
        metadata={"help": "factor by which the learning rate is multiplied in the last step"},
    )

    def factor(self, step: int, steps: int) -> float:
        """Return the factor by which the learning rate of a step is multiplied; steps are counted from 0."""
        return self.last ** (step / max(1, steps - 1))

    def build(self, optimizer: Optimizer, steps: int) -> LRScheduler:
        """Import heavy packages here, so that no other command waits for them."""
        from torch.optim.lr_scheduler import LambdaLR

        return LambdaLR(optimizer, lambda step: self.factor(step, steps))


@hookimpl
def ltx_schedules() -> dict[str, type]:
    return {"$name": $cls}
''',
    test='''\
"""Test that $name follows the protocol and gives what it should."""

import pytest
from ltxcore.testing import check_imports_lightly, check_schedule

from $module import $cls


@pytest.mark.parametrize("last", [0.01, 1.0])
def test_it_follows_the_protocol(last: float) -> None:
    check_schedule($cls(last))


def test_it_costs_other_commands_nothing() -> None:
    check_imports_lightly("$module")


def test_half_way_it_is_the_root_of_the_end() -> None:
    assert [$cls(0.01).factor(step, 5) for step in (0, 2, 4)] == pytest.approx([1.0, 0.1, 0.01])
''',
)

BEGINNINGS: Mapping[str, Beginning] = MappingProxyType(
    {
        "condition": CONDITION,
        "objective": OBJECTIVE,
        "adapter": ADAPTER,
        "optimizer": OPTIMIZER,
        "schedule": SCHEDULE,
        "quantizer": QUANTIZER,
        "source": SOURCE,
        "exporter": EXPORTER,
        "column": COLUMN,
        "strategy": STRATEGY,
        "sigma_sampler": SIGMA_SAMPLER,
        "reference_filter": REFERENCE_FILTER,
        "tracker": TRACKER,
        "command": COMMAND,
    }
)
