from __future__ import annotations

import pytest

from ltxcore.encode.buckets import Bucket, ReferenceFactors, choose, common_size, parse_buckets

SCALE = (8, 32, 32)


def texts(problems: object) -> str:
    return "\n".join(str(problem) for problem in problems)  # type: ignore[attr-defined]


def test_buckets_are_width_height_and_frames() -> None:
    buckets, problems = parse_buckets(" 960x544x49 ; 64X96x1;", SCALE, "here")
    assert problems == ()
    assert buckets == (Bucket(960, 544, 49), Bucket(64, 96, 1))
    assert [str(bucket) for bucket in buckets] == ["960x544x49", "64x96x1"]
    assert [bucket.cells(SCALE) for bucket in buckets] == [(7, 17, 30), (1, 3, 2)]


def test_all_that_is_wrong_with_buckets_is_told_at_once() -> None:
    buckets, problems = parse_buckets(
        "960x540x48;20x64x17;64x64;64x64x-1;64x64x17;64x64x17", SCALE, "run.toml:3: preprocessing.resolution_buckets"
    )
    where = "run.toml:3: preprocessing.resolution_buckets"
    assert texts(problems) == (
        f"{where}: the bucket 960x540x48 has height 540, which is not a multiple of 32\n    Use 512 or 544.\n"
        f"{where}: the bucket 960x540x48 has 48 frames, which is not a multiple of 8 plus 1\n    Use 41 or 49.\n"
        f"{where}: the bucket 20x64x17 has width 20, which is not a multiple of 32\n    Use 32.\n"
        f'{where}: "64x64" is not a bucket\n    Write width x height x frames, such as "960x544x49"; separate several buckets with ";".\n'
        f'{where}: "64x64x-1" is not a bucket\n    Write width x height x frames, such as "960x544x49"; separate several buckets with ";".\n'
        f"{where}: the bucket 64x64x17 is listed twice\n    List each bucket once."
    )
    assert Bucket(64, 64, 17) in buckets


def test_an_option_without_a_bucket_is_refused() -> None:
    assert texts(parse_buckets(" ; ", SCALE, "here")[1]) == (
        'here: does not name any bucket\n    Write width x height x frames, such as "960x544x49"; separate several buckets with ";".'
    )


def test_the_nearest_aspect_comes_before_more_frames() -> None:
    wide, square = Bucket(960, 544, 25), Bucket(768, 768, 49)
    assert choose([wide, square], 1920, 1080, 60) == wide


def test_at_one_aspect_more_frames_come_before_a_larger_area() -> None:
    small, large = Bucket(480, 272 + 16, 49), Bucket(960, 576, 25)
    assert choose([large, small], 1000, 600, 60) == small
    assert choose([large, small], 1000, 600, 30) == large


def test_at_one_aspect_and_length_the_larger_area_wins() -> None:
    assert choose([Bucket(64, 64, 17), Bucket(128, 128, 17)], 100, 90, 17) == Bucket(128, 128, 17)


@pytest.mark.parametrize(("frames", "expected"), [(16, Bucket(64, 64, 9)), (17, Bucket(64, 64, 17)), (8, None)])
def test_a_clip_goes_to_buckets_that_it_is_long_enough_for(frames: int, expected: Bucket | None) -> None:
    assert choose([Bucket(64, 64, 9), Bucket(64, 64, 17)], 64, 64, frames) == expected


def test_an_image_goes_to_buckets_of_one_frame_only_and_a_clip_to_those_too() -> None:
    one, many = Bucket(64, 64, 1), Bucket(64, 64, 17)
    assert choose([one, many], 64, 64, 1, is_image=True) == one
    assert choose([many], 64, 64, 1, is_image=True) is None
    assert choose([one, many], 64, 64, 10) == one


def test_portrait_and_landscape_are_equally_far_from_a_square() -> None:
    assert choose([Bucket(64, 32, 1), Bucket(32, 64, 1)], 100, 100, 1) == Bucket(64, 32, 1)
    assert choose([Bucket(32, 64, 1), Bucket(64, 32, 1)], 100, 100, 1) == Bucket(32, 64, 1)


def test_clips_of_one_size_that_the_codec_takes_need_no_option() -> None:
    assert common_size([Bucket(64, 96, 17)] * 3, SCALE, "set.jsonl") == (Bucket(64, 96, 17), None)


def test_clips_of_several_sizes_need_the_option() -> None:
    bucket, problem = common_size([Bucket(64, 96, 17), Bucket(64, 64, 17), Bucket(64, 96, 25)], SCALE, "set.jsonl")
    assert bucket is None
    assert str(problem) == "set.jsonl: the clips have 3 sizes (width x height x frames): 64x64x17, 64x96x17, 64x96x25"


def test_clips_that_the_codec_does_not_take_need_the_option() -> None:
    bucket, problem = common_size([Bucket(100, 20, 50)], SCALE, "set.jsonl")
    assert bucket is None
    assert str(problem) == (
        "set.jsonl: its clips have width 100, which is not a multiple of 32 and height 20, which is not a multiple of 32 and 50 frames, "
        "which is not a multiple of 8 plus 1"
    )


def test_the_size_of_a_reference_is_its_targets_divided() -> None:
    assert ReferenceFactors(2, 3).of(Bucket(768, 384, 49)) == Bucket(384, 192, 17)


@pytest.mark.parametrize(("downscale", "temporal"), [(1, 1), (2, 1), (3, 2), (1, 6), (4, 3)])
def test_references_whose_factors_divide_go_with_their_targets(downscale: int, temporal: int) -> None:
    assert list(ReferenceFactors(downscale, temporal).misfits(Bucket(768, 768, 49), SCALE, str)) == []


def test_references_whose_factors_do_not_divide_are_refused_for_every_side() -> None:
    assert texts(ReferenceFactors(2, 4).misfits(Bucket(960, 544, 49), SCALE, lambda key: f"run.toml: {key}")) == (
        "run.toml: preprocessing.reference_downscale_factor: the bucket 960x544x49 has height 544, and 544 "
        "divided by reference_downscale_factor 2 is not a multiple of 32\n    Use a multiple of 64, or another factor.\n"
        "run.toml: preprocessing.reference_temporal_scale_factor: the bucket 960x544x49 has 49 frames, and "
        "reference_temporal_scale_factor 4 does not reduce them to a multiple of 8 plus 1\n    Use a multiple of 32 plus 1, or another factor."
    )
