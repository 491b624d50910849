"""The conformance kit says of every wrong objective what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor

from ltxcore.api import Role
from ltxcore.api.objectives import Pass, Prepared
from ltxcore.errors import ConfigError
from ltxcore.testing import check_objective

Losses = Mapping[str, Tensor]


@attrs.frozen
class Base:
    """Right: the squared error of target tokens, by a rule that each class below spoils in one way."""

    passes = (Pass("model"),)

    def loss(self, predicted: Mapping[str, Losses], prepared: Prepared) -> Any:
        return {
            name: self.of(predicted["model"][name], given.velocity, name, prepared)
            for name, given in prepared.inputs["model"].items()
            if given.velocity is not None
        }

    def of(self, predicted: Tensor, target: Tensor, name: str, prepared: Prepared) -> Any:
        return (predicted[:, : target.shape[1]] - target).square().mean(dim=(1, 2))


def test_an_objective_that_is_right_passes() -> None:
    check_objective(Base())


@attrs.frozen
class Change(Base):
    """Right: the squared error of the change from frame to frame, by the grid of the inputs."""

    def loss(self, predicted: Mapping[str, Losses], prepared: Prepared) -> Any:
        losses = {}
        for name, given in prepared.inputs["model"].items():
            if given.velocity is not None and given.grid is not None:
                cells = (given.grid.frames, given.grid.height, given.grid.width)
                away = (predicted["model"][name][:, : given.velocity.shape[1]] - given.velocity).unflatten(1, cells).diff(dim=1)
                losses[name] = away.square().sum(dim=(1, 2, 3, 4)) / max(away[0].numel(), 1)
        return losses


def test_an_objective_that_compares_frames_passes() -> None:
    check_objective(Change())


@attrs.frozen
class Scalar(Base):
    def of(self, predicted: Tensor, target: Tensor, name: str, prepared: Prepared) -> Any:
        return super().of(predicted, target, name, prepared).mean()


@attrs.frozen
class Half(Base):
    def of(self, predicted: Tensor, target: Tensor, name: str, prepared: Prepared) -> Any:
        return super().of(predicted, target, name, prepared).bfloat16()


@attrs.frozen
class Infinite(Base):
    def of(self, predicted: Tensor, target: Tensor, name: str, prepared: Prepared) -> Any:
        return super().of(predicted, target, name, prepared) / 0


@attrs.frozen
class Crowd(Base):
    def of(self, predicted: Tensor, target: Tensor, name: str, prepared: Prepared) -> Any:
        each = super().of(predicted, target, name, prepared)
        return each - each.mean()


@attrs.frozen
class Later(Base):
    """The loss of each sample but the last is that of the next sample too."""

    def of(self, predicted: Tensor, target: Tensor, name: str, prepared: Prepared) -> Any:
        each = super().of(predicted, target, name, prepared)
        return torch.cat([each[:-1] + each[1:], each[-1:]])


@attrs.frozen
class Appended(Base):
    def of(self, predicted: Tensor, target: Tensor, name: str, prepared: Prepared) -> Any:
        return predicted.square().mean(dim=(1, 2))


@attrs.frozen
class Random(Base):
    def of(self, predicted: Tensor, target: Tensor, name: str, prepared: Prepared) -> Any:
        return super().of(predicted, target, name, prepared) * torch.rand(())


@attrs.frozen
class InPlace(Base):
    def of(self, predicted: Tensor, target: Tensor, name: str, prepared: Prepared) -> Any:
        return super().of(predicted, target.mul_(2), name, prepared)


@attrs.frozen
class Detached(Base):
    def of(self, predicted: Tensor, target: Tensor, name: str, prepared: Prepared) -> Any:
        return super().of(predicted.detach(), target, name, prepared)


@attrs.frozen
class Raises(Base):
    def of(self, predicted: Tensor, target: Tensor, name: str, prepared: Prepared) -> Any:
        raise KeyError(name)


@attrs.frozen
class Refuses(Base):
    def of(self, predicted: Tensor, target: Tensor, name: str, prepared: Prepared) -> Any:
        raise ConfigError("no")


@attrs.frozen
class Weighed(Base):
    def of(self, predicted: Tensor, target: Tensor, name: str, prepared: Prepared) -> Any:
        each = super().of(predicted, target, name, prepared)
        if each.requires_grad:
            each.register_hook(torch.sign)
        return each


@attrs.frozen
class Needy(Base):
    def of(self, predicted: Tensor, target: Tensor, name: str, prepared: Prepared) -> Any:
        each = super().of(predicted, target, name, prepared)
        each.retain_grad()
        return each


@attrs.frozen
class Listed(Base):
    def loss(self, predicted: Mapping[str, Losses], prepared: Prepared) -> Any:
        return list(super().loss(predicted, prepared).values())


@attrs.frozen
class Frozen(Base):
    def loss(self, predicted: Mapping[str, Losses], prepared: Prepared) -> Any:
        return {name: each.square().mean(dim=(1, 2)) for name, each in predicted["model"].items()}


@attrs.frozen
class ByData(Base):
    def loss(self, predicted: Mapping[str, Losses], prepared: Prepared) -> Any:
        found = super().loss(predicted, prepared)
        return found if len(next(iter(found.values()))) > 1 else dict(list(found.items())[1:])


@attrs.frozen
class Unused(Base):
    passes = (Pass("model"), Pass("other"))


@attrs.frozen
class Averaged(Base):
    passes = (Pass("model", weights="ema"),)


@attrs.frozen
class Without(Base):
    passes = (Pass("model", gradient=False),)


@attrs.frozen
class Untyped(Base):
    share = attrs.field(default=1.0)


@attrs.frozen
class Heavy(Base):
    weight: float = 1.0


@attrs.frozen
class OfNone(Base):
    roles = (Role("face", source_key="face_dir", kind="mask"),)


@attrs.frozen
class ForgetsItsRole(Base):
    roles = (
        Role("face", source_key="face_dir", kind="mask", modality="video"),
        Role("word", source_key="word_dir", kind="mask", modality="audio"),
    )

    def of(self, predicted: Tensor, target: Tensor, name: str, prepared: Prepared) -> Any:
        prepared.masks.get("face")
        return super().of(predicted, target, name, prepared)


@pytest.mark.parametrize(
    ("objective", "told"),
    [
        (Scalar, "it must be one float32 number per sample, [B]"),
        (Half, "it must be one float32 number per sample, [B]"),
        (Infinite, "that is not finite"),
        (Crowd, "returns a different loss for a single sample than for the same sample in a micro-batch"),
        (Later, "returns a different loss for a single sample than for the same sample in a micro-batch"),
        (Appended, "reads what is predicted for appended tokens"),
        (Random, "draws from the global random number generator"),
        (InPlace, "in place; make new tensors instead"),
        (Detached, 'never has a gradient in its pass "model"'),
        (Raises, "raises KeyError from loss(): 'video'; seen on"),
        (Refuses, "refuses from loss() with 'no'; unsupported settings must be refused when the keys are read"),
        (Weighed, "has a gradient that is not proportional to its weight"),
        (Needy, "raises RuntimeError from loss() for a sample alone, without gradients"),
        (Listed, "returns list from loss(); it must return a mapping from modalities to losses"),
        (Frozen, "has losses of ['audio', 'video'], but only audio is generated"),
        (ByData, "returns losses of different modalities for a single sample"),
        (Unused, 'never has a gradient in its pass "other"; give it gradient=False'),
        (Averaged, 'has a pass "model" with averaged weights, in which nothing is trained; give it gradient=False'),
        (Without, "has no pass with a gradient, so nothing could be learned from it"),
        (Untyped, 'has a field "share" without a type'),
        (Heavy, 'has a field or role "weight", which is already the name of another key'),
        (ForgetsItsRole, '\n  - has the role "word", but never asks for its data, so the key word_dir has no effect'),
        (OfNone, 'has a role "face" that is not a "mask" of a modality'),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_what_is_wrong_is_told(objective: Any, told: str) -> None:
    with pytest.raises(AssertionError) as error:
        check_objective(objective)
    assert str(error.value).startswith(f"{objective.__name__} breaks the protocol of objectives:")
    assert told in str(error.value)
