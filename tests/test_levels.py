"""Tokens that share a noise level are found, whatever their order."""

import torch

from ltxcore.levels import MOST, SharedLevels, shared_levels


def of_each_token(timesteps: torch.Tensor, shared: SharedLevels) -> torch.Tensor:
    """The level of each token, by way of the levels that are shared."""
    levels = timesteps.gather(1, shared.token)
    return levels.flatten()[shared.row_of] if shared.row_of is not None else levels.expand_as(timesteps)


def test_one_level_a_sample_needs_no_rows() -> None:
    shared = shared_levels(torch.tensor([[0.3], [0.8]]).expand(2, 6))
    assert shared is not None
    assert shared.row_of is None
    assert shared.token.equal(torch.tensor([[0], [0]]))


def test_each_token_finds_its_level_where_samples_have_different_numbers_of_them() -> None:
    timesteps = torch.tensor([[0.0, 0.5, 0.5, 0.0, 0.2, 0.5], [0.7] * 6, [0.0, 0.0, 0.4, 0.4, 0.4, 0.4]])
    shared = shared_levels(timesteps)
    assert shared is not None
    assert shared.token.shape == (3, 3)
    assert of_each_token(timesteps, shared).equal(timesteps)


def test_sharing_holds_at_another_noise_level_of_the_same_mask() -> None:
    mask = torch.tensor([[0.0, 1.0, 0.25, 1.0, 0.25, 0.0]])
    shared = shared_levels(mask)
    assert shared is not None
    assert of_each_token(0.37 * mask, shared).equal(0.37 * mask)


def test_tokens_that_hardly_share_are_each_taken_for_themselves() -> None:
    assert shared_levels(torch.tensor([[0.1, 0.2, 0.3, 0.3]])) is None
    many = torch.arange(4 * MOST) % (MOST + 1)
    assert shared_levels(many[None] / MOST) is None
    shared = shared_levels(many.clamp_max(MOST - 1)[None] / MOST)
    assert shared is not None
    assert shared.token.shape == (1, MOST)
