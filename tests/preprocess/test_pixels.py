from __future__ import annotations

import pytest
import torch

from ltxcore.preprocess.buckets import Bucket
from ltxcore.preprocess.pixels import Cover, causal_means, cell_means, fit, subsampled


@pytest.mark.parametrize(
    ("height", "width", "bucket", "resized", "top", "left"),
    [
        (64, 64, Bucket(64, 64, 1), (64, 64), 0, 0),
        (720, 1280, Bucket(640, 352, 1), (360, 640), 4, 0),
        (1080, 1920, Bucket(960, 544, 1), (544, 967), 0, 3),
        (1920, 1080, Bucket(544, 960, 1), (967, 544), 3, 0),
        (64, 64, Bucket(128, 64, 1), (128, 128), 32, 0),
    ],
)
def test_a_frame_covers_its_bucket_and_loses_as_much_at_both_ends(
    height: int, width: int, bucket: Bucket, resized: tuple[int, int], top: int, left: int
) -> None:
    cover = Cover.of(height, width, bucket)
    assert (cover.resized, cover.top, cover.left) == (resized, top, left)
    assert cover.resized[0] >= bucket.height
    assert cover.resized[1] >= bucket.width
    assert bucket.height == resized[0] or bucket.width == resized[1]


def test_a_frame_of_the_right_height_is_only_cropped_to_its_centre() -> None:
    frames = torch.randint(0, 256, (2, 32, 100, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(fit(frames, Bucket(64, 32, 1)), frames[:, :, 18:82])


def test_a_resize_is_bicubic_with_antialiasing() -> None:
    # Values that do not overshoot: bytes are clamped after each of the two passes.
    frames = torch.randint(64, 192, (20, 96, 128, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    expected = torch.nn.functional.interpolate(frames.permute(0, 3, 1, 2).float(), size=(48, 64), mode="bicubic", antialias=True)
    expected = expected[:, :, 8:40].round().clamp(0, 255).permute(0, 2, 3, 1)
    found = fit(frames, Bucket(64, 32, 1))
    assert found.shape == (20, 32, 64, 3)
    assert found.dtype == torch.uint8
    assert (found.float() - expected).abs().max() <= 1


def test_a_flat_frame_stays_flat() -> None:
    assert torch.equal(
        fit(torch.full((1, 90, 70, 3), 93, dtype=torch.uint8), Bucket(64, 64, 1)), torch.full((1, 64, 64, 3), 93, dtype=torch.uint8)
    )


@pytest.mark.parametrize(
    ("factor", "expected"), [(1, list(range(17))), (2, [0, 1, 3, 5, 7, 9, 11, 13, 15]), (4, [0, 1, 5, 9, 13]), (16, [0, 1])]
)
def test_subsampling_keeps_frame_0_and_every_nth_from_frame_1(factor: int, expected: list[int]) -> None:
    assert subsampled(torch.arange(17), factor).tolist() == expected


def test_a_cell_of_an_uncropped_frame_is_the_mean_of_its_pixels() -> None:
    values = torch.rand(64, 96, generator=torch.Generator().manual_seed(2))
    expected = values.reshape(2, 32, 3, 32).mean(dim=(1, 3))
    torch.testing.assert_close(cell_means(values, Cover.of(64, 96, Bucket(96, 64, 1)), (8, 32, 32)), expected)


def test_a_cell_of_a_cropped_and_enlarged_frame_is_the_mean_of_the_part_that_it_shows() -> None:
    # Each source pixel is enlarged to 2 x 2; the middle 32 of 48 columns are kept, in cells of 16 x 16.
    values = torch.rand(16, 24, generator=torch.Generator().manual_seed(3))
    enlarged = values.repeat_interleave(2, 0).repeat_interleave(2, 1)[:, 8:40]
    expected = enlarged.reshape(2, 16, 2, 16).mean(dim=(1, 3))
    torch.testing.assert_close(cell_means(values, Cover.of(16, 24, Bucket(32, 32, 1)), (8, 16, 16)), expected)


def test_pixels_at_the_edge_of_a_cell_count_by_the_part_inside() -> None:
    # Three source pixels on a bucket of two cells: the middle one is half in each.
    values = torch.tensor([[0.0, 1.0, 0.5]]).expand(3, 3)
    cells = cell_means(values, Cover.of(3, 3, Bucket(64, 64, 1)), (8, 32, 32))
    torch.testing.assert_close(cells, torch.tensor([[(0.0 + 0.5) / 1.5, (0.5 + 0.5) / 1.5]]).expand(2, 2))


def test_the_mean_over_time_takes_frame_0_alone_and_then_groups() -> None:
    cells = torch.rand(17, 2, 3, generator=torch.Generator().manual_seed(4))
    expected = torch.stack([cells[0], cells[1:9].mean(dim=0), cells[9:17].mean(dim=0)])
    torch.testing.assert_close(causal_means(cells, 8), expected)
    assert torch.equal(causal_means(cells[:1], 8), cells[:1])
