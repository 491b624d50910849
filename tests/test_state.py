"""States: what is given multiplies, what is appended comes last, and shapes that do not fit are refused."""

from __future__ import annotations

import attrs
import pytest
import torch

from ltxcore.errors import DataError
from ltxcore.modalities.video import VideoModality
from ltxcore.state import Grid, LatentState

GRID = Grid(3, 1, 2)


def state(batch: int = 2, width: int = 4) -> LatentState:
    rate = torch.full((batch,), 24.0)
    clean = torch.randn(batch, GRID.num_tokens, width, generator=torch.Generator().manual_seed(0))
    return LatentState.start("video", GRID, rate, clean, VideoModality().positions(GRID, rate))


def extra(batch: int = 2, count: int = 3, width: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.ones(batch, count, width), torch.zeros(batch, 3, count, 2)


def test_a_state_starts_with_everything_generated_and_nothing_appended() -> None:
    start = state()
    assert (start.batch_size, start.num_target, start.num_appended) == (2, 6, 0)
    assert start.denoise_mask.dtype == torch.float32
    assert torch.equal(start.denoise_mask, torch.ones(2, 6))
    assert torch.equal(start.tokens(), start.clean)


def test_the_mask_of_a_bf16_latent_is_float32() -> None:
    half = attrs.evolve(state(), clean=state().clean.bfloat16(), appended=state().appended.bfloat16())
    assert LatentState.start("video", GRID, half.rate, half.clean, half.positions).denoise_mask.dtype == torch.float32


@pytest.mark.parametrize("kind", [torch.bool, torch.float32, torch.float64, torch.int64])
def test_given_tokens_may_be_marked_with_any_kind_of_number(kind: torch.dtype) -> None:
    amount = torch.tensor([1, 0, 0, 1, 0, 0]).to(kind)
    assert state().given(amount).denoise_mask.tolist() == [[0, 1, 1, 0, 1, 1]] * 2


def test_given_amounts_multiply_whatever_their_order() -> None:
    a, b = torch.rand(2, 2, 6, generator=torch.Generator().manual_seed(1))
    found = state().given(a).given(b).denoise_mask
    torch.testing.assert_close(found, (1 - a) * (1 - b))
    assert torch.equal(found, state().given(b).given(a).denoise_mask)


def test_giving_changes_nothing_in_place() -> None:
    before = state()
    after = before.given(torch.ones(6))
    assert bool((before.denoise_mask == 1).all())
    assert after.clean is before.clean


def test_appended_tokens_come_last_and_are_given() -> None:
    tokens, positions = extra()
    after = state().append(tokens, positions)
    assert (after.num_target, after.num_appended) == (6, 3)
    assert torch.equal(after.denoise_mask, torch.tensor([[1.0] * 6 + [0.0] * 3] * 2))
    assert torch.equal(after.tokens(), torch.cat([state().clean, tokens], dim=1))
    assert torch.equal(after.positions[:, :, 6:], positions)
    assert torch.equal(after.positions[:, :, :6], state().positions)


def test_tokens_are_given_after_an_append_as_before_it() -> None:
    amount = torch.tensor([1.0, 0, 0, 0.5, 0, 0])
    appended = state().append(*extra())
    found, wanted = appended.given(amount), state().given(amount).append(*extra())
    assert torch.equal(found.denoise_mask, wanted.denoise_mask)


def test_appended_tokens_take_the_type_of_the_target() -> None:
    tokens, positions = extra()
    after = state().append(tokens.bfloat16(), positions.double())
    assert after.appended.dtype == torch.float32
    assert after.positions.dtype == torch.float32


@pytest.mark.parametrize("shape", [(5,), (2, 5), (1, 6), (3, 6), (2, 6, 1), (9,)])
def test_amounts_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError) as caught:
        state().append(*extra()).given(torch.zeros(shape))
    assert str(caught.value) == (
        f"a condition gives {list(shape)} values, but the video has [2, 6] target tokens\n    Return one value per target token, [T] or [B, T]."
    )


@pytest.mark.parametrize(("worst", "said"), [(1.5, "0 to 1.5"), (-0.25, "-0.25 to 0"), (float("nan"), "nan to nan")])
def test_amounts_outside_0_to_1_are_refused(worst: float, said: str) -> None:
    amount = torch.zeros(6)
    amount[2] = worst
    with pytest.raises(DataError) as caught:
        state().given(amount)
    assert str(caught.value) == (
        f"the values that a condition gives to the video range from {said}\n    Amounts must lie between 0 (generated) and 1 (given)."
    )


@pytest.mark.parametrize(
    ("tokens", "positions"),
    [((2, 3, 5), (2, 3, 3, 2)), ((1, 3, 4), (1, 3, 3, 2)), ((2, 3, 4), (2, 3, 2, 2)), ((2, 3, 4), (2, 1, 3, 2)), ((3, 4), (2, 3, 3, 2))],
)
def test_appended_tokens_that_do_not_fit_are_refused(tokens: tuple[int, ...], positions: tuple[int, ...]) -> None:
    with pytest.raises(DataError) as caught:
        state().append(torch.zeros(tokens), torch.zeros(positions))
    assert str(caught.value) == (
        f"a condition appends tokens {list(tokens)} with positions {list(positions)} to video tokens [2, 6, 4]\n"
        "    Tokens must be [B, R, 4] and positions [B, 3, R, 2]."
    )


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("grid", Grid(2, 1, 2), "grid of video is 4, but clean tokens [2, 6, 4] require 6"),
        ("rate", torch.ones(1), "rate of video is (1,), but clean tokens [2, 6, 4] require (2,)"),
        ("appended", torch.zeros(2, 0, 5), "appended of video is (2, 5), but clean tokens [2, 6, 4] require (2, 4)"),
        ("denoise_mask", torch.zeros(2, 7), "denoise_mask of video is (2, 7), but clean tokens [2, 6, 4] require (2, 6)"),
        ("positions", torch.zeros(2, 3, 5, 2), "positions of video is (2, 5, 2), but clean tokens [2, 6, 4] require (2, 6, 2)"),
    ],
)
def test_a_state_whose_parts_do_not_fit_cannot_be_made(field: str, value: object, said: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        attrs.evolve(state(), **{field: value})
    assert str(caught.value) == f"LatentState.{said}"


def test_a_grid_counts_tokens_frame_by_frame_row_by_row() -> None:
    grid = Grid(2, 2, 3)
    cells = [(f, y, x) for f in range(2) for y in range(2) for x in range(3)]
    assert list(zip(grid.frame.tolist(), grid.row.tolist(), grid.column.tolist(), strict=True)) == cells


def test_a_grid_is_written_as_its_sides_or_its_length() -> None:
    assert str(Grid(3, 17, 30)) == "3 x 17 x 30"
    assert str(Grid(27, scale=(4, 1, 1))) == "27"


def test_the_first_latent_frame_is_the_targets_alone() -> None:
    first = state().append(*extra()).first_frame
    assert first.dtype == torch.bool
    assert first.tolist() == [[True, True, False, False, False, False, False, False, False]] * 2


def test_of_a_single_frame_all_is_the_first_frame() -> None:
    grid, rate = Grid(1, 1, 2), torch.full((1,), 24.0)
    image = LatentState.start("video", grid, rate, torch.zeros(1, 2, 4), VideoModality().positions(grid, rate))
    assert image.first_frame.tolist() == [[True, True]]
