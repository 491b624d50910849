"""Pictures turned the way they are to be shown."""

import struct
from pathlib import Path

import pytest
import torch

from ltxcore.codecs.media import probe, read_clip, write_clip
from ltxcore.codecs.upright import exif_orientation
from ltxcore.errors import DataError
from ltxcore.protocols import Clip
from media_made import gradient_clip, psnr

ONE = 1 << 16


def with_matrix(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Give an MP4 file's picture track another display matrix, in its track header."""
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 40  # version and flags, times, ids, duration, reserved, layer and volume come before
    assert struct.unpack_from(">9i", content, at) == (ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30)
    struct.pack_into(">9i", content, at, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((ONE, 0, 0, ONE), lambda stored: stored),
        ((0, ONE, -ONE, 0), lambda stored: torch.rot90(stored, -1, (1, 2))),  # a telephone held upright: a quarter turn clockwise
        ((0, -ONE, ONE, 0), lambda stored: torch.rot90(stored, 1, (1, 2))),
        ((-ONE, 0, 0, -ONE), lambda stored: torch.rot90(stored, 2, (1, 2))),
        ((-ONE, 0, 0, ONE), lambda stored: stored.flip(2)),
        ((ONE, 0, 0, -ONE), lambda stored: stored.flip(1)),
    ],
)
def test_a_clip_is_turned_by_its_display_matrix(tmp_path: Path, matrix: tuple[int, int, int, int], shown: object) -> None:
    write_clip(tmp_path / "a.mp4", gradient_clip(9, 64, 96))
    stored = read_clip(tmp_path / "a.mp4").frames
    assert torch.equal(read_clip(with_matrix(tmp_path / "a.mp4", *matrix)).frames, shown(stored))


def test_the_size_that_probing_finds_is_the_stored_one(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", gradient_clip(9, 64, 96))
    info = probe(with_matrix(tmp_path / "a.mp4", 0, ONE, -ONE, 0))
    assert (info.height, info.width) == (64, 96)
    assert read_clip(tmp_path / "a.mp4").frames.shape == (9, 96, 64, 3)


def test_a_slanted_clip_is_refused(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", gradient_clip(9))
    path = with_matrix(tmp_path / "a.mp4", 46341, 46341, -46341, 46341)
    with pytest.raises(DataError) as error:
        read_clip(path)
    assert str(error.value) == (
        f"{path}: this clip is to be shown turned by an angle that is no multiple of 90 degrees\n    Encode it anew, upright."
    )


def exif(orientation: int, order: str = "<") -> bytes:
    """An EXIF segment with the make of a camera before the orientation."""
    make = struct.pack(f"{order}HHI4s", 0x010F, 2, 4, b"abc\0")
    entry = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    tiff = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, 2) + make + entry + bytes(4)
    content = b"Exif\0\0" + tiff
    return b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content


# By the EXIF standard: where the stored first row and first column are seen.
SEEN = {
    1: lambda p: p,  # top, left
    2: lambda p: p.flip(1),  # top, right
    3: lambda p: p.flip(0, 1),  # bottom, right
    4: lambda p: p.flip(0),  # bottom, left
    5: lambda p: p.transpose(0, 1),  # left, top
    6: lambda p: torch.rot90(p, -1, (0, 1)),  # right, top
    7: lambda p: torch.rot90(p.transpose(0, 1), 2, (0, 1)),  # right, bottom
    8: lambda p: torch.rot90(p, 1, (0, 1)),  # left, bottom
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_photograph_is_turned_by_its_exif_orientation(tmp_path: Path, orientation: int, order: str) -> None:
    picture = gradient_clip(2, 40, 56).frames[1]
    write_clip(tmp_path / "a.jpg", Clip(picture[None], 1.0))
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(content[:2] + exif(orientation, order) + content[2:])
    found = read_clip(tmp_path / "b.jpg").frames[0]
    expected = SEEN[orientation](picture)
    assert found.shape == expected.shape
    assert psnr(found, expected) > 36


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xd8", b"\xff\xd8\xff\xe1\x00\x0aExif\0\0II", b"\x89PNG\r\n\x1a\n", b"\xff\xd8" + exif(9), b"\xff\xd8" + exif(6)[:30]],
)
def test_exif_data_that_say_nothing_or_nonsense_mean_upright(content: bytes) -> None:
    assert exif_orientation(content) == 1
