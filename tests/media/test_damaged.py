"""Files with flipped bits: whatever comes of it, no reader raises anything but a DataError that names the file."""

import random
from collections.abc import Callable
from pathlib import Path

import pillow_heif
import pytest
from PIL import Image

from helpers.media_made import encode, gradient_clip, tone
from ltxcore.dataset.raw import RawFiles
from ltxcore.errors import DataError
from ltxcore.media.probe import frame_seconds, probe, read_clip, read_sound, shown_size, write_clip, write_sound

CLIP, SOUND = gradient_clip(9, 48, 64), tone(0.4, 48_000)


def _images() -> list[Image.Image]:
    return [Image.fromarray(frame.numpy()) for frame in CLIP.frames]


def _exif() -> bytes:
    found = Image.Exif()
    found[0x010F], found[0x0112] = "maker", 6
    return found.tobytes()


def _animated(path: Path) -> None:
    first, *rest = _images()
    first.save(path, save_all=True, append_images=rest, duration=40)


MAKE: dict[str, Callable[[Path], object]] = {
    "a.mp4": lambda path: write_clip(path, CLIP, SOUND),
    "a.mkv": lambda path: encode(path, CLIP, SOUND),
    "a.webm": lambda path: encode(path, CLIP, SOUND, pictures="libvpx-vp9", codec="libopus"),
    "a.png": lambda path: _images()[0].save(path, exif=_exif()),
    "a.wav": lambda path: write_sound(path, SOUND),
    "a.mov": lambda path: encode(path, CLIP, SOUND, pictures="mjpeg", codec="pcm_s16le", pixels="yuvj420p"),
    "a.avi": lambda path: encode(path, CLIP, SOUND, pictures="mpeg4", codec="libmp3lame"),
    "a.mpg": lambda path: encode(path, gradient_clip(9, 48, 64, 25.0), SOUND, pictures="mpeg2video", codec="mp2"),
    "a.flv": lambda path: encode(path, CLIP, tone(0.4, 44_100), pictures="flv"),
    "a.ts": lambda path: encode(path, CLIP, SOUND),
    "a.m4a": lambda path: encode(path, sound=SOUND),
    "a.ogg": lambda path: encode(path, sound=SOUND, codec="libopus"),
    "a.flac": lambda path: encode(path, sound=SOUND, codec="flac"),
    "a.mp3": lambda path: encode(path, sound=SOUND, codec="libmp3lame"),
    "a.jpg": lambda path: _images()[0].save(path, exif=_exif()),
    "a.webp": lambda path: _images()[0].save(path, exif=_exif()),
    "animated.webp": _animated,
    "a.tif": lambda path: _images()[0].save(path, exif=_exif()),
    "a.gif": _animated,
    "a.avif": lambda path: _images()[0].save(path, exif=_exif()),
    "animated.avif": _animated,
    "a.heic": lambda path: pillow_heif.from_pillow(_images()[0]).save(path, exif=_exif()),
}

FIRST_BYTES = 2000
"""Where headers are, which most damage goes to."""


def damaged(content: bytes, draw: random.Random) -> bytes:
    """A few bits flipped, or bytes set to what is likely to hurt."""
    found, within = bytearray(content), len(content) if draw.random() < 0.4 else min(len(content), FIRST_BYTES)
    for _ in range(draw.choice((1, 1, 2, 4, 8, 30))):
        at = draw.randrange(within)
        found[at] = draw.choice((found[at] ^ 1 << draw.randrange(8), found[at] ^ 1 << draw.randrange(8), 0, 0xFF))
    return bytes(found)


def refused_or_read(folder: Path, name: str, seeds: range) -> tuple[int, int]:
    """How many readings of damaged copies of a file were refused in words, and how many were not."""
    MAKE[name](folder / name)
    content, path = (folder / name).read_bytes(), folder / f"damaged_{name}"
    raw = RawFiles(folder / "none", folder)
    refused = read = 0
    readers = (probe, raw.info, lambda path: read_clip(path, max_frames=20), read_sound, lambda path: frame_seconds(path, 20), shown_size)
    for seed in seeds:
        path.write_bytes(damaged(content, random.Random(f"{name} {seed}")))
        for reader in readers:
            try:
                reader(path)
                read += 1
            except DataError as error:
                assert str(error).startswith(f"{path}: ")  # noqa: PT017 - any other error is to go through
                refused += 1
    return refused, read


@pytest.mark.parametrize("name", MAKE)
def test_a_damaged_file_is_read_or_refused_in_words(tmp_path: Path, name: str) -> None:
    refused, read = refused_or_read(tmp_path, name, range(5))
    assert refused + read == 30


@pytest.mark.whole
@pytest.mark.parametrize("name", MAKE)
def test_many_damaged_files_are_read_or_refused_in_words(tmp_path: Path, name: str) -> None:
    refused, read = refused_or_read(tmp_path, name, range(5, 105))
    assert refused + read == 600
    assert refused > 0
