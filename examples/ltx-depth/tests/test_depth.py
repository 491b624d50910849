"""The column and the condition keep to their protocols, and depths are added where their clip is."""

import pytest
import torch
from ltx_depth import ByDepth, Depth

from ltxcore.api import DataError, Grid, Inputs, LatentState, Medium
from ltxcore.testing import check_column, check_condition, check_imports_lightly

GRID = Grid(2, 3, 4)


def medium(grid: Grid) -> Medium:
    return Medium(torch.ones(1, grid.num_tokens, 4), grid, torch.tensor([24.0]), torch.zeros(1, 3, grid.num_tokens, 2))


def state() -> LatentState:
    given = medium(GRID)
    return LatentState.start("video", GRID, given.rate, torch.zeros(1, GRID.num_tokens, 4), given.positions)


def test_they_keep_to_their_protocols_and_cost_other_commands_nothing() -> None:
    check_column(Depth())
    check_condition(ByDepth())
    check_imports_lightly("ltx_depth")


def test_the_depths_are_added_and_none_of_them_is_generated() -> None:
    after = ByDepth().apply(state(), Inputs({"depth": medium(GRID)}))
    assert (after.num_target, after.num_appended) == (24, 24)
    assert after.denoise_mask[0].tolist() == [1.0] * 24 + [0.0] * 24


def test_depths_of_another_size_are_refused() -> None:
    with pytest.raises(DataError) as caught:
        ByDepth().apply(state(), Inputs({"depth": medium(Grid(1, 3, 4))}))
    assert str(caught.value) == "the clip has 2 x 3 x 4 latent cells, but its depths have 1 x 3 x 4\n    Encode both in the same bucket."
