"""Values that go by the clips."""

from __future__ import annotations

import pytest

from ltxcore.encode.buckets import Bucket
from ltxcore.new.clips import Clips
from ltxcore.new.fitting import at_boundaries, at_once, fitted, halved, of_samples, steps_for
from ltxcore.new.modes import MODES
from ltxcore.new.purposes import PURPOSES

LONG, TALL, STILL = Bucket(1344, 768, 89), Bucket(768, 1344, 121), Bucket(768, 448, 1)


@pytest.mark.parametrize(("count", "kept"), [(1, 0), (3, 0), (4, 1), (14, 1), (25, 2), (120, 12), (5000, 32)])
def test_a_tenth_is_held_out_one_of_a_few_and_none_of_very_few(count: int, kept: int) -> None:
    clips = Clips(count)
    assert (clips.held_out, clips.trained) == (kept, count - kept)


@pytest.mark.parametrize(
    ("count", "steps", "why"),
    [
        (24, "2200", "sees each of 22 clips about 100 times"),
        (6, "1000", "sees each of 5 clips about 200 times; 1000 at least for a style"),
        (300, "3000", "sees each of 270 clips about 11 times; 3000 at most for a style"),
    ],
)
def test_steps_go_by_how_often_a_clip_is_seen_between_a_least_and_a_most(count: int, steps: str, why: str) -> None:
    assert steps_for(MODES["t2v"], PURPOSES["style"], Clips(count)) == (steps, why)


def test_samples_of_all_processes_and_micro_batches_of_a_step_count() -> None:
    assert [at_once(MODES[name]) for name in ("t2v", "t2v_low_vram", "full_finetune_zero3")] == [1, 2, 8]
    steps, why = steps_for(MODES["full_finetune_zero3"], PURPOSES["full"], Clips(10_000))
    assert (steps, why) == ("20000", "sees each of 9968 clips about 16 times; 20000 at most for full fine-tuning")


def test_the_usual_steps_are_those_for_a_usual_number_of_clips() -> None:
    for mode in MODES.values():
        means = PURPOSES[mode.purpose]
        usual = means.steps * at_once(mode) // means.passes
        assert steps_for(mode, means, None)[0] == str(means.steps)
        assert str(usual) in steps_for(mode, means, None)[1]


def test_a_batch_of_the_tiny_model_is_no_larger_than_what_is_trained_on() -> None:
    of = {count: fitted(MODES["t2v"], "optimization", "batch_size", "16", Clips(count)) for count in (6, 120)}
    assert of == {6: ("5", "all 5 clips"), 120: ("16", "")}


def test_at_most_half_of_the_shortest_clip_is_given() -> None:
    clips = Clips(9, (TALL, LONG), 4.0, 30.0)
    assert at_boundaries("start", clips) == ("6", "latent frames: 41 of at least 89 frames")
    assert at_boundaries("end", clips) == ("6", "latent frames: 48 of at least 89 frames")
    assert at_boundaries("start", Clips(9, (TALL,), 4.0, 30.0))[0] == "8"
    assert at_boundaries("steps", clips) == ("37", "1.48 s of at least 3 s")
    assert at_boundaries("steps", Clips(9, (), 60.0)) == ("50", "2 s of at least 60 s")


def test_a_rectangle_of_the_smallest_clip_is_given_in_whole_latent_cells() -> None:
    assert at_boundaries("region", Clips(9, (LONG, STILL)))[0] == "[0, 0, 224, 448]"
    assert at_boundaries("region", Clips(9, (Bucket(64, 64, 17),)))[0] == "[0, 0, 32, 32]"


def test_smaller_buckets_are_named_where_clips_are_large() -> None:
    assert halved((LONG, TALL)) == "672x384x89;384x672x121"
    assert halved((LONG, Bucket(64, 64, 17))) == ""


def test_samples_have_the_size_of_the_longest_clips() -> None:
    assert of_samples((LONG, TALL, STILL)) == TALL
