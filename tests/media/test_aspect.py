"""Pixels that are not square."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch

from helpers.media_made import gradient_clip
from ltxcore.dataset.raw import RawFiles
from ltxcore.encode.buckets import Bucket
from ltxcore.encode.pixels import Cover, read_fitted
from ltxcore.media.aspect import h264_transfer
from ltxcore.media.pictures import Pictures
from ltxcore.media.probe import probe, read_clip, shown_size

PAL_WIDE = Fraction(64, 45)


def anamorphic(
    path: Path, aspect: Fraction, *, pictures: str = "libx264", pixels: str = "yuv444p", frames: int = 9, width: int = 90
) -> Path:
    """A clip of 72 x `width` pixels of this aspect."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(pictures, rate=25)
        stream.height, stream.width, stream.pix_fmt = 72, width, pixels
        stream.codec_context.sample_aspect_ratio = aspect
        for picture in gradient_clip(frames, 72, width).frames.numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixels)))
        container.mux(stream.encode(None))
    return path


def told_sizes(path: Path) -> set[tuple[int, int]]:
    """All that says how large a clip is shown; one size, where all agree."""
    info = RawFiles(path.parent, path.parent).info(path)
    found = read_clip(path, max_frames=1).frames
    return {shown_size(path) or (0, 0), (info.height or 0, info.width or 0), (int(found.shape[1]), int(found.shape[2]))}


@pytest.mark.parametrize(
    ("name", "pictures", "pixels"),
    [
        ("a.mp4", "libx264", "yuv444p"),
        ("a.mov", "prores_ks", "yuv444p10le"),
        ("a.mp4", "libx265", "yuv420p"),
        ("a.mkv", "libx264", "yuv420p"),
        ("a.ts", "libx264", "yuv420p"),
        ("a.avi", "mpeg4", "yuv420p"),
        ("a.mp4", "mpeg4", "yuv420p"),
    ],
)
def test_a_clip_is_as_wide_as_it_is_meant(tmp_path: Path, name: str, pictures: str, pixels: str) -> None:
    path = anamorphic(tmp_path / name, PAL_WIDE, pictures=pictures, pixels=pixels)
    assert told_sizes(path) == {(72, 128)}
    info = probe(path)
    assert (info.height, info.width, info.aspect, info.picture_corrections) == (72, 90, PAL_WIDE, ("square_pixels",))


def test_broadcast_and_tape_say_it_in_their_stream(tmp_path: Path) -> None:
    assert told_sizes(anamorphic(tmp_path / "a.ts", Fraction(64, 45), pictures="mpeg2video", pixels="yuv420p")) == {(72, 128)}
    with av.open(str(tmp_path / "a.dv"), "w") as container:
        stream = container.add_stream("dvvideo", rate=25)
        stream.height, stream.width, stream.pix_fmt = 576, 720, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(16, 9) / Fraction(720, 576)
        for picture in gradient_clip(2, 576, 720).frames.numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    assert told_sizes(tmp_path / "a.dv") == {(576, 1024)}
    assert probe(tmp_path / "a.dv").rate == 25


@pytest.mark.parametrize("profile", ["baseline", "main", "high", "high444"])
@pytest.mark.parametrize("aspect", [Fraction(1), Fraction(16, 11), Fraction(8, 9), Fraction(64, 45)])
@pytest.mark.parametrize("extra", ["", "interlaced=1", "cqm=jvt"])
def test_an_mp4_whose_boxes_say_nothing_of_it_is_believed_by_its_stream(tmp_path: Path, profile: str, aspect: Fraction, extra: str) -> None:
    if (extra and profile == "baseline") or (extra.startswith("cqm") and not profile.startswith("high")):
        extra = ""
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"profile": profile, "x264-params": extra})
        stream.height, stream.width, stream.pix_fmt = 72, 90, "yuv444p" if profile == "high444" else "yuv420p"
        stream.codec_context.sample_aspect_ratio = aspect
        for picture in gradient_clip(2, 72, 90).frames.numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=stream.pix_fmt)))
        container.mux(stream.encode(None))
    content = bytearray(path.read_bytes().replace(b"pasp", b"free"))
    struct.pack_into(">I", content, content.index(b"tkhd") + 80, 90 << 16)
    path.write_bytes(content)
    with av.open(str(path), stream_options=[{"skip_frame": "all"}] * 4) as container:
        assert not container.streams.video[0].sample_aspect_ratio
    assert told_sizes(path) == {(72, round(90 * aspect))}


@pytest.mark.parametrize("aspect", [Fraction(1), Fraction(1000, 1001), Fraction(11), Fraction(1, 11)])
def test_square_and_absurd_pixels_are_left(tmp_path: Path, aspect: Fraction) -> None:
    path = anamorphic(tmp_path / "a.mkv", aspect)
    assert told_sizes(path) == {(72, 90)}
    assert probe(path).picture_corrections == ()


@pytest.mark.parametrize("name", ["a.png", "a.gif", "a.apng"])
def test_the_density_of_drawings_is_for_printers(tmp_path: Path, name: str) -> None:
    codec, pixels = {"a.png": ("png", "rgb24"), "a.gif": ("gif", "rgb8"), "a.apng": ("apng", "rgb24")}[name]
    if name == "a.png":
        encoder = av.CodecContext.create(codec, "w")
        encoder.height, encoder.width, encoder.pix_fmt, encoder.time_base = 72, 90, pixels, Fraction(1)
        encoder.sample_aspect_ratio = Fraction(2)
        packets = encoder.encode(av.VideoFrame.from_ndarray(gradient_clip(1, 72, 90).frames[0].numpy(), format="rgb24"))
        (tmp_path / name).write_bytes(b"".join(bytes(packet) for packet in [*packets, *encoder.encode(None)]))
        assert b"pHYs" in (tmp_path / name).read_bytes()
    else:
        anamorphic(tmp_path / name, Fraction(2), pictures=codec, pixels=pixels, frames=2)
    assert told_sizes(tmp_path / name) == {(72, 90)}


def test_the_shape_is_of_the_stored_pixels_of_a_turned_clip(tmp_path: Path) -> None:
    anamorphic(tmp_path / "a.mp4", Fraction(2))
    with av.open(str(tmp_path / "a.mp4")) as source, av.open(str(tmp_path / "b.mp4"), "w") as target:
        copied = target.add_stream_from_template(source.streams.video[0])
        copied.set_display_rotation(90)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = copied
                target.mux(packet)
    assert told_sizes(tmp_path / "b.mp4") == {(180, 72)}
    upright = read_clip(tmp_path / "a.mp4").frames
    assert torch.equal(read_clip(tmp_path / "b.mp4").frames, torch.rot90(upright, 1, (1, 2)))


def test_stored_pixels_become_those_of_a_bucket_in_one_step(tmp_path: Path) -> None:
    path = anamorphic(tmp_path / "a.mov", Fraction(2), pictures="prores_ks", pixels="yuv444p10le")
    bucket = Bucket(128, 64, 9)
    cover = Cover.of(72, 180, bucket)
    assert cover.resized == (64, 160)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    expected = Pictures().pixels(frame, cover.resized)[:, cover.left : cover.left + 128]
    assert torch.equal(read_fitted(path, bucket).frames[0], expected)


def test_a_stretched_gradient_is_the_gradient_of_the_stretched_size(tmp_path: Path) -> None:
    found = read_clip(anamorphic(tmp_path / "a.mov", Fraction(2), pictures="prores_ks", pixels="yuv444p10le")).frames
    expected = gradient_clip(9, 72, 180).frames
    assert (found[:, :, 4:-4].int() - expected[:, :, 4:-4].int()).abs().max() <= 4


@pytest.mark.parametrize(
    ("told", "expected"), [("", 2), ("transfer=arib-std-b67", 18), ("transfer=smpte2084:colorprim=bt2020:colormatrix=bt2020nc", 16)]
)
@pytest.mark.parametrize("aspect", ["", "sar=4/3", "sar=7/5"])
def test_the_transfer_function_of_h264_is_read_without_decoding(tmp_path: Path, told: str, expected: int, aspect: str) -> None:
    path = tmp_path / "a.mp4"
    parameters = ":".join(filter(None, [told, aspect, "scenecut=0"]))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"x264-params": parameters})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context
        assert h264_transfer(codec.extradata or b"") == expected
        assert int(codec.color_trc) == expected
    assert h264_transfer(b"") is None
    assert h264_transfer(b"\1\x64\0\x1f\xff\xe1\0\4gd\0\x1f") is None
