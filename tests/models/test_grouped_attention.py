"""Attention in groups is attention with a dense matrix of weights, which is made here anew, and nowhere in the code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ltxcore.errors import ConfigError
from ltxcore.models import grouped_attention
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.grouped_attention import Groups, attention_in_groups
from ltxcore.models.load_base import load_backbone
from ltxcore.protocols import ModelInput

CASES = [((6, 3), (0.5,)), ((6, 3, 4), (0.3, 1.0)), ((5, 1, 2, 3), (0.9, 1e-6, 0.25)), ((6, 3), (1e-300,))]


def weights_of(sizes: Sequence[int], strengths: Sequence[float]) -> Tensor:
    """The weight with which each token attends to each other one, `[T + R, T + R]`."""
    between = torch.eye(len(sizes), dtype=torch.float64)
    between[0, 1:] = between[1:, 0] = torch.tensor(strengths, dtype=torch.float64)
    group = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return between[group][:, group]


def dense(query: Tensor, key: Tensor, value: Tensor, weights: Tensor) -> Tensor:
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    shares = weights * (scores - scores.amax(dim=-1, keepdim=True)).exp()
    return shares / shares.sum(dim=-1, keepdim=True) @ value


def drawn(total: int, width: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(total)
    return [torch.randn(2, 3, total, width, generator=generator) for _ in range(3)]


@pytest.mark.parametrize("width", [16, 5])
@pytest.mark.parametrize(("sizes", "strengths"), CASES)
def test_groups_attend_as_with_a_dense_matrix_of_weights_forward_and_backward(
    sizes: tuple[int, ...], strengths: tuple[float, ...], width: int
) -> None:
    ours = [tensor.clone().requires_grad_() for tensor in drawn(sum(sizes), width)]
    theirs = [tensor.double().requires_grad_() for tensor in drawn(sum(sizes), width)]
    found = attention_in_groups(*ours, Groups(sizes, torch.tensor(strengths)))
    expected = dense(*theirs, weights_of(sizes, strengths))
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)
    upstream = drawn(sum(sizes), width)[0].flip(2)
    (found * upstream).sum().backward()
    (expected * upstream).sum().backward()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad.double(), other.grad, rtol=0, atol=1e-5)  # type: ignore[union-attr]


@pytest.mark.parametrize(("dtype", "error"), [(torch.bfloat16, 2e-2), (torch.float16, 3e-3)])
def test_groups_attend_nearly_so_in_half_precision(dtype: torch.dtype, error: float) -> None:
    sizes, strengths = CASES[1]
    query, key, value = (tensor.to(dtype) for tensor in drawn(sum(sizes), 16))
    found = attention_in_groups(query, key, value, Groups(sizes, torch.tensor(strengths)))
    expected = dense(query.double(), key.double(), value.double(), weights_of(sizes, strengths))
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=2 * error)


class Largest(TorchDispatchMode):
    """The largest number of values in a tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self.numel = max([self.numel, *(each.numel() for each in tree_leaves(found) if isinstance(each, Tensor))])
        return found


def test_no_tensor_has_a_number_for_each_pair_of_tokens_forward_or_backward() -> None:
    sizes, width = (200, 60, 40), 16
    tensors = [tensor.requires_grad_() for tensor in drawn(sum(sizes), width)]
    with Largest() as largest:
        attention_in_groups(*tensors, Groups(sizes, torch.tensor([0.5, 0.5]))).sum().backward()
    assert largest.numel == 2 * 3 * sum(sizes) * (width + grouped_attention.COLUMNS)


# ---------------------------------------------------------------- the model


@pytest.fixture(scope="module")
def backbone() -> LTXBackbone:
    return load_backbone("tiny", frozenset({"video"}), dtype=torch.float32)


def video(backbone: LTXBackbone, sizes: tuple[int, ...], strengths: tuple[float, ...] | None) -> ModelInput:
    generator, total = torch.Generator().manual_seed(3), sum(sizes)
    start = torch.rand(1, 3, total, 1, generator=generator)
    return ModelInput(
        tokens=torch.randn(1, total, backbone.width("video"), generator=generator),
        sigma=torch.full((1,), 0.5),
        timesteps=torch.full((1, total), 0.5),
        positions=torch.cat([start, start + 0.1], dim=-1),
        context=torch.randn(1, 4, backbone.blueprint.shapes["transformer_blocks.0.attn2.to_k.weight"][1], generator=generator),
        groups=() if strengths is None else sizes,
        strengths=None if strengths is None else torch.tensor(strengths),
    )


def test_the_model_predicts_with_strengths_what_it_predicts_with_a_dense_mask(backbone: LTXBackbone) -> None:
    sizes, strengths = CASES[1]
    weighted, plain = video(backbone, sizes, strengths), video(backbone, sizes, None)
    mask = weights_of(sizes, strengths).float()[None]
    with torch.no_grad():
        found, expected = backbone(weighted, None)["video"], backbone(plain, None, attention_masks={"video": mask})["video"]
        unweighted = backbone(plain, None)["video"]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(found, unweighted, atol=1e-3)


def test_strengths_survive_gradient_checkpointing(backbone: LTXBackbone) -> None:
    given = video(backbone, *CASES[1])
    found = []
    for again in (False, True):
        backbone.transformer.gradient_checkpointing = again
        tokens = given.tokens.clone().requires_grad_()
        backbone(attrs.evolve(given, tokens=tokens), None)["video"].square().sum().backward()
        assert tokens.grad is not None
        found.append(tokens.grad)
    backbone.transformer.gradient_checkpointing = False
    assert found[0].equal(found[1])


def test_a_mask_beside_strengths_is_refused(backbone: LTXBackbone) -> None:
    given = video(backbone, *CASES[0])
    with pytest.raises(ConfigError, match="an attention mask, and appended tokens with a strength"):
        backbone(given, None, attention_masks={"video": torch.ones(1, 9, 9)})
