"""The checkerboard keeps to the protocol, and gives the squares that it says."""

import pytest
import torch
from ltx_checkerboard import Checkerboard

from ltxcore.api import DataError, Grid, Inputs, LatentState
from ltxcore.testing import check_condition, check_imports_lightly


def state(height: int, width: int, frames: int = 2) -> LatentState:
    grid = Grid(frames, height, width)
    return LatentState.start("video", grid, torch.tensor([24.0]), torch.zeros(1, grid.num_tokens, 4), torch.zeros(1, 3, grid.num_tokens, 2))


@pytest.mark.parametrize("size", [1, 2])
def test_it_keeps_to_the_protocol(size: int) -> None:
    check_condition(Checkerboard(size))


def test_it_costs_other_commands_nothing() -> None:
    check_imports_lightly("ltx_checkerboard")


@pytest.mark.parametrize(
    ("size", "rows"),
    [(1, [[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]]), (2, [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1]])],
)
def test_every_second_square_is_given_in_all_frames(size: int, rows: list[list[int]]) -> None:
    after = Checkerboard(size).apply(state(3, 4), Inputs())
    assert (1 - after.denoise_mask[0]).reshape(2, 3, 4).tolist() == [rows, rows]


def test_a_picture_of_one_square_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        Checkerboard(4).apply(state(3, 4), Inputs())
    assert str(caught.value) == (
        "a picture of 3 x 4 latent cells is a single square of size 4, which leaves nothing to generate\n"
        "    Set size below the longer side of the smallest picture."
    )
