"""Proposed buckets: every clip has one of its own shape, near its own size, and none is enlarged."""

from __future__ import annotations

import random

import pytest

from ltxcore.config.preprocessing import MOST_TOKENS
from ltxcore.encode.buckets import Bucket, choose, parse_buckets, proposed_buckets, proposed_line

SCALE = (8, 32, 32)


@pytest.mark.parametrize(
    ("sizes", "line"),
    [
        ([(64, 64, 17)], "64x64x17"),
        ([(640, 360, 50), (640, 360, 17)], "640x352x49;640x352x17"),
        ([(768, 512, 97), (512, 768, 97), (768, 512, 1)], "512x768x97;768x512x97;768x512x1"),
        ([(1080, 1920, 300), (1920, 1080, 150)], "768x1344x121;1344x768x121"),
        ([(100, 60, 9)], "64x32x9"),
        ([(20, 20, 3)], "32x32x1"),
    ],
)
def test_a_line_can_be_pasted(sizes: list[tuple[int, int, int]], line: str) -> None:
    told = proposed_line([Bucket(*size) for size in sizes], SCALE)
    assert told == f'resolution_buckets = "{line}"'
    assert parse_buckets(line, SCALE, "")[1] == ()


def test_one_clip_keeps_almost_its_own_size() -> None:
    for width in range(64, 1000, 37):
        for height in range(64, 1000, 53):
            (bucket,) = proposed_buckets([Bucket(width, height, 33)], SCALE)
            assert bucket.width * bucket.height > 0.5 * width * height
            assert bucket.frames == 33


def test_whatever_the_clips_none_is_enlarged_and_each_has_a_bucket() -> None:
    draw = random.Random(11)
    for _ in range(60):
        sizes = [
            Bucket(draw.randint(32, 2000), draw.randint(32, 2000), draw.choice([1, draw.randint(2, 400)]))
            for _ in range(draw.randint(1, 25))
        ]
        buckets = proposed_buckets(sizes, SCALE)
        assert parse_buckets(";".join(map(str, buckets)), SCALE, "")[1] == ()
        assert all(bucket.cells(SCALE)[0] * bucket.cells(SCALE)[1] * bucket.cells(SCALE)[2] <= MOST_TOKENS for bucket in buckets)
        for size in sizes:
            taken = choose(buckets, size.width, size.height, size.frames, size.frames == 1)
            assert taken is not None
            assert (taken.width <= size.width, taken.height <= size.height, taken.frames <= size.frames) == (True, True, True)


def test_a_clip_does_not_lose_its_frames_to_the_bucket_of_a_picture() -> None:
    sizes = [Bucket(640, 360, 97), Bucket(1024, 576, 1), Bucket(480, 320, 1)]
    buckets = proposed_buckets(sizes, SCALE)
    taken = choose(buckets, 640, 360, 97)
    assert taken is not None
    assert taken.frames == 97
