"""Pictures from files reach a condition in generation as pictures of clips do in training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.sample_made import clip_file, condition, encoded, image_file, info, message, planned, sampler
from ltxcore.codecs.load_codecs import video_codec
from ltxcore.conditions import ConditionUse, PictureFiles, SampleCondition
from ltxcore.encode.buckets import Bucket
from ltxcore.encode.pixels import read_fitted
from ltxcore.errors import LtxError
from ltxcore.flow.draws import CountedDraws
from ltxcore.media.compressed import compressed
from ltxcore.pictures import StoredPictures
from ltxcore.protocols import Batch, Clip, Setting, StoredLatents, Text
from ltxcore.sample.empty_tokens import modalities_of
from ltxcore.sample.sampler import conditioned, unknown
from ltxcore.strategy import Flexible, VideoTable
from ltxcore.train.validation_loss import FixedSigma

STILL = Bucket(64, 64, 1)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    image_file(folder / "first.png")
    clip_file(folder / "last.mp4", 9)
    return folder


def keyframes(media: Path, **places: Any) -> SampleCondition[Any, Any]:
    files = PictureFiles((media / "first.png", media / "last.mp4"), **places)
    return condition("keyframes", pictures={"keyframes": files})


def frames_of(media: Path, **places: Any) -> tuple[int, ...]:
    (found,) = planned(keyframes(media, **places)).conditions
    frames: tuple[int, ...] = found.pictures["keyframes"].frames
    return frames


def refused(media: Path, **places: Any) -> str:
    with pytest.raises(LtxError) as error:
        planned(keyframes(media, **places))
    return message(error.value, media)


def test_a_picture_lies_at_its_frame_or_at_the_frame_nearest_to_its_time(media: Path) -> None:
    assert frames_of(media, frames=(0, 16)) == frames_of(media, frames=(0, -1)) == (0, 16)
    assert frames_of(media, frames=(8, 3)) == (8, 3)
    assert frames_of(media, times=(0.0, 1.0)) == (0, 16)
    assert frames_of(media, times=(0.26, 0.55)) == (4, 9)


def test_pictures_outside_the_clip_or_at_one_frame_are_refused(media: Path) -> None:
    place = "validation.samples.0.conditions.0"
    has = "is outside the generated clip, which has 17 frames at 16 per second\n    Write numbers from 0 to"
    assert refused(media, frames=(0, 17)) == f"{place}: 17 in frames {has} 16, or generate more frames with video_dims."
    assert refused(media, frames=(-18, 0)) == f"{place}: -18 in frames {has} 16, or generate more frames with video_dims."
    assert refused(media, times=(0.0, 1.1)) == f"{place}: 1.1 in times {has} 1.000, or generate more frames with video_dims."
    twice = "two images show frame 16 of the generated clip\n    Give each image a place of its own in frames."
    assert refused(media, frames=(16, -1)) == f"{place}: {twice}"


def test_each_file_is_encoded_by_itself_fitted_to_the_clip(media: Path) -> None:
    (found,) = encoded(keyframes(media, frames=(0, -1))).conditions
    stored = found.pictures["keyframes"]
    codec = video_codec("tiny")
    alone = [codec.encode(read_fitted(media / name, STILL)) for name in ("first.png", "last.mp4")]
    assert torch.equal(stored.latents, torch.stack(alone)[None])
    assert stored.frames.tolist() == [[0, 16]]


def test_images_are_compressed_before_they_are_encoded_if_the_sample_asks_for_it(media: Path) -> None:
    made = encoded(keyframes(media, frames=(0, -1)), image_crf=33)
    stored = made.conditions[0].pictures["keyframes"]
    stills = [compressed(read_fitted(media / name, STILL).frames, 33) for name in ("first.png", "last.mp4")]
    assert torch.equal(stored.latents, torch.stack([video_codec("tiny").encode(Clip(still, 1.0)) for still in stills])[None])
    assert (made.comment, encoded(keyframes(media, frames=(0, -1))).comment) == ("image_crf=33", "")


def test_only_images_are_compressed_and_clips_are_used_as_they_are(media: Path) -> None:
    image, clip = (condition("first_frame", medium=media / name) for name in ("first.png", "last.mp4"))
    for asked, differs in ((image, True), (clip, False)):
        with_crf, without = (encoded(asked, image_crf=crf) for crf in (33, 0))
        found = [each.conditions[0].medium.latents for each in (with_crf, without) if each.conditions[0].medium is not None]
        assert torch.equal(*found) is not differs
        assert bool(with_crf.comment) is differs


def test_the_model_sees_in_generation_what_it_sees_in_training(media: Path) -> None:
    sample = encoded(keyframes(media, frames=(0, -1)))
    canvas, (asked,) = sample.canvas, sample.conditions
    after = conditioned(unknown(sample, "video", 128), canvas.modalities["video"], sample.conditions)
    modalities = modalities_of(info())
    use = ConditionUse("keyframes", asked.cls([0, -1]), sources={"keyframes": "keyframes"})
    strategy = Flexible(video=VideoTable(True, "latents", [use])).build(Setting(modalities, FixedSigma(1.0)))
    stored: StoredPictures = asked.pictures["keyframes"]
    four = StoredPictures(stored.latents[:, [0, 0, 1, 1]], torch.tensor([[0.0, 5.0, 9.0, 16.0]]))
    batch = Batch(
        ("a",),
        {"video": StoredLatents(torch.randn(1, 128, 3, 2, 2), torch.tensor([16.0]))},
        {},
        Text({"video": torch.zeros(1, 4, 128)}, torch.ones(1, 4)),
        pictures={"video.cond0.keyframes": four},
    )
    trained = strategy.prepare(batch, CountedDraws(1, 0, ("a",), "0.0"))["video"]
    target = trained.loss_mask.shape[1] if trained.loss_mask is not None else 0
    assert torch.equal(trained.positions, after.positions)
    assert torch.equal(trained.tokens[:, target:], after.appended)
    assert trained.denoise_mask is not None
    assert torch.equal(trained.denoise_mask, after.denoise_mask)


def test_keyframes_change_what_is_generated_and_are_not_part_of_it(media: Path) -> None:
    from helpers.sample_made import backbone

    made = [sampler(backbone()).generate(encoded(*conditions))["video"] for conditions in ((), (keyframes(media, frames=(0, -1)),))]
    assert [tuple(latents.shape) for latents in made] == [(128, 3, 2, 2)] * 2
    assert not torch.allclose(made[0], made[1])
