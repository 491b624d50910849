"""Sound from files and back."""

import math
import struct
import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.media_made import encode, gradient_clip, pitch, tone
from ltxcore.errors import DataError
from ltxcore.media.probe import read_sound, write_clip, write_sound
from ltxcore.protocols import Sound


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2), (100, 1), (48_000, 6), (96_000, 2)])
def test_a_written_sound_comes_back_to_the_last_bit_of_sixteen(tmp_path: Path, rate: int, channels: int) -> None:
    samples = torch.rand(channels, rate // 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    write_sound(tmp_path / "a.wav", Sound(samples, rate))
    found = read_sound(tmp_path / "a.wav")
    assert (found.rate, found.samples.shape, found.samples.dtype) == (rate, samples.shape, torch.float32)
    assert (found.samples - samples).abs().max() <= 1 / 32768
    write_sound(tmp_path / "b.wav", found)
    assert torch.equal(read_sound(tmp_path / "b.wav").samples, found.samples)


def test_what_is_louder_than_full_scale_is_clipped(tmp_path: Path) -> None:
    write_sound(tmp_path / "a.wav", Sound(torch.tensor([[2.0, -2.0, 0.5]]), 16_000))
    assert read_sound(tmp_path / "a.wav").samples.tolist() == [[32767 / 32768, -1.0, 0.5]]


@pytest.mark.parametrize(
    ("kind", "width", "low"),
    [("<u1", 1, -1.0), ("<i2", 2, -1.0), ("<i4", 4, -1.0), ("24", 3, -1.0)],
)
def test_samples_of_any_width_fill_the_same_range(tmp_path: Path, kind: str, width: int, low: float) -> None:
    values = np.array([-1.0, -0.5, 0.0, 0.5, 0.75, 0.0])
    if kind == "24":
        content = b"".join(struct.pack("<i", int(v * 2**23))[:3] for v in values)
    elif kind == "<u1":
        content = (values * 128 + 128).astype(kind).tobytes()
    else:
        content = (values * 2.0 ** (8 * width - 1)).astype(kind).tobytes()
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(width)
        file.setframerate(8000)
        file.writeframes(content)
    assert read_sound(tmp_path / "a.wav").samples.tolist() == [[-1.0, 0.0, 0.75], [-0.5, 0.5, 0.0]]


@pytest.mark.parametrize(
    ("name", "codec", "rate", "channels", "slack"),
    [
        ("a.flac", "flac", 44_100, 2, 0),
        ("a.mp3", "libmp3lame", 44_100, 2, 1152),
        ("a.opus", "libopus", 48_000, 2, 960),
        ("a.mkv", "pcm_f32le", 22_050, 2, 0),
    ],
)
def test_other_formats_come_at_their_own_rate_and_channels(
    tmp_path: Path, name: str, codec: str, rate: int, channels: int, slack: int
) -> None:
    sound = tone(0.8, rate, channels=channels)
    found = read_sound(encode(tmp_path / name, sound=sound, codec=codec))
    assert (found.rate, found.samples.shape[0]) == (rate, channels)
    assert 0 <= found.samples.shape[1] - sound.samples.shape[1] <= slack
    middle = slice(rate // 8, rate // 2)
    assert (found.samples[:, middle] - sound.samples[:, middle]).abs().max() < 0.05
    assert pitch(found) == pytest.approx(440, abs=2)


def test_sound_beside_pictures_keeps_its_place_and_its_tone(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", gradient_clip(25), tone(25 / 24, start=0.5))
    found = read_sound(tmp_path / "a.mp4")
    loud = int((found.samples[0].abs() > 0.1).nonzero()[0])
    assert loud == pytest.approx(8000, abs=40)
    assert 0 <= found.samples.shape[1] - round(25 / 24 * 16_000) <= 1024  # AAC fills its last frame
    assert pitch(found) == pytest.approx(440, abs=2)


@pytest.mark.parametrize(("name", "late"), [("a.mkv", 0.5), ("a.mp4", 0.5), ("a.ts", 0.25)])
def test_a_track_that_starts_after_the_pictures_is_led_by_silence(tmp_path: Path, name: str, late: float) -> None:
    codec = "mp2" if name.endswith("ts") else "aac"
    path = encode(tmp_path / name, gradient_clip(24), tone(0.5), late=late, codec=codec)
    samples = read_sound(path).samples[0]
    quiet = int(late * 16_000) - 200
    assert samples[:quiet].abs().max() < 0.02
    assert int((samples.abs() > 0.1).nonzero()[0]) == pytest.approx(late * 16_000, abs=700)


def test_a_track_that_starts_before_the_pictures_is_cut_to_them(tmp_path: Path) -> None:
    sound = tone(1.0)
    path = encode(tmp_path / "a.mkv", gradient_clip(24), Sound(sound.samples, 16_000), codec="pcm_s16le", late=-0.25)
    found = read_sound(path)
    # The container moves both, so that neither starts before 0: the pictures begin a quarter of a second into the sound.
    assert found.samples.shape[1] == pytest.approx(12_000, abs=16)
    start = 16_000 - found.samples.shape[1]
    assert (found.samples - sound.samples[:, start:]).abs().max() < 1e-3


def test_no_more_than_what_is_asked_for_is_read(tmp_path: Path) -> None:
    write_sound(tmp_path / "a.wav", tone(2.0))
    assert read_sound(tmp_path / "a.wav", max_duration=0.5).samples.shape == (1, 8000)
    assert read_sound(tmp_path / "a.wav", max_duration=9.0).samples.shape == (1, 32_000)


def test_reading_twice_gives_the_same_numbers(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp3", sound=tone(channels=2, rate=44_100), codec="libmp3lame")
    assert torch.equal(read_sound(path).samples, read_sound(path).samples)


def refusal(path: Path, sound: Sound) -> str:
    with pytest.raises(DataError) as error:
        write_sound(path, sound)
    assert not path.exists()
    return str(error.value)


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "a.mp3", tone()) == f'{tmp_path}/a.mp3: a sound cannot be written as ".mp3"\n    Use .wav.'
    assert refusal(tmp_path / "a.wav", Sound(torch.zeros(1, 0), 16_000)) == f"{tmp_path}/a.wav: a sound without samples cannot be written"
    broken = Sound(torch.tensor([[0.0, math.nan]]), 16_000)
    assert refusal(tmp_path / "a.wav", broken) == f"{tmp_path}/a.wav: audio with NaN or infinite values cannot be written"
    path = tmp_path / "a.mp4"
    with pytest.raises(DataError) as error:
        write_clip(path, gradient_clip(), broken)
    assert str(error.value) == f"{path}: audio with NaN or infinite values cannot be written"
    with pytest.raises(DataError) as error:
        write_clip(path, gradient_clip(), tone(channels=3))
    assert str(error.value) == f"{path}: a sound with 3 channels cannot be written as AAC\n    Write 1, 2, 6 (5.1) or 8 (7.1) channels."


def test_a_silent_film_and_an_image_have_no_sound(tmp_path: Path) -> None:
    for name, frames in (("a.mp4", 9), ("a.png", 1)):
        path = tmp_path / name
        write_clip(path, gradient_clip(frames))
        with pytest.raises(DataError) as error:
            read_sound(path)
        assert str(error.value) == f"{path}: this file has no audio\n    Name a file with audio, or leave out the audio of this sample."


def test_a_wav_file_of_no_samples_has_no_sound(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
    with pytest.raises(DataError) as error:
        read_sound(path)
    assert str(error.value) == f"{path}: this file has no audio: its audio track is empty\n    Record or encode the file again."
