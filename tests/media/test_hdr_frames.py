"""HDR files, read as BT.709: what they say of themselves, in every container and codec that says it otherwise."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from helpers.hdr_made import (
    BT709,
    BT2020,
    COLOURS,
    FULL,
    GREYS,
    HLG,
    PQ,
    STUDIO,
    Numbers,
    as_rgb,
    as_yuv,
    middles,
    patches,
    shown,
    write_hdr,
    write_png,
)
from helpers.media_made import encode, gradient_clip
from ltxcore.errors import DataError
from ltxcore.media.hdr_frames import Tags, signal_of
from ltxcore.media.pictures import Rendering
from ltxcore.media.probe import probe, read_clip

FILES = {
    "ffv1.mkv": ("ffv1", "yuv444p10le"),
    "ffv1_420.mkv": ("ffv1", "yuv420p10le"),
    "ffv1_422.mkv": ("ffv1", "yuv422p12le"),
    "h264.mp4": ("libx264", "yuv420p10le"),
    "h264_8_bits.mp4": ("libx264", "yuv420p"),
    "h264.ts": ("libx264", "yuv420p10le"),
    "hevc.mov": ("libx265", "yuv420p10le"),
    "vp9_8_bits.webm": ("libvpx-vp9", "yuv420p"),
}
"""Codecs that lose nothing, so that the levels are known."""

MIXED: Numbers = np.concatenate([GREYS[:, ::8], COLOURS], axis=1)


def bits_of(pixels: str) -> int:
    return int(av.VideoFormat(pixels).components[0].bits)


def read(path: Path, **options: Any) -> Numbers:
    """The first frame, `[H, W, 3]`."""
    return read_clip(path, max_frames=1, threads=1, **options).frames[0].numpy().astype(np.float64)


@pytest.mark.parametrize("color_range", [STUDIO, FULL])
@pytest.mark.parametrize("transfer", [HLG, PQ])
@pytest.mark.parametrize("name", FILES)
def test_a_file_becomes_what_the_formulas_say(tmp_path: Path, name: str, transfer: int, color_range: int) -> None:
    codec, pixels = FILES[name]
    planes = as_yuv(MIXED, bits_of(pixels), color_range)
    told = "fullrange=on" if codec == "libx264" and color_range == FULL else ""
    file = write_hdr(tmp_path / name, patches(planes), transfer, codec=codec, pixels=pixels, color_range=color_range, frames=2, told=told)
    expected = shown(as_rgb(planes, bits_of(pixels), color_range), transfer)
    assert np.abs(middles(read(file)) - expected).max() < 1
    assert "hdr" in probe(file).picture_corrections


@pytest.mark.parametrize("transfer", [HLG, PQ])
def test_a_ramp_is_read_the_same_when_it_is_resized(tmp_path: Path, transfer: int) -> None:
    planes = patches(as_yuv(GREYS[:, ::4], 10, STUDIO))
    file = write_hdr(tmp_path / "a.mkv", planes, transfer)
    found = read(file, resize=lambda height, width: (height // 2, width // 2))
    assert found.shape == (8, 17 * 8, 3)
    assert np.abs(middles(found, 8, 8) - shown(as_rgb(as_yuv(GREYS[:, ::4], 10, STUDIO), 10, STUDIO), transfer)).max() < 1


@pytest.mark.parametrize("pixels", ["gbrp10le", "gbrp12le", "gbrp"])
@pytest.mark.parametrize("resized", [False, True])
def test_red_green_and_blue_that_are_written_as_such_need_no_matrix(tmp_path: Path, pixels: str, resized: bool) -> None:
    top = 2 ** bits_of(pixels) - 1
    rgb = np.round(top * MIXED)
    file = write_hdr(tmp_path / "a.mkv", patches(rgb[[1, 2, 0]]), PQ, codec="libx265", pixels=pixels, matrix=0)
    found = read(file, resize=(lambda height, width: (height // 2, width // 2)) if resized else None)
    size = 8 if resized else 16
    assert np.abs(middles(found, size, size) - shown(rgb / top, PQ)).max() < 1


def test_grey_needs_no_colours(tmp_path: Path) -> None:
    planes = as_yuv(GREYS, 10, STUDIO)
    file = write_hdr(tmp_path / "a.mkv", patches(planes)[:1], HLG, codec="libx265", pixels="gray10le")
    assert np.abs(middles(read(file)) - shown(as_rgb(planes, 10, STUDIO), HLG)).max() < 1


@pytest.mark.parametrize("transfer", [HLG, PQ])
def test_a_still_is_read_likewise(tmp_path: Path, transfer: int) -> None:
    file = write_png(tmp_path / "a.png", np.moveaxis(patches(MIXED), 0, -1), transfer)
    assert np.abs(middles(read(file)) - shown(np.round(65535 * MIXED) / 65535, transfer)).max() < 1
    assert "hdr" in probe(file).picture_corrections


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_still_of_any_kind_is_read_likewise(tmp_path: Path, channels: int, bits: int) -> None:
    grey = np.moveaxis(patches(GREYS), 0, -1)
    pixels = np.concatenate([grey[..., : 1 if channels < 3 else 3], np.ones_like(grey[..., : 1 - channels % 2])], axis=-1)
    found = read(write_png(tmp_path / "a.png", pixels, HLG, bits=bits))
    top = 2**bits - 1
    assert np.abs(middles(found) - shown(np.round(top * GREYS) / top, HLG)).max() < 1


def test_the_entries_of_a_palette_are_hdr_too(tmp_path: Path) -> None:
    found = read(write_png(tmp_path / "a.png", np.moveaxis(patches(GREYS), 0, -1)[..., :1], PQ, bits=8, palette=True))
    assert np.abs(middles(found) - shown(np.round(255 * GREYS) / 255, PQ)).max() < 1


def test_a_transparent_still_is_seen_before_its_background_as_bt709(tmp_path: Path) -> None:
    grey = np.moveaxis(patches(GREYS), 0, -1)
    file = write_png(tmp_path / "a.png", np.concatenate([grey, np.full_like(grey[..., :1], 128 / 255)], axis=-1), HLG, bits=8)
    opaque = shown(np.round(255 * GREYS) / 255, HLG)
    assert np.abs(middles(read(file)) - opaque * 128 / 255).max() < 1
    white = read(file, rendering=Rendering(alpha_color=(255, 255, 255)))
    assert np.abs(middles(white) - opaque * 128 / 255 - 127).max() < 1
    assert probe(file).picture_corrections == ("alpha", "hdr")


def test_the_brightest_light_of_a_still_is_its_peak(tmp_path: Path) -> None:
    file = write_png(tmp_path / "a.png", np.moveaxis(patches(GREYS), 0, -1), PQ, max_light=400)
    assert np.abs(middles(read(file)) - shown(np.round(65535 * GREYS) / 65535, PQ, peak=400)).max() < 1


@pytest.mark.parametrize(
    ("told", "peak"),
    [
        ("master-display=G(8500,39850)B(6550,2300)R(35400,14600)WP(15635,16450)L(40000000,50):max-cll=700,300", 4000.0),
        ("max-cll=700,300", 700.0),
        ("master-display=G(8500,39850)B(6550,2300)R(35400,14600)WP(15635,16450)L(1000,50)", 1000.0),  # a tenth of a candela is not believed
    ],
)
@pytest.mark.parametrize("name", ["a.ts", "a.mkv"])
def test_pq_is_pressed_from_the_peak_of_the_display_that_it_was_made_on(tmp_path: Path, name: str, told: str, peak: float) -> None:
    planes = as_yuv(GREYS, 10, STUDIO)
    file = write_hdr(tmp_path / name, patches(planes), PQ, codec="libx265", pixels="yuv420p10le", told=f"hdr10=1:{told}", frames=2)
    assert np.abs(middles(read(file)) - shown(as_rgb(planes, 10, STUDIO), PQ, peak=peak)).max() < 1


def test_primaries_that_pq_is_not_made_in_are_believed_to_be_those_of_bt709(tmp_path: Path) -> None:
    planes = as_yuv(MIXED, 10, STUDIO)
    for primaries in (BT709, 6):
        file = write_hdr(tmp_path / "a.mkv", patches(planes), PQ, primaries=primaries)
        assert np.abs(middles(read(file)) - shown(as_rgb(planes, 10, STUDIO), PQ, primaries=BT709)).max() < 1


def test_what_is_not_told_is_as_bt2100_has_it(tmp_path: Path) -> None:
    planes = as_yuv(MIXED, 10, STUDIO)
    file = write_hdr(tmp_path / "a.mkv", patches(planes), HLG, primaries=2, matrix=2, color_range=0)
    assert np.abs(middles(read(file)) - shown(as_rgb(planes, 10, STUDIO), HLG)).max() < 1


def test_a_frame_is_believed_before_its_stream() -> None:
    assert Tags(2, 0, 9, 0).beside(Tags(18, 9, 1, 2)) == Tags(18, 9, 9, 2)


@pytest.mark.parametrize("name", ["h264.mp4", "hevc.mov"])
def test_a_file_whose_frames_alone_say_that_it_is_hdr_is_hdr(tmp_path: Path, name: str) -> None:
    codec, pixels = FILES[name]
    planes = as_yuv(GREYS, 10, STUDIO)
    file = write_hdr(tmp_path / name, patches(planes), HLG, codec=codec, pixels=pixels)
    content = file.read_bytes()
    assert content.count(b"colr") == 1
    file.write_bytes(content.replace(b"colr", b"free"))  # the box in which the container tells it too
    assert "hdr" in probe(file).picture_corrections
    assert np.abs(middles(read(file)) - shown(as_rgb(planes, 10, STUDIO), HLG)).max() < 1


def test_a_container_whose_frames_say_that_they_are_not_hdr_is_not_believed(tmp_path: Path) -> None:
    codec, pixels = FILES["h264.mp4"]
    file = write_hdr(tmp_path / "a.mp4", patches(as_yuv(GREYS, 10, STUDIO)), BT709, codec=codec, pixels=pixels)
    plain = read(file)
    content = bytearray(file.read_bytes())
    place = content.index(b"colrnclx") + 8
    content[place : place + 6] = bytes([0, BT2020, 0, HLG, 0, 9])
    file.write_bytes(content)
    assert "hdr" not in probe(file).picture_corrections
    assert np.array_equal(read(file), plain)


def test_other_files_are_read_as_they_were(tmp_path: Path) -> None:
    for name, pictures in (("a.mp4", "libx264"), ("a.webm", "libvpx-vp9")):
        file = encode(tmp_path / name, gradient_clip(9), pictures=pictures)
        assert "hdr" not in probe(file).picture_corrections
        assert np.array_equal(read(file), read(file, rendering=Rendering(hdr="keep")))


def test_hdr_can_be_kept_as_it_is(tmp_path: Path) -> None:
    planes = patches(as_yuv(GREYS, 10, STUDIO))
    hdr = read(write_hdr(tmp_path / "a.mkv", planes, HLG), rendering=Rendering(hdr="keep"))
    assert np.array_equal(hdr, read(write_hdr(tmp_path / "b.mkv", planes, BT709)))
    assert np.abs(middles(hdr) - 255 * GREYS).max() < 2


@pytest.mark.parametrize("transfer", [PQ, BT709])
@pytest.mark.parametrize(("matrix", "name"), [(8, "YCgCo"), (10, "BT.2020 with constant luminance"), (14, "ICtCp"), (15, "IPT-C2")])
def test_colours_that_are_written_in_a_way_that_is_not_read_are_refused_by_name(
    tmp_path: Path, matrix: int, name: str, transfer: int
) -> None:
    file = write_hdr(tmp_path / "a.mkv", patches(as_yuv(GREYS, 10, STUDIO)), transfer, matrix=matrix)
    for rendering in (Rendering(), Rendering(hdr="keep")):
        with pytest.raises(DataError) as refused:
            read(file, rendering=rendering)
        assert f"the colours of this file are encoded as {name}, which is not supported" in str(refused.value)
        assert str(file) in str(refused.value)


@pytest.mark.parametrize("has_exif", [False, True])
def test_the_peak_is_read_beside_data_that_pyav_has_no_name_for(tmp_path: Path, has_exif: bool) -> None:
    """A PNG in PQ that tells of a display of 4000 cd/m2, with EXIF data and without."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    exif, written = Image.Exif(), io.BytesIO()
    exif[0x010E] = "a grey square"
    Image.new("RGB", (32, 32), (128, 128, 128)).save(written, "PNG", **({"exif": exif} if has_exif else {}))
    told = struct.pack(">8H2I", 35400, 14600, 8500, 39850, 6550, 2300, 15635, 16450, 4000 * 10_000, 50)
    header, rest = written.getvalue()[:33], written.getvalue()[33:]
    path = tmp_path / "pq.png"
    path.write_bytes(header + chunk(b"cICP", bytes([9, 16, 0, 1])) + chunk(b"mDCV", told) + rest)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        if has_exif:
            with pytest.raises(ValueError, match="not a valid Type"):
                frame.side_data.keys()
        signal = signal_of(frame, Tags(), str(path))
    assert signal is not None
    assert signal.peak == 4000
