"""The conformance kit says of every wrong optimizer, and of every wrong schedule, what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from ltxcore.api.optimizers import ParameterGroup
from ltxcore.testing import check_optimizer, check_schedule


class Descent(Optimizer):
    """Right: gradient descent with a running mean, by a rule that each class below spoils in one way."""

    def __init__(self, groups: list[dict[str, Any]], rule: Callable[[Descent, dict[str, Any], Tensor, Tensor], Tensor]) -> None:
        super().__init__(groups, {"done": 0})
        self.rule = rule
        self.hidden = 0

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        self.hidden += 1
        for group in self.param_groups:
            group["done"] += 1
            for parameter in group["params"]:
                mean = self.state[parameter].setdefault("mean", torch.zeros_like(parameter))
                mean.lerp_(parameter.grad, 0.5)
                parameter.add_(self.rule(self, group, parameter, mean))


class Switching(Descent):
    def train(self) -> None:
        """Switch nothing."""

    def eval(self) -> None:
        """Forget how many steps were done."""
        self.param_groups[0]["done"] = 0


class Half(Descent):
    def train(self) -> None:
        """Have no eval()."""


def right(optimizer: Descent, group: dict[str, Any], weight: Tensor, mean: Tensor) -> Tensor:
    return -group["lr"] * (mean + group["weight_decay"] * weight) * (1 + 1 / group["done"])


@attrs.frozen
class Base:
    """Right."""

    size: int = 4

    def build(self, groups: Sequence[ParameterGroup]) -> Optimizer:
        return self.made([group.torch_group() for group in groups])

    def made(self, groups: list[dict[str, Any]]) -> Optimizer:
        return Descent(groups, type(self).rule)

    def state_bytes(self, name: str, shape: tuple[int, ...]) -> int | None:
        return self.size * prod(shape)

    rule = staticmethod(right)


@attrs.frozen
class Claims(Base):
    zero_stages = frozenset({2})


@attrs.frozen
class Alone(Base):
    """Right: it counts its steps for each weight."""

    updates_alone = True

    @staticmethod
    def rule(optimizer: Descent, group: dict[str, Any], weight: Tensor, mean: Tensor) -> Tensor:
        state = optimizer.state[weight]
        state["done"] = state.get("done", 0) + 1
        return right(optimizer, {**group, "done": state["done"]}, weight, mean)


@attrs.frozen
class Unknown(Base):
    def state_bytes(self, name: str, shape: tuple[int, ...]) -> int | None:
        return None


@pytest.mark.parametrize("cls", [Base, Claims, Alone, Unknown])
def test_one_that_is_right_passes(cls: type) -> None:
    check_optimizer(cls)


@attrs.frozen
class ForgetsDecay(Base):
    @staticmethod
    def rule(optimizer: Descent, group: dict[str, Any], weight: Tensor, mean: Tensor) -> Tensor:
        return -group["lr"] * mean


@attrs.frozen
class Away(Base):
    @staticmethod
    def rule(optimizer: Descent, group: dict[str, Any], weight: Tensor, mean: Tensor) -> Tensor:
        return -right(optimizer, group, weight, mean)


@attrs.frozen
class OwnRate(Base):
    @staticmethod
    def rule(optimizer: Descent, group: dict[str, Any], weight: Tensor, mean: Tensor) -> Tensor:
        return right(optimizer, {**group, "lr": 0.01}, weight, mean)


@attrs.frozen
class FirstRate(Base):
    @staticmethod
    def rule(optimizer: Descent, group: dict[str, Any], weight: Tensor, mean: Tensor) -> Tensor:
        return right(optimizer, {**group, "lr": optimizer.param_groups[0]["lr"]}, weight, mean)


@attrs.frozen
class FirstDecay(Base):
    @staticmethod
    def rule(optimizer: Descent, group: dict[str, Any], weight: Tensor, mean: Tensor) -> Tensor:
        return right(optimizer, {**group, "weight_decay": optimizer.param_groups[0]["weight_decay"]}, weight, mean)


@attrs.frozen
class LeastRate(Base):
    @staticmethod
    def rule(optimizer: Descent, group: dict[str, Any], weight: Tensor, mean: Tensor) -> Tensor:
        return right(optimizer, {**group, "lr": min(each["lr"] for each in optimizer.param_groups)}, weight, mean)


@attrs.frozen
class CountsForAll(Base):
    updates_alone = True


@attrs.frozen
class Hides(Base):
    @staticmethod
    def rule(optimizer: Descent, group: dict[str, Any], weight: Tensor, mean: Tensor) -> Tensor:
        return right(optimizer, {**group, "done": optimizer.hidden}, weight, mean)


@attrs.frozen
class LooksAtWhole(Claims):
    @staticmethod
    def rule(optimizer: Descent, group: dict[str, Any], weight: Tensor, mean: Tensor) -> Tensor:
        return right(optimizer, group, weight, mean / mean.norm().clamp(min=1))


@attrs.frozen
class LeavesVectors(Base):
    @staticmethod
    def rule(optimizer: Descent, group: dict[str, Any], weight: Tensor, mean: Tensor) -> Tensor:
        return right(optimizer, group, weight, mean) if weight.ndim > 1 else torch.zeros_like(weight)


@attrs.frozen
class Little(Base):
    def state_bytes(self, name: str, shape: tuple[int, ...]) -> int:
        return 1


@attrs.frozen
class NoOptimizer(Base):
    def made(self, groups: list[dict[str, Any]]) -> Any:
        return object()


@attrs.frozen
class Drops(Base):
    def made(self, groups: list[dict[str, Any]]) -> Optimizer:
        return SGD([{**group, "params": group["params"][:-1]} for group in groups], momentum=0.5)


@attrs.frozen
class Switched(Base):
    def made(self, groups: list[dict[str, Any]]) -> Optimizer:
        return Switching(groups, right)


@attrs.frozen
class Halved(Base):
    def made(self, groups: list[dict[str, Any]]) -> Optimizer:
        return Half(groups, right)


@attrs.frozen
class Fails(Base):
    def made(self, groups: list[dict[str, Any]]) -> Optimizer:
        raise KeyError("lr")


@attrs.frozen
class Everywhere(Base):
    zero_stages = frozenset({0})


@attrs.frozen
class Copies(Base):
    copies_in_step = 0.5


@attrs.frozen
class Untyped(Base):
    size = attrs.field(default=4)


@attrs.frozen
class Takes(Base):
    lr: float = 1.0


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        (ForgetsDecay, "trains the same with and without weight decay; use the weight decay of the groups, or set decays_weights = False"),
        (Away, "does not get closer, within 40 steps, to the point that all gradients point to"),
        (OwnRate, 'moves weights at a learning rate of 0: it does not look at the "lr" of its groups, which a schedule sets'),
        (FirstRate, 'moves weights of a group whose "lr" is 0, while that of another is not'),
        (FirstDecay, "ignores the weight decay of a second group"),
        (LeastRate, 'moves no weights of a group while the "lr" of another is 0'),
        (CountsForAll, "sets updates_alone, but trains differently if it updates one weight after another"),
        (
            Hides,
            "continues differently after it is resumed: everything that it keeps must be in its state, by parameter, and in its param_groups",
        ),
        (LooksAtWhole, "sets zero_stages, but trains differently on flat pieces of many weights, as ZeRO makes them"),
        (LeavesVectors, "never moves transformer_blocks.0.ff.net.2.bias"),
        (Little, "says that its state for transformer_blocks.0.ff.net.2.weight, of shape (64, 96), takes 1 bytes, but it takes 24576"),
        (NoOptimizer, "builds object, which is not a subclass of torch.optim.Optimizer"),
        (Drops, "does not have every parameter of its groups exactly once in its param_groups"),
        (Switched, "trains differently after eval() and train() than without them"),
        (Halved, "has only one of train() and eval(); it needs both or neither"),
        (Fails, "raises KeyError: 'lr'"),
        (Everywhere, "has zero_stages frozenset({0}); they must be a frozenset of 1, 2 and 3"),
        (Copies, "has copies_in_step 0.5; it must be a whole number of at least 0"),
        (Untyped, 'has a field "size" without a type, so a run file could have any value there'),
        (Takes, 'has a field "lr", which [optimization] itself sets for all optimizers'),
    ],
)
def test_one_that_is_wrong_is_told_what_is_wrong_with_it(cls: type, said: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check_optimizer(cls)
    assert str(caught.value) == f"{cls.__name__} breaks the protocol of optimizers:\n  - {said}"


# ---------------------------------------------------------------- schedules


class Hidden(LambdaLR):
    """Halves the learning rate in every step, and keeps in no state how often."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.hidden = 0
        super().__init__(optimizer, lambda step: 0.5**self.hidden)

    def step(self, epoch: int | None = None) -> None:
        self.hidden += 1
        super().step()

    def state_dict(self) -> dict[str, Any]:
        return {key: value for key, value in super().state_dict().items() if key != "hidden"}


@attrs.frozen
class Below:
    def build(self, optimizer: Optimizer, steps: int) -> LRScheduler:
        return LambdaLR(optimizer, lambda step: 1.0 - step)


@attrs.frozen
class Resumes:
    def build(self, optimizer: Optimizer, steps: int) -> LRScheduler:
        return Hidden(optimizer)


@attrs.frozen
class NoSchedule:
    def build(self, optimizer: Optimizer, steps: int) -> Any:
        return 1.0


@attrs.frozen
class Divides:
    def build(self, optimizer: Optimizer, steps: int) -> LRScheduler:
        return LambdaLR(optimizer, lambda step: 1 - step / (steps - 1))


ALL = "seen on a run of 1 steps, a run of 2 steps and 3 more"


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        (Below, "sets the learning rate of a step to -0.001; seen on a run of 3 steps, a run of 10 steps and 1 more"),
        (Resumes, "resumes with different learning rates: everything that it keeps must be in its state_dict(); seen on a run of 3 steps, a run of 10 steps and 1 more"),
        (NoSchedule, f"builds float, which is not a subclass of torch.optim.lr_scheduler.LRScheduler; {ALL}"),
        (Divides, "raises ZeroDivisionError: division by zero; seen on a run of 1 steps"),
    ],
)  # fmt: skip
def test_a_schedule_that_is_wrong_is_told_what_is_wrong_with_it(cls: type, said: str) -> None:
    with pytest.raises(AssertionError) as caught:
        check_schedule(cls)
    assert str(caught.value) == f"{cls.__name__} breaks the protocol of schedules:\n  - {said}"
