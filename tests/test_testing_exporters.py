"""The conformance kit says of every wrong exporter what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import attrs
import pytest
import torch
from torch import Tensor

from ltxcore.api.exporters import AdaptedModule
from ltxcore.testing import check_exporter


@attrs.frozen
class Right:
    """Right, in a way that each class below spoils in one point."""

    adapters: ClassVar[Any] = frozenset({"lora"})
    use: ClassVar[Any] = "Copy FILE."

    prefix: str = "x."

    def tensors(self, module: AdaptedModule) -> Mapping[str, Tensor]:
        a, b = module.tensors["lora_A.weight"], module.tensors["lora_B.weight"]
        return {f"{self.prefix}{module.path}.a": a, f"{self.prefix}{module.path}.b": b}

    def weight(self, file: Mapping[str, Tensor], path: str, base: Tensor) -> Tensor:
        return base + file[f"{self.prefix}{path}.b"] @ file[f"{self.prefix}{path}.a"]


@attrs.frozen
class NoAdapters(Right):
    adapters: ClassVar[Any] = frozenset()


@attrs.frozen
class UnknownAdapters(Right):
    adapters: ClassVar[Any] = frozenset({"thin"})


@attrs.frozen
class OtherBase(Right):
    needs_base: ClassVar[Any] = frozenset({"dora"})


@attrs.frozen
class OtherSaved(Right):
    loads_saved: ClassVar[Any] = frozenset({"loha"})


@attrs.frozen
class NotSaved(Right):
    loads_saved: ClassVar[Any] = frozenset({"lora"})


@attrs.frozen
class NoFrozenset(Right):
    in_float32: ClassVar[Any] = ("a",)


@attrs.frozen
class NoUse(Right):
    use: ClassVar[Any] = ""


@attrs.frozen
class Required(Right):
    name: str = attrs.field(kw_only=True)


@attrs.frozen
class Alpha(Right):
    """The rank is divided by, and no alpha was written that makes up for it."""

    def weight(self, file: Mapping[str, Tensor], path: str, base: Tensor) -> Tensor:
        return base + file[f"x.{path}.b"] @ file[f"x.{path}.a"] / file[f"x.{path}.a"].shape[0]


@attrs.frozen
class Halved(Right):
    """What it is given is changed in place, as the reference could be."""

    def tensors(self, module: AdaptedModule) -> Mapping[str, Tensor]:
        module.tensors["lora_A.weight"].mul_(0.5)
        return Right().tensors(module)


@attrs.frozen
class OneName(Right):
    def tensors(self, module: AdaptedModule) -> Mapping[str, Tensor]:
        return {"a": module.tensors["lora_A.weight"], "b": module.tensors["lora_B.weight"]}


@attrs.frozen
class Silent(Right):
    def tensors(self, module: AdaptedModule) -> Mapping[str, Tensor]:
        return {}


@attrs.frozen
class Whole(Right):
    def tensors(self, module: AdaptedModule) -> Mapping[str, Tensor]:
        return {**Right().tensors(module), f"x.{module.path}.rank": torch.tensor(4)}


@attrs.frozen
class OtherNames(Right):
    def weight(self, file: Mapping[str, Tensor], path: str, base: Tensor) -> Tensor:
        return base + file[f"y.{path}.b"] @ file[f"y.{path}.a"]


@attrs.frozen
class Unread(Right):
    def tensors(self, module: AdaptedModule) -> Mapping[str, Tensor]:
        return {**Right().tensors(module), f"x.{module.path}.alpha": torch.tensor(4.0)}


@attrs.frozen
class InPlace(Right):
    def weight(self, file: Mapping[str, Tensor], path: str, base: Tensor) -> Tensor:
        return base.add_(file[f"x.{path}.b"] @ file[f"x.{path}.a"])


@attrs.frozen
class Narrow(Right):
    def weight(self, file: Mapping[str, Tensor], path: str, base: Tensor) -> Tensor:
        return Right().weight(file, path, base).bfloat16()


@attrs.frozen
class Raises(Right):
    def tensors(self, module: AdaptedModule) -> Mapping[str, Tensor]:
        raise OverflowError("too much")


FIRST = "audio_patchify_proj"
WRONG: list[tuple[type, str]] = [
    (NoAdapters, "has adapters frozenset(); they must be a frozenset of types of adapters"),
    (UnknownAdapters, "takes the types of adapters ['thin'], none of which is installed"),
    (OtherBase, 'has "dora" in needs_base, which is not among its adapters'),
    (OtherSaved, 'has "loha" in loads_saved, which is not among its adapters'),
    (NotSaved, f"raises KeyError: 'x.{FIRST}.b'"),
    (NoFrozenset, "has in_float32 ('a',); it must be a frozenset of texts"),
    (NoUse, "has use ''; it must be a sentence"),
    (Alpha, f"writes tensors that do not give the trained weights of {FIRST}"),
    (Halved, f"writes tensors that do not give the trained weights of {FIRST}"),
    (OneName, "writes the name a for two modules"),
    (Silent, f"writes no tensor for {FIRST}"),
    (Whole, f"writes x.{FIRST}.rank, which is not a tensor of real numbers"),
    (OtherNames, f"raises KeyError for {FIRST}: 'y.{FIRST}.b'"),
    (Unread, f"writes x.{FIRST}.alpha, which weight() does not read"),
    (InPlace, "has a weight() that changes the matrix that it is given"),
    (Narrow, "has a weight() that returns [128, 128] in torch.bfloat16, not [128, 128] in torch.float32"),
    (Raises, f"raises OverflowError for {FIRST}: too much"),
]


@pytest.mark.parametrize("prefix", ["x.", ""])
def test_a_right_exporter_passes(prefix: str) -> None:
    check_exporter(Right(prefix))


def test_a_field_without_a_default_is_told() -> None:
    with pytest.raises(AssertionError, match='has a field "name" without a default'):
        check_exporter(Required(name="n"))


@pytest.mark.parametrize(("wrong", "said"), WRONG, ids=lambda value: getattr(value, "__name__", ""))
def test_the_kit_says_what_is_wrong(wrong: type, said: str) -> None:
    with pytest.raises(AssertionError) as error:
        check_exporter(wrong)
    assert said in str(error.value), str(error.value)
    assert str(error.value).startswith(f"{wrong.__name__} breaks the protocol of exporters:")
