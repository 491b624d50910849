"""Media through the public door: what is written is read, as a whole and in pieces."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest
import torch

from helpers.media_made import gradient_clip, pitch, psnr, tone
from ltxcore.api import Sound
from ltxcore.api.media import (
    frame_seconds,
    open_clip,
    open_sound,
    probe,
    read_clip,
    read_sound,
    read_with_gaps,
    write_frames,
    write_media,
)

RATE = Fraction(30000, 1001)


def test_frames_written_one_at_a_time_are_read_one_at_a_time_at_their_exact_rate(tmp_path: Path) -> None:
    clip, path = gradient_clip(frames=9), tmp_path / "a.mp4"
    write_frames(path, iter(clip.frames), RATE, tone(0.3, hertz=300.0))
    with open_clip(path) as (rate, frames):
        found = torch.stack(list(frames))
    assert (rate, found.shape) == (RATE, clip.frames.shape)
    assert psnr(found, clip.frames) > 30
    assert torch.equal(read_clip(path, max_frames=4).frames, found[:4])
    with open_sound(path) as pieces:
        heard = torch.cat([piece.samples for piece in pieces], dim=1)
    assert torch.equal(heard, read_sound(path).samples)
    assert (probe(path).frames, probe(path).rate, probe(path).sound_rate) == (9, RATE, 16_000)


def test_a_path_may_be_a_text_in_everything_that_reads_or_writes_media(tmp_path: Path) -> None:
    clip, path = gradient_clip(frames=9), tmp_path / "a.mp4"
    write_frames(str(path), iter(clip.frames), RATE, tone(0.3, hertz=300.0))
    assert write_media(str(tmp_path / "b"), clip) == tmp_path / "b.mp4"
    for read in (probe, partial(frame_seconds, max_frames=9)):
        assert read(str(path)) == read(path)
    with open_clip(str(path)) as (rate, frames), open_sound(str(path)) as pieces:
        assert (rate, len(list(frames)), sum(piece.samples.shape[1] for piece in pieces) > 0) == (RATE, 9, True)
    assert torch.equal(read_clip(str(path)).frames, read_clip(path).frames)
    assert torch.equal(read_sound(str(path)).samples, read_with_gaps(str(path))[0].samples)


def test_a_sound_that_aac_does_not_take_is_made_one_that_it_does(tmp_path: Path) -> None:
    write_frames(tmp_path / "a.mp4", iter(gradient_clip(frames=9).frames), RATE, Sound(tone(0.3, channels=3).samples, 17_000))
    assert (probe(tmp_path / "a.mp4").sound_rate, probe(tmp_path / "a.mp4").channels) == (48_000, 2)


def test_a_sound_is_read_at_the_rate_and_in_the_channels_that_are_asked_for(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a", sound=tone(1.0, rate=24_000, hertz=440.0, channels=2))
    assert (path, read_sound(path).samples.shape, read_sound(path).rate) == (tmp_path / "a.wav", (2, 24_000), 24_000)
    sound = read_sound(path, max_duration=0.5, rate=16_000, mono=True)
    assert (sound.samples.shape, sound.rate) == ((1, 8000), 16_000)
    assert pitch(sound) == pytest.approx(440, abs=3)


def test_a_single_frame_is_a_picture_with_its_sound_beside_it(tmp_path: Path) -> None:
    clip = gradient_clip(frames=1)
    assert write_media(tmp_path / "b.c", clip, tone(0.2)) == tmp_path / "b.c.png"
    assert torch.equal(read_clip(tmp_path / "b.c.png").frames, clip.frames)
    assert read_sound(tmp_path / "b.c.wav").duration == pytest.approx(0.2, abs=0.01)
    with open_sound(tmp_path / "b.c.png") as pieces:
        assert list(pieces) == []
