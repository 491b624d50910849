"""Every token is counted once: generated, given, given in part or appended; a frozen modality is given whole."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import torch

from helpers.inspected_sets import AUDIO, VIDEO, av_run, av_set, seen_of
from ltxcore.inspection.counts import Count, counts, tokens_of
from ltxcore.inspection.seen import Seen

ALWAYS = {**VIDEO, "conditions": [{**condition, "probability": 1.0} for condition in VIDEO["conditions"]]}
MASKED = {**AUDIO, "conditions": [{**AUDIO["conditions"][0], "probability": 1.0}]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    av_set(tmp_path / "data")
    return tmp_path


def of(seen: Seen, modality: str) -> Count:
    return next(count for count in counts(seen) if count.modality == modality)


def test_tokens_of_every_fate_are_counted(root: Path) -> None:
    (seen,) = seen_of(av_run(root, video=ALWAYS, audio=MASKED))
    video, audio = of(seen, "video"), of(seen, "audio")
    assert (video.generated, video.given, video.partly, video.appended, video.in_loss) == (16, 8, 0, 6, 16)
    assert (audio.generated, audio.given, audio.partly, audio.appended, audio.in_loss) == (2, 2, 4, 0, 2)
    assert tuple(video.conditions) == ("video.cond0.reference", "video.cond1.first_frame")
    assert tuple(audio.conditions) == ("audio.cond0.mask",)
    assert video.sample == audio.sample == seen.micro_batch.names[0]
    assert video.timesteps == (0.0, video.sigma)
    assert (video.sigma, audio.sigma) == (float(seen.inputs["video"].sigma[0]), float(seen.inputs["audio"].sigma[0]))
    assert video.loss is None


def test_counts_say_at_which_level_tokens_are_given(root: Path) -> None:
    reference, first_frame = ALWAYS["conditions"]
    (seen,) = seen_of(av_run(root, video={**ALWAYS, "conditions": [reference, {**first_frame, "level": 0.25}]}, audio=MASKED))
    assert of(seen, "video").levels == (0.0, 0.25)
    assert of(seen, "audio").levels is None


def test_counts_say_with_which_strength_media_are_appended(root: Path) -> None:
    reference, first_frame = ALWAYS["conditions"]
    (seen,) = seen_of(av_run(root, video={**ALWAYS, "conditions": [{**reference, "strength": 0.5}, first_frame]}, audio=MASKED))
    assert (of(seen, "video").strengths, of(seen, "audio").strengths) == ((0.5,), ())


def test_counts_say_where_the_target_lies(root: Path) -> None:
    (seen,) = seen_of(av_run(root, video=ALWAYS, audio=MASKED))
    assert of(seen, "video").seconds == pytest.approx((0.0, 17 / 16))
    assert of(seen, "video").pixels == (64, 128)
    assert of(seen, "audio").seconds == pytest.approx((0.0, 0.29))
    assert of(seen, "audio").pixels is None


def test_a_condition_that_was_not_drawn_is_not_named(root: Path) -> None:
    never = {**VIDEO, "conditions": [{**condition, "probability": 0.0} for condition in VIDEO["conditions"]]}
    (seen,) = seen_of(av_run(root, video=never, audio=MASKED))
    video = of(seen, "video")
    assert (video.generated, video.given, video.appended, video.conditions) == (24, 0, 0, {})


def test_a_frozen_modality_is_given_and_counts_nowhere(root: Path) -> None:
    frozen = {"is_generated": False, "latents_dir": "latents", "conditions": [ALWAYS["conditions"][0]]}
    (seen,) = seen_of(av_run(root, video=frozen, audio=MASKED))
    video = of(seen, "video")
    assert (video.is_generated, video.generated, video.given, video.partly, video.appended, video.in_loss) == (False, 0, 24, 0, 6, 0)
    assert (video.sigma, video.timesteps) == (0.0, (0.0, 0.0))


def test_amounts_follow_from_timesteps_where_a_strategy_gives_no_mask(root: Path) -> None:
    """A strategy of a stranger may leave out what only we ask for."""
    (seen,) = seen_of(av_run(root, video=ALWAYS, audio=MASKED))
    whole = seen.inputs["audio"]
    bare = attrs.evolve(whole, denoise_mask=None)
    torch.testing.assert_close(tokens_of(bare, 0).given, tokens_of(whole, 0).given)
    without_target = attrs.evolve(bare, clean=None, loss_mask=None)
    assert tokens_of(without_target, 0).num_target == 8
    assert int(tokens_of(without_target, 0).counted.sum()) == 0
    still = attrs.evolve(bare, sigma=torch.zeros(2), timesteps=torch.zeros(2, 8))
    assert tokens_of(still, 0).given.tolist() == [0.0] * 8
