"""Waveforms to log-mel spectrograms and back, against sums written out."""

import math

import numpy as np
import pytest
import torch

from helpers.media_made import pitch, tone
from ltxcore.codecs.mel import log_mel, mel_bank, resample, sound_from_log_mel, to_stereo
from ltxcore.errors import DataError
from ltxcore.protocols import Sound


def noise(channels: int, length: int) -> torch.Tensor:
    return torch.rand(channels, length, generator=torch.Generator().manual_seed(length)) - 0.5


def slaney(hertz: float) -> float:
    return 3 * hertz / 200 if hertz < 1000 else 15 + math.log(hertz / 1000) * 27 / math.log(6.4)


def test_log_mel_is_the_sum_written_out() -> None:
    """A Fourier sum for each frame and bin, and triangles between 66 points found on the mel scale by bisection."""
    samples = noise(1, 1000)
    mirrored = np.pad(samples[0].double().numpy(), 512, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    waves = np.exp(-2j * np.pi * np.outer(np.arange(513), np.arange(1024)) / 1024)
    frames = np.stack([mirrored[at : at + 1024] * window for at in range(0, 1001, 160)])
    magnitude = np.abs(frames @ waves.T)
    top = slaney(8000.0)
    edges = []
    for point in range(66):
        low, high = 0.0, 8001.0
        for _ in range(80):
            middle = (low + high) / 2
            low, high = (middle, high) if slaney(middle) < top * point / 65 else (low, middle)
        edges.append(low)
    expected = np.zeros((len(frames), 64))
    for bin_ in range(64):
        left, centre, right = edges[bin_ : bin_ + 3]
        for k in range(513):
            hertz = k * 16_000 / 1024
            height = max(0.0, min((hertz - left) / (centre - left), (right - hertz) / (right - centre)))
            expected[:, bin_] += height * 2 / (right - left) * magnitude[:, k]
    found = log_mel(samples)
    assert found.shape == (1, 7, 64)
    np.testing.assert_allclose(found[0].numpy(), np.log(np.maximum(expected, 1e-5)), atol=2e-5)


def test_silence_is_the_floor() -> None:
    assert torch.equal(log_mel(torch.zeros(2, 1600)), torch.full((2, 11, 64), math.log(1e-5)))


@pytest.mark.parametrize(("samples", "frames"), [(16_000, 101), (16_159, 101), (16_160, 102), (513, 4)])
def test_there_are_a_hundred_frames_a_second_and_one(samples: int, frames: int) -> None:
    assert log_mel(torch.zeros(1, samples)).shape == (1, frames, 64)


def test_every_mel_bin_hears_something_and_has_area_one() -> None:
    assert ((mel_bank() > 0).sum(dim=1) >= 2).all()
    areas = mel_bank().sum(dim=1) * 16_000 / 1024
    assert areas.min() > 0.9
    assert areas.max() < 1.1


def test_what_is_shorter_than_half_a_window_is_refused() -> None:
    with pytest.raises(DataError) as error:
        log_mel(torch.zeros(1, 512))
    assert str(error.value) == "a sound of 0.032 seconds is too short\n    A sound must be longer than 0.032 seconds."


@pytest.mark.parametrize(
    ("rate_from", "rate_to"), [(44_100, 16_000), (48_000, 16_000), (8000, 16_000), (22_050, 16_000), (16_000, 48_000), (997, 1009)]
)
def test_resampling_is_the_sum_written_out(rate_from: int, rate_to: int) -> None:
    """Output n sums the inputs within six zero crossings of time n / rate_to, under a sinc of 0.99 of the lower rate's band and a Hann window."""
    samples = noise(2, 300)
    found = resample(samples, rate_from, rate_to)
    assert found.shape == (2, math.ceil(300 * rate_to / rate_from))
    band = 0.99 * min(rate_from, rate_to)
    time = np.arange(found.shape[1])[:, None] / rate_to - np.arange(300)[None, :] / rate_from
    weights = np.sinc(time * band) * np.cos(np.pi / 12 * np.clip(time * band, -6, 6)) ** 2 * band / rate_from
    np.testing.assert_allclose(found.numpy(), samples.double().numpy() @ weights.T, atol=2e-6)


def test_the_same_rate_changes_nothing() -> None:
    samples = noise(2, 100)
    assert torch.equal(resample(samples, 16_000, 16_000), samples)


@pytest.mark.parametrize("rate", [8000, 11_025, 44_100, 44_101, 48_000, 96_000])
def test_a_tone_keeps_its_pitch_and_its_loudness(rate: int) -> None:
    found = resample(tone(1.0, rate, hertz=440.0).samples, rate, 16_000)
    assert pitch(Sound(found, 16_000)) == pytest.approx(440, abs=0.5)
    assert found[0, 2000:14_000].square().mean().sqrt() == pytest.approx(0.5 / math.sqrt(2), rel=1e-3)


def test_what_the_lower_rate_cannot_hold_is_removed() -> None:
    assert resample(tone(1.0, 48_000, hertz=12_000.0).samples, 48_000, 16_000)[0, 500:-500].abs().max() < 1e-3


def test_mono_is_doubled_and_stereo_kept() -> None:
    mono, stereo = noise(1, 10), noise(2, 10)
    assert torch.equal(to_stereo(mono), mono.expand(2, -1))
    assert torch.equal(to_stereo(stereo), stereo)


def test_surround_is_mixed_by_weight_without_the_low_frequencies() -> None:
    left, right, c, _, ls, rs = six = noise(6, 10)
    expected = torch.stack([(left + 0.707 * c + 0.707 * ls) / 2.414, (right + 0.707 * c + 0.707 * rs) / 2.414])
    torch.testing.assert_close(to_stereo(six), expected)
    left, right, c, _, lb, rb, ls, rs = eight = noise(8, 10)
    expected = torch.stack([(left + 0.707 * (c + lb + ls)) / 3.121, (right + 0.707 * (c + rb + rs)) / 3.121])
    torch.testing.assert_close(to_stereo(eight), expected)


@pytest.mark.parametrize("channels", [3, 4, 5, 7])
def test_any_other_number_of_channels_is_averaged(channels: int) -> None:
    samples = noise(channels, 10)
    torch.testing.assert_close(to_stereo(samples), samples.mean(dim=0).expand(2, -1))


@pytest.mark.parametrize("hertz", [250.0, 440.0, 700.0, 1500.0])
def test_a_tone_is_heard_again_from_its_spectrogram(hertz: float) -> None:
    sound = tone(1.0, hertz=hertz)
    samples = sound.samples + 0.01 * noise(1, 16_000)
    mel = log_mel(samples)
    back = sound_from_log_mel(mel)
    assert back.shape == (1, 16_000)
    assert pitch(Sound(back, 16_000)) == pytest.approx(hertz, abs=25)  # half a mel bin
    assert (log_mel(back) - mel).abs().mean() < 0.3
    assert abs(10 * math.log10(back.square().mean() / samples.square().mean())) < 3  # decibels


def test_the_way_back_is_the_same_every_time_and_for_each_channel() -> None:
    mel = log_mel(tone(0.5).samples.expand(2, -1))
    state = torch.get_rng_state()
    back = sound_from_log_mel(mel)
    assert torch.equal(back, sound_from_log_mel(mel))
    torch.testing.assert_close(back[0], back[1])
    assert torch.equal(torch.get_rng_state(), state)
