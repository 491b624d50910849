"""Real recordings, those of Debian's alsa-utils (WAV) and sound-theme-freedesktop (Ogg); skipped where they are not installed."""

import struct
import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.media_made import cut
from ltxcore.codecs.mel import log_mel, resample
from ltxcore.codecs.tiny_audio import TinyAudioCodec
from ltxcore.errors import DataError
from ltxcore.media.probe import probe, read_clip, read_sound, write_sound

ALSA, THEME = Path("/usr/share/sounds/alsa"), Path("/usr/share/sounds/freedesktop/stereo")
with_wav = pytest.mark.skipif(not ALSA.is_dir(), reason="alsa-utils is not installed: apt-get install alsa-utils")
with_ogg = pytest.mark.skipif(
    not THEME.is_dir(), reason="sound-theme-freedesktop is not installed: apt-get install sound-theme-freedesktop"
)


def last_granule(path: Path) -> int:
    """The number of samples that an Ogg Vorbis file says it has: the position on its last page."""
    content = path.read_bytes()
    return int(struct.unpack_from("<q", content, content.rindex(b"OggS") + 6)[0])


@with_wav
def test_every_wav_is_read_to_the_last_sample_as_the_standard_library_reads_it() -> None:
    paths = sorted(ALSA.glob("*.wav"))
    assert len(paths) >= 8
    for path in paths:
        with wave.open(str(path)) as file:
            values = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())
            rate = file.getframerate()
        sound = read_sound(path)
        assert (sound.rate, sound.samples.shape) == (rate, values.T.shape)
        np.testing.assert_array_equal(sound.samples.numpy(), values.T.astype(np.float32) / 32768)


@with_ogg
def test_every_ogg_is_read_at_its_own_rate_and_channels_to_the_length_it_says() -> None:
    paths = sorted(THEME.glob("*.oga"))
    seen = set()
    for path in paths:
        sound, info = read_sound(path), probe(path)
        assert (sound.rate, sound.samples.shape[0]) == (info.sound_rate, info.channels)
        # Of files of a single page FFmpeg reckons the last block otherwise than the standard, by up to 5 milliseconds.
        assert abs(last_granule(path) - sound.samples.shape[1]) <= 256
        assert sound.samples.isfinite().all()
        seen.add((sound.rate, info.channels))
    assert {channels for _, channels in seen} == {1, 2}
    assert len({rate for rate, _ in seen}) >= 3


@with_wav
@with_ogg
def test_a_voice_is_understood_the_same_from_wav_and_from_ogg() -> None:
    """Both packages hold the same speaker saying "front center"."""
    wav, ogg = read_sound(ALSA / "Front_Center.wav"), read_sound(THEME / "audio-channel-front-center.oga")
    one, other = (log_mel(resample(sound.samples, sound.rate, 16_000)) for sound in (wav, ogg))
    frames = min(one.shape[1], other.shape[1])
    loud = one[0, :frames] > -6
    assert (one[0, :frames] - other[0, :frames])[loud].abs().mean() < 0.5


@with_wav
@with_ogg
def test_recordings_go_through_the_tiny_codec_and_back() -> None:
    codec = TinyAudioCodec()
    for path in (ALSA / "Front_Center.wav", THEME / "complete.oga", THEME / "bell.oga", THEME / "camera-shutter.oga"):
        sound = read_sound(path)
        latents = codec.encode(sound)
        assert latents.isfinite().all()
        assert latents.shape[1] == (sound.samples.shape[1] * 16_000 // sound.rate) // 160 // 4 + 1
        again = codec.encode(codec.decode(latents))
        steps = again.shape[1]
        spread = (latents - latents.mean(dim=1, keepdim=True)).square().mean()
        assert (again - latents[:, :steps]).square().mean() < 0.5 * spread


@with_wav
def test_a_recording_survives_being_written(tmp_path: Path) -> None:
    sound = read_sound(ALSA / "Noise.wav")
    write_sound(tmp_path / "a.wav", sound)
    assert torch.equal(read_sound(tmp_path / "a.wav").samples, sound.samples)


@with_wav
@with_ogg
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.99])
def test_a_recording_that_was_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    for path in (ALSA / "Front_Left.wav", THEME / "service-login.oga", THEME / "bell.oga"):
        short = cut(path, tmp_path / path.name, share)
        with pytest.raises(DataError) as error:
            read_sound(short)
        assert (
            str(error.value)
            == f"{short}: this file is cut short: it ends earlier than its header says\n    Copy or download the file again."
        )


@with_wav
def test_a_recording_has_no_pictures() -> None:
    path = ALSA / "Noise.wav"
    with pytest.raises(DataError) as error:
        read_clip(path)
    assert str(error.value) == f"{path}: this file has no video\n    Name a clip or an image, or leave the video column out."
