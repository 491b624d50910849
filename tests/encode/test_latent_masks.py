from __future__ import annotations

import pytest
import torch

from helpers.golden_io import load_case
from ltxcore.encode.buckets import Bucket
from ltxcore.encode.latent_masks import audio_mask, video_mask, without_noise

SCALE = (8, 32, 32)


def recorded() -> tuple[torch.Tensor, torch.Tensor, Bucket]:
    """Mask frames `[F, h, w, channels]`, what was recorded of them, and the bucket."""
    case = load_case("09_masks", "video.temporal_groups")
    frames, height, width = case.config["pixel_fhw"]
    pixels, recorded = case.inputs["mask_pixels"], case.outputs["causal_aligned_soft"]
    assert pixels is not None
    assert recorded is not None
    return pixels.permute(0, 2, 3, 1), recorded, Bucket(width, height, frames)


def test_a_mask_touches_the_cells_and_latent_frames_of_the_recording() -> None:
    pixels, expected, bucket = recorded()
    found = video_mask(pixels, bucket, SCALE)
    assert found.shape == expected.shape
    assert torch.equal(found > 0, expected > 0)


def test_where_a_mask_does_not_change_within_a_latent_frame_it_is_that_of_the_recording() -> None:
    pixels, expected, bucket = recorded()
    groups = [pixels[:1], *pixels[1:].split(8)]
    still = torch.cat([group.amax(dim=0, keepdim=True).expand_as(group) for group in groups])
    torch.testing.assert_close(video_mask(still, bucket, SCALE), expected, rtol=1e-5, atol=1e-5)


def test_a_difference_on_purpose_a_cell_given_in_one_of_eight_frames_is_given_by_an_eighth() -> None:
    # The recording takes the largest of a latent frame's pixel frames; docs/explanation/arithmetic.md#masks-of-clips takes their mean.
    pixels, expected, bucket = recorded()
    cells = pixels[..., 0].unflatten(1, (2, 32)).unflatten(3, (2, 32)).mean(dim=(2, 4))
    mean = torch.stack([cells[0], *(cells[start : start + 8].mean(dim=0) for start in (1, 9, 17))])
    found = video_mask(pixels, bucket, SCALE)
    torch.testing.assert_close(found, mean, rtol=1e-5, atol=1e-5)
    assert found[1, 0, 1] == 0.125
    assert expected[1, 0, 1] == 1.0


def test_a_mask_follows_the_crop_of_its_clip() -> None:
    # 64 x 128 pixels in a square bucket: the middle half is kept, so a mask over the left quarter is not in it.
    mask = torch.zeros(1, 64, 128)
    mask[:, :, :32] = 1
    assert video_mask(mask, Bucket(64, 64, 1), SCALE).sum() == 0
    mask[:, :, 32:48] = 1
    assert video_mask(mask, Bucket(64, 64, 1), SCALE)[0].tolist() == [[0.5, 0.0], [0.5, 0.0]]


def test_an_image_mask_counts_for_all_frames() -> None:
    mask = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    mask[:, :32] = 255
    found = video_mask(mask, Bucket(64, 64, 17), SCALE)
    assert found.tolist() == [[[1.0, 1.0], [0.0, 0.0]]] * 3


def test_grey_is_the_mean_of_the_channels_and_is_not_thresholded() -> None:
    mask = torch.tensor([255, 51, 0], dtype=torch.uint8).expand(9, 32, 32, 3)
    torch.testing.assert_close(video_mask(mask, Bucket(32, 32, 9), SCALE), torch.full((2, 1, 1), 0.4))


def test_frames_beyond_the_bucket_do_not_count() -> None:
    mask = torch.cat([torch.zeros(9, 32, 32), torch.ones(8, 32, 32)])
    assert video_mask(mask, Bucket(32, 32, 9), SCALE).sum() == 0


def test_noise_near_0_and_1_is_taken_away_and_nothing_else() -> None:
    mask = torch.tensor([0.0, 0.003, 0.005, 0.5, 0.995, 0.997, 1.0])
    assert without_noise(mask, 1 / 255).tolist() == torch.tensor([0.0, 0.0, 0.005, 0.5, 0.995, 1.0, 1.0]).tolist()


def step_means(samples: torch.Tensor, rate: int, steps: int) -> torch.Tensor:
    """By definition: step i covers max(0, 4i - 3) to 4i + 1 hundredths of a second; at this rate those are whole samples."""
    hundredth = rate // 100
    spans = [(max(0, 4 * step - 3) * hundredth, (4 * step + 1) * hundredth) for step in range(steps)]
    return torch.stack([samples[start:end].abs().mean() for start, end in spans])


def test_a_step_has_the_mean_amplitude_of_the_time_that_it_covers() -> None:
    samples = torch.rand(2, 1050, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected = step_means(samples.abs().mean(dim=0), 1000, 27)
    torch.testing.assert_close(audio_mask(samples, 1000, 27, (4, 1, 1)), expected)


def test_the_first_step_covers_a_hundredth_of_a_second_and_the_others_four() -> None:
    samples = torch.zeros(1, 1000)
    samples[:, :10] = 1.0
    assert audio_mask(samples, 1000, 4, (4, 1, 1)).tolist() == [1.0, 0.0, 0.0, 0.0]
    samples[:, 10:20] = 1.0
    torch.testing.assert_close(audio_mask(samples, 1000, 4, (4, 1, 1)), torch.tensor([1.0, 0.25, 0.0, 0.0]))


@pytest.mark.parametrize("rate", [7, 60, 441, 8000, 11025, 44100])
def test_a_mask_of_any_rate_says_the_same(rate: int) -> None:
    # A ramp over 2 seconds, in steps of a sample: the mean over a step is the ramp's value in its middle, to half a sample.
    count = 2 * rate
    ramp = ((torch.arange(count) + 0.5) / count)[None]
    middle = torch.tensor([0.005] + [(4 * step - 1) / 100 for step in range(1, 50)]) / 2
    torch.testing.assert_close(audio_mask(ramp, rate, 50, (4, 1, 1)), middle, rtol=0, atol=0.5 / count + 1e-6)


def test_a_step_that_reaches_beyond_the_mask_goes_by_what_there_is() -> None:
    samples = torch.cat([torch.zeros(1, 90), torch.ones(1, 3)], dim=1)
    # Steps 2, 3: 0.05 to 0.09 and 0.09 to 0.13 s, of which 0.09 to 0.093 is there; step 4 has nothing.
    assert audio_mask(samples, 1000, 5, (4, 1, 1)).tolist() == [0.0, 0.0, 0.0, 1.0, 1.0]
