"""Pictures turned the way they are to be shown."""

import io
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps, PngImagePlugin

from helpers.media_made import gradient_clip, psnr
from ltxcore.dataset.raw import RawFiles
from ltxcore.errors import DataError
from ltxcore.media.probe import probe, read_clip, shown_size, write_clip
from ltxcore.media.upright import orientation_of
from ltxcore.protocols import Clip

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
        f"{path}: this clip must be rotated for display by an angle that is not a multiple of 90 degrees\n    Encode the clip again, upright."
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
def test_metadata_that_say_nothing_or_nonsense_mean_upright(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    assert orientation_of(tmp_path / "a") in (None, 1)


PICTURE = gradient_clip(2, 40, 56).frames[1]
XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="{}"/></x:xmpmeta>'
LOSSLESS = {"a.png": {}, "a.webp": {"lossless": True}, "a.tif": {}, "b.tif": {"compression": "tiff_lzw"}}


def pillow_exif(orientation: int | None) -> bytes:
    found = Image.Exif()
    found[0x010F] = "maker"
    if orientation is not None:
        found[0x0112] = orientation
    return found.tobytes()


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_of_any_kind_is_turned_by_its_exif_orientation(tmp_path: Path, name: str, orientation: int) -> None:
    path = tmp_path / name
    Image.fromarray(PICTURE.numpy()).save(path, exif=pillow_exif(orientation), **LOSSLESS[name])
    assert torch.equal(read_clip(path).frames[0], SEEN[orientation](PICTURE))
    info = RawFiles(tmp_path, tmp_path).info(path)
    assert (info.height, info.width) == SEEN[orientation](PICTURE).shape[:2] == shown_size(path)
    assert info.picture_corrections == (("turned",) if orientation > 1 else ())


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif", "a.jpg"])
def test_an_orientation_that_only_xmp_tells_counts_as_it_does_for_pillow(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "a.png":
        told = PngImagePlugin.PngInfo()
        told.add_itxt("XML:com.adobe.xmp", XMP.format(6))
        Image.fromarray(PICTURE.numpy()).save(path, pnginfo=told)
    else:
        more = {"tiffinfo": {700: XMP.format(6).encode()}} if name == "a.tif" else {"xmp": XMP.format(6).encode()}
        Image.fromarray(PICTURE.numpy()).save(path, **more, **({"quality": 95} if name == "a.jpg" else LOSSLESS[name]))
    with Image.open(path) as opened:
        by_pillow = torch.from_numpy(np.array(ImageOps.exif_transpose(opened).convert("RGB")))
    found = read_clip(path).frames[0]
    assert found.shape == by_pillow.shape == (56, 40, 3)
    assert psnr(found, by_pillow) > 36
    assert RawFiles(tmp_path, tmp_path).info(path).picture_corrections == ("turned",)


def test_exif_data_come_before_xmp(tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    Image.fromarray(PICTURE.numpy()).save(path, lossless=True, exif=pillow_exif(3), xmp=XMP.format(6).encode())
    assert torch.equal(read_clip(path).frames[0], SEEN[3](PICTURE))


def test_a_png_may_tell_after_its_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PICTURE.numpy()).save(path, exif=pillow_exif(6))
    content = path.read_bytes()
    start = content.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4], "big")
    path.write_bytes(content[:start] + content[end:-12] + content[start:end] + content[-12:])
    assert path.read_bytes().index(b"IDAT") < path.read_bytes().index(b"eXIf")
    assert torch.equal(read_clip(path).frames[0], SEEN[6](PICTURE))


@pytest.mark.parametrize("orientation", [1, 6, 8])
def test_photographs_that_were_turned_already_do_not_become_stale(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(PICTURE.numpy()).save(path, exif=pillow_exif(orientation))
    assert RawFiles(tmp_path, tmp_path).info(path).picture_corrections == ()


def of_photographs(path: Path, orientation: int | None, degrees: int = 0) -> Path:
    """A clip of JPEG pictures with EXIF data, which PyAV has no name for, and a display matrix."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 56, 40, "yuvj420p"
        if degrees:
            stream.set_display_rotation(degrees)
        for index, picture in enumerate(gradient_clip(3, 40, 56).frames):
            content = io.BytesIO()
            Image.fromarray(picture.numpy()).save(content, "JPEG", exif=pillow_exif(orientation), quality=95)
            packet = av.Packet(content.getvalue())
            packet.pts = packet.dts = index
            packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 10), stream, True
            container.mux(packet)
    return path


@pytest.mark.parametrize("name", ["a.mov", "a.mp4", "a.mkv"])
@pytest.mark.parametrize("degrees", [90, 180, -90])
def test_a_display_matrix_is_obeyed_beside_data_that_pyav_has_no_name_for(tmp_path: Path, name: str, degrees: int) -> None:
    stored = read_clip(of_photographs(tmp_path / f"plain_{name}", None)).frames
    path = of_photographs(tmp_path / name, None, degrees)
    with av.open(str(path)) as container, pytest.raises(ValueError, match="is not a valid Type"):
        next(container.decode(video=0)).side_data.get("DISPLAYMATRIX")
    assert torch.equal(read_clip(path).frames, torch.rot90(stored, degrees // 90, (1, 2)))
    info = RawFiles(tmp_path, tmp_path).info(path)
    assert ((info.height, info.width), info.picture_corrections) == (shown_size(path), ("turned",))
    assert RawFiles(tmp_path, tmp_path).info(tmp_path / f"plain_{name}").picture_corrections == ()


@pytest.mark.parametrize("name", ["a.mov", "a.mp4", "a.avi"])
def test_a_clip_of_photographs_is_turned_as_they_say_like_ffmpeg_does(tmp_path: Path, name: str) -> None:
    stored = read_clip(of_photographs(tmp_path / f"plain_{name}", None)).frames
    path = of_photographs(tmp_path / name, 6)
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).rotation == -90
    assert torch.equal(read_clip(path).frames, torch.rot90(stored, -1, (1, 2)))
    info = RawFiles(tmp_path, tmp_path).info(path)
    assert ((info.height, info.width), info.picture_corrections) == ((56, 40), ("turned",))
