"""The elementwise operations of a block: what they compute, in both directions, is what plain operations do."""

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.transformers.transformer_ltx2 import apply_interleaved_rotary_emb, apply_split_rotary_emb
from torch import Tensor

from ltxcore.models.elementwise import Rows, added, rms_norm, rotated, scaled

ROW_OF = torch.tensor([[0, 1, 1, 0, 1], [2, 2, 3, 2, 2]])
"""Two samples of five tokens at two levels."""


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def both(call: Callable[..., Tensor], given: Sequence[Tensor]) -> list[Tensor]:
    """The result, and the gradient of each input."""
    leaves = [each.clone().requires_grad_() for each in given]
    out = call(*leaves)
    out.backward(normal(*out.shape, seed=9).to(out.dtype))
    return [out.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


def assert_alike(ours: Callable[..., Tensor], plain: Callable[..., Tensor], *given: Tensor, tolerance: float = 2e-6) -> None:
    found, expected = both(ours, given), both(plain, given)
    assert len(found) == len(expected) == 1 + len(given)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert (one - other).abs().max() <= tolerance * other.abs().max()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 0.02)])
def test_rms_norm_is_that_of_torch_with_a_weight_and_without(dtype: torch.dtype, tolerance: float) -> None:
    x, weight = 3 * normal(2, 5, 16).to(dtype), normal(16, seed=1).to(dtype)
    assert_alike(lambda x: rms_norm(x, 1e-6), lambda x: F.rms_norm(x, (16,), eps=1e-6), x, tolerance=tolerance)
    assert_alike(lambda x, w: rms_norm(x, 1e-6, w), lambda x, w: F.rms_norm(x, (16,), w, 1e-6), x, weight, tolerance=tolerance)
    assert rms_norm(torch.zeros(1, 16), 1e-6).equal(torch.zeros(1, 16))


def test_rms_norm_keeps_its_input_and_one_number_a_row() -> None:
    kept: list[Tensor] = []
    x = normal(2, 5, 16).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        rms_norm(x, 1e-6)
    assert sorted(tensor.numel() for tensor in kept) == [10, 160]


@pytest.mark.parametrize("rows", [1, 5])
def test_one_row_serves_all_tokens_and_as_many_rows_as_tokens_one_each(rows: int) -> None:
    x, hidden, scale, shift = normal(2, 5, 8), normal(2, 5, 8, seed=1), normal(2, rows, 8, seed=2), normal(2, rows, 8, seed=3)
    assert_alike(
        lambda x, scale, shift: scaled(x, Rows(scale), Rows(shift)), lambda x, scale, shift: x * (1 + scale) + shift, x, scale, shift
    )
    assert_alike(lambda h, x, gate: added(h, x, Rows(gate)), lambda h, x, gate: h + x * gate, hidden, x, scale)


def test_what_is_added_to_each_row_may_be_left_to_where_the_rows_are_used() -> None:
    x, hidden, scale, shift = normal(2, 5, 8), normal(2, 5, 8, seed=1), normal(2, 5, 8, seed=2), normal(2, 5, 8, seed=3)
    one, other = normal(8, seed=4), normal(8, seed=5)
    assert_alike(
        lambda x, scale, shift, one, other: scaled(x, Rows(scale, one), Rows(shift, other)),
        lambda x, scale, shift, one, other: x * (1 + (scale + one)) + (shift + other),
        x,
        scale,
        shift,
        one,
        other,
    )
    assert_alike(lambda h, x, gate, own: added(h, x, Rows(gate, own)), lambda h, x, gate, own: h + x * (gate + own), hidden, x, scale, one)


def test_tokens_take_the_rows_of_their_levels() -> None:
    x, hidden, scale, shift = normal(2, 5, 8), normal(2, 5, 8, seed=1), normal(2, 2, 8, seed=2), normal(2, 2, 8, seed=3)

    def each(rows: Tensor) -> Tensor:
        return rows.flatten(0, 1)[ROW_OF]

    assert_alike(
        lambda x, scale, shift: scaled(x, Rows(scale), Rows(shift), ROW_OF),
        lambda x, scale, shift: x * (1 + each(scale)) + each(shift),
        x,
        scale,
        shift,
    )
    assert_alike(lambda h, x, gate: added(h, x, Rows(gate), ROW_OF), lambda h, x, gate: h + x * each(gate), hidden, x, scale)
    one = Rows(scale[:, :1])
    assert added(hidden, x, one, ROW_OF).equal(added(hidden, x, one))


@pytest.mark.parametrize(
    ("rows", "row_of", "kept"),
    [
        (Rows(normal(2, 2, 8)), ROW_OF, {ROW_OF.numel(), 2 * 2 * 8}),
        (Rows(normal(2, 5, 3 * 8).unflatten(-1, (3, 8)).unbind(2)[0], normal(8)), None, {2 * 5 * 3 * 8, 8}),
    ],
    ids=["by level", "by token"],
)
def test_what_tokens_take_is_not_kept(rows: Rows, row_of: Tensor | None, kept: set[int]) -> None:
    """Only what was there before is: the rows, and those of all tokens as the part of a tensor that all blocks share."""
    found: list[Tensor] = []
    x = normal(2, 5, 8).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: found.append(tensor) or tensor, lambda tensor: tensor):
        scaled(x, rows, rows, row_of)
        added(x, x, rows, row_of)
    assert {tensor.untyped_storage().nbytes() // tensor.element_size() for tensor in found} == kept


def test_pairs_are_rotated_as_diffusers_does_in_both_layouts() -> None:
    x, angles = normal(2, 5, 16), normal(2, 5, 8, seed=1)
    doubled = tuple(table.repeat_interleave(2, dim=-1) for table in (angles.cos(), angles.sin()))
    assert_alike(lambda x: rotated(x, (angles.cos(), angles.sin())), lambda x: apply_interleaved_rotary_emb(x, doubled), x)
    by_head = tuple(table.unflatten(-1, (2, 4)) for table in (angles.cos(), angles.sin()))
    theirs = tuple(table.transpose(1, 2) for table in by_head)
    assert_alike(lambda x: rotated(x, by_head), lambda x: apply_split_rotary_emb(x, theirs), x)


def test_a_rotation_in_bfloat16_is_near_that_in_float32() -> None:
    x, angles = normal(2, 64, 16).bfloat16(), normal(2, 64, 2, 4, seed=1)
    found, exact = (rotated(each, (angles.cos(), angles.sin())) for each in (x, x.float()))
    assert found.dtype == torch.bfloat16
    assert (found.float() - exact).square().mean().sqrt() < 0.004 * exact.square().mean().sqrt()
