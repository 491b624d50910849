"""Tiling alone: with a codec that treats every cell by itself, pieces give exactly the whole."""

import pytest
import torch

from ltxcore.codecs.official.tiles import Tiling, decode_tiled, encode_tiled, spans

SCALE = (8, 32, 32)


def means(pixels):
    """A codec without a view of its neighbours: the mean of every cell, the first frame by itself."""
    first, rest = pixels[:, :, :1], pixels[:, :, 1:]
    groups = torch.cat([first.expand(-1, -1, SCALE[0], -1, -1), rest], dim=2).unflatten(2, (-1, SCALE[0]))
    return groups.unflatten(4, (-1, SCALE[1])).unflatten(6, (-1, SCALE[2])).mean(dim=(3, 5, 7))


def spread(latents):
    """Its inverse: every cell in its mean, the first frame once."""
    wide = latents.repeat_interleave(SCALE[0], 2).repeat_interleave(SCALE[1], 3).repeat_interleave(SCALE[2], 4)
    return wide[:, :, SCALE[0] - 1 :]


@pytest.mark.parametrize(
    "tiling", [Tiling(64, 32, 16, 8), Tiling(96, 64, None), Tiling(None, 0, 24, 8), Tiling(64, 0, 8, 0), Tiling(128, 96, 32, 24)]
)
@pytest.mark.parametrize("grid", [(5, 5, 7), (1, 2, 3), (9, 4, 2)])
def test_pieces_of_a_codec_that_sees_one_cell_at_a_time_are_the_whole(tiling, grid):
    latents = torch.randn(3, *grid, generator=torch.Generator().manual_seed(0))
    pixels = spread(latents[None])[0]
    assert pixels.shape == (3, 8 * grid[0] - 7, 32 * grid[1], 32 * grid[2])
    assert torch.allclose(encode_tiled(means, pixels, SCALE, tiling), latents, atol=1e-5)
    assert torch.allclose(decode_tiled(spread, latents, SCALE, tiling), pixels, atol=1e-5)


def test_pieces_are_of_one_size_and_the_last_one_ends_with_the_axis():
    assert spans(10, (4, 1)) == [(0, 4), (3, 7), (6, 10)]
    assert spans(11, (4, 1)) == [(0, 4), (3, 7), (6, 10), (7, 11)]
    assert spans(3, (4, 1)) == spans(3, None) == [(0, 3)]


def test_neighbours_fade_into_each_other_linearly():
    values = iter((0.0, 1.0))
    faded = decode_tiled(
        lambda piece: torch.full((1, 1, 1, 1, piece.shape[-1] * 4), next(values)), torch.zeros(1, 1, 1, 3), (1, 1, 4), Tiling(2 * 4, 4)
    )
    expected = torch.cat([torch.zeros(4), torch.linspace(0, 1, 6)[1:-1], torch.ones(4)])
    assert torch.allclose(faded[0, 0, 0], expected, atol=1e-6)
