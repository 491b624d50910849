"""What is written of a sample: which kind of file, sounds that AAC takes, references beside the result."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from helpers.media_made import gradient_clip, pitch, tone
from ltxcore.codecs.mel import to_stereo
from ltxcore.media.probe import probe, read_clip, read_sound
from ltxcore.protocols import Clip, Sound
from ltxcore.sample.outputs import Played, as_high, for_aac, shown_at, with_references, write


def test_a_clip_is_written_as_mp4_a_frame_as_png_and_a_sound_as_wav(tmp_path: Path) -> None:
    assert write(Played(gradient_clip(9), tone()), tmp_path / "a") == tmp_path / "a.mp4"
    assert write(Played(gradient_clip(1)), tmp_path / "b") == tmp_path / "b.png"
    assert write(Played(None, tone()), tmp_path / "c.d") == tmp_path / "c.d.wav"
    assert probe(tmp_path / "a.mp4").sound_rate == 16_000


def test_the_sound_of_a_single_frame_is_written_beside_it(tmp_path: Path) -> None:
    assert write(Played(gradient_clip(1), tone(0.2)), tmp_path / "a") == tmp_path / "a.png"
    assert read_sound(tmp_path / "a.wav").duration == pytest.approx(0.2)
    assert torch.equal(read_clip(tmp_path / "a.png").frames, gradient_clip(1).frames)


def test_nothing_is_no_sample(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^there is neither video nor audio to write$"):
        write(Played(), tmp_path / "a")


def test_a_sound_that_aac_takes_is_left_as_it_is() -> None:
    for channels in (1, 2, 6):
        sound = tone(channels=channels)
        assert torch.equal(for_aac(sound).samples, sound.samples)


def test_other_channels_and_rates_are_brought_to_those_that_aac_has(tmp_path: Path) -> None:
    three = Sound(torch.cat([tone().samples] * 3), 16_000)
    assert torch.equal(for_aac(three).samples, to_stereo(three.samples))
    odd = for_aac(tone(0.5, 17_000, hertz=300))
    assert (odd.rate, odd.samples.shape) == (48_000, (1, 24_000))
    assert pitch(odd) == pytest.approx(300, abs=2)
    assert write(Played(gradient_clip(9), Sound(three.samples, 17_000)), tmp_path / "a").exists()


# ---------------------------------------------------------------- beside


def numbered(count: int, rate: float, height: int = 2, width: int = 2) -> Clip:
    """Frames that are as bright as their number."""
    return Clip(torch.arange(count, dtype=torch.uint8).reshape(-1, 1, 1, 1).expand(-1, height, width, 3).contiguous(), rate)


def test_a_reference_of_the_same_rate_is_shown_frame_by_frame_and_its_last_frame_stays() -> None:
    assert shown_at(numbered(5, 16.0), numbered(5, 16.0)).tolist() == [0, 1, 2, 3, 4]
    assert shown_at(numbered(3, 16.0), numbered(5, 16.0)).tolist() == [0, 1, 2, 2, 2]
    assert shown_at(numbered(1, 16.0), numbered(3, 16.0)).tolist() == [0, 0, 0]


def test_of_a_reference_with_fewer_frames_the_first_is_shown_once_and_others_as_often_as_the_factor_says() -> None:
    assert shown_at(numbered(5, 8.0), numbered(9, 16.0)).tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert shown_at(numbered(3, 8.0), numbered(7, 24.0)).tolist() == [0, 1, 1, 1, 2, 2, 2]


def test_references_stand_to_the_left_the_last_one_furthest_as_high_as_the_clip() -> None:
    clip = with_references(numbered(2, 16.0, 4, 6), [numbered(2, 16.0, 4, 2), numbered(1, 16.0, 2, 3)])
    assert clip.frames.shape == (2, 4, 6 + 2 + 6, 3)
    assert clip.frames[1, 0, :, 0].tolist() == [0] * 6 + [1] * 8


def test_a_resized_reference_keeps_its_proportions_and_an_even_width() -> None:
    assert as_high(gradient_clip(1, 32, 48).frames, 64).shape == (1, 64, 96, 3)
    assert as_high(gradient_clip(1, 30, 45).frames, 64).shape == (1, 64, 96, 3)
    same = gradient_clip(1, 64, 30).frames
    assert as_high(same, 64) is same
