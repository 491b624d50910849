"""References without detail: each pixel is the mean that the formula says, computed here pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ltxcore.api import DataError
from ltxplugins.filters.coarse import Blur, Downscale


def frame(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def blurred(picture: np.ndarray, sigma: float) -> np.ndarray:
    reach = math.ceil(3 * sigma)
    weights = {i: math.exp(-i * i / (2 * sigma * sigma)) for i in range(-reach, reach + 1)}
    total, (height, width) = sum(weights.values()), picture.shape[:2]
    out = np.zeros(picture.shape)
    for y in range(height):
        for x in range(width):
            for i, a in weights.items():
                for j, b in weights.items():
                    out[y, x] += a * b * picture[min(max(y + i, 0), height - 1), min(max(x + j, 0), width - 1)]
    return out / total**2


@pytest.mark.parametrize(("height", "width", "sigma"), [(9, 12, 0.8), (7, 5, 2.0)])
def test_a_blur_is_a_weighted_mean_that_repeats_the_edges(height: int, width: int, sigma: float) -> None:
    frames = [frame(height, width, seed) for seed in range(2)]
    made = list(Blur(sigma)(iter(frames)))
    for one, other in zip(frames, made, strict=True):
        wanted = blurred(one.numpy().astype(float), sigma)
        assert other.dtype == torch.uint8
        assert np.abs(other.numpy() - wanted).max() <= 0.5 + 1e-3


def test_a_blur_keeps_a_plain_picture_and_its_size() -> None:
    plain = torch.full((3, 4, 3), 201, dtype=torch.uint8)
    (made,) = Blur(50.0)(iter([plain]))
    assert made.equal(plain)


def test_a_smaller_picture_has_the_means_of_blocks() -> None:
    picture = frame(8, 12)
    (made,) = Downscale(4.0)(iter([picture]))
    wanted = picture.double().reshape(2, 4, 3, 4, 3).mean(dim=(1, 3))
    assert made.shape == (2, 3, 3)
    assert (made.double() - wanted).abs().max() <= 0.5 + 1e-3


def test_a_side_that_is_no_multiple_of_the_factor_is_divided_all_the_same() -> None:
    picture = frame(10, 7)
    (made,) = Downscale(2.5)(iter([picture]))  # 4 rows of 2.5, 3 columns of 2.33
    rows, columns = [(0, 3), (2, 5), (5, 8), (7, 10)], [(0, 3), (2, 5), (4, 7)]
    for y, (top, bottom) in enumerate(rows):
        for x, (left, right) in enumerate(columns):
            wanted = picture[top:bottom, left:right].double().mean(dim=(0, 1))
            assert (made[y, x].double() - wanted).abs().max() <= 0.5 + 1e-3


def test_a_frame_that_is_smaller_than_the_factor_is_refused() -> None:
    with pytest.raises(DataError, match=r"a frame of 2 x 64 pixels is too small for the factor 8"):
        list(Downscale(8.0)(iter([frame(2, 64)])))
