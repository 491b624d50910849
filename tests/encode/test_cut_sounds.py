from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
import torch

from helpers.raw_media import sound_file
from ltxcore.codecs.mel import RATE, resample
from ltxcore.encode.cut_sounds import longest_fitting, read_cut
from ltxcore.media.probe import read_sound


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("duration", [Fraction(17, 16), Fraction(11, 10), Fraction(49 * 1001, 30000)])
def test_equal_durations_give_equal_lengths_whatever_the_rate(tmp_path: Path, rate: int, duration: Fraction) -> None:
    cut = read_cut(sound_file(tmp_path / "a.wav", seconds=2.0, rate=rate), duration)
    assert cut.sound.rate == RATE
    assert cut.sound.samples.shape == (1, int(duration * RATE))
    assert cut.added == 0.0


def test_a_cut_is_the_beginning_of_the_whole(tmp_path: Path) -> None:
    path = sound_file(tmp_path / "a.wav", seconds=2.0, rate=44100, channels=2)
    whole = read_sound(path)
    expected = resample(whole.samples, whole.rate, RATE)[:, : RATE // 2]
    assert torch.equal(read_cut(path, Fraction(1, 2)).sound.samples, expected)


def test_a_sound_that_ends_early_is_filled_with_silence_and_says_how_much(tmp_path: Path) -> None:
    cut = read_cut(sound_file(tmp_path / "a.wav", seconds=0.75), Fraction(1))
    assert cut.sound.samples.shape == (1, 16000)
    assert cut.sound.samples[:, 12000:].abs().max() == 0
    assert cut.added == 0.25


def test_without_filling_only_what_codecs_take_from_an_end_is_filled(tmp_path: Path) -> None:
    path = sound_file(tmp_path / "a.wav", seconds=0.75)
    assert read_cut(path, Fraction(1), fill=False).sound.samples.shape == (1, 12000)
    assert read_cut(path, Fraction(1), fill=False).added == 0
    assert read_cut(path, Fraction(4, 5), fill=False).sound.samples.shape == (1, 12800)
    assert read_cut(path, Fraction(4, 5), fill=False).added == pytest.approx(0.05)


def test_without_a_duration_the_whole_sound_counts(tmp_path: Path) -> None:
    assert read_cut(sound_file(tmp_path / "a.wav", seconds=0.75), None).sound.samples.shape == (1, 12000)


@pytest.mark.parametrize(
    ("length", "expected"), [(5.0, Fraction(4)), (4.0, Fraction(4)), (3.9995, Fraction(4)), (2.5, Fraction(5, 2)), (1.9, None)]
)
def test_a_sound_gets_the_longest_duration_that_it_has(length: float, expected: Fraction | None) -> None:
    assert longest_fitting([2.0, 4.0, 2.5], length) == expected
