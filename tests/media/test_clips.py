"""Pictures from files and back."""

import filecmp
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from helpers.media_made import encode, gradient_clip, psnr, tone
from ltxcore.errors import DataError
from ltxcore.media.probe import Memory, read_clip, write_clip
from ltxcore.media.written import write_frames
from ltxcore.protocols import Clip


def test_a_written_clip_comes_back_frame_by_frame_at_its_rate(tmp_path: Path) -> None:
    clip = gradient_clip(rate=24.0)
    write_clip(tmp_path / "a.mp4", clip)
    found = read_clip(tmp_path / "a.mp4")
    assert (found.frames.shape, found.frames.dtype, found.rate) == (clip.frames.shape, torch.uint8, 24.0)
    assert all(psnr(one, other) > 38 for one, other in zip(found.frames, clip.frames, strict=True))


@pytest.mark.parametrize(
    ("told", "rate"),
    [
        (30000 / 1001, Fraction(30000, 1001)),
        (24000 / 1001, Fraction(24000, 1001)),
        (23.976, Fraction(24000, 1001)),
        (23.98, Fraction(24000, 1001)),
        (29.97, Fraction(30000, 1001)),
        (59.94, Fraction(60000, 1001)),
        (16.0, Fraction(16)),
        (12.5, Fraction(25, 2)),
        (23.9, Fraction(239, 10)),
    ],
)
def test_frame_rates_are_exact(tmp_path: Path, told: float, rate: Fraction) -> None:
    write_clip(tmp_path / "a.mp4", gradient_clip(rate=told), tone(0.3))
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == rate
        assert {packet.pts * stream.time_base * rate for packet in container.demux(stream) if packet.size} == set(range(stream.frames))
    assert read_clip(tmp_path / "a.mp4").rate == float(rate)


@pytest.mark.parametrize("name", ["a.avi", "a.mkv", "a.mov"])
def test_a_decimal_that_a_container_tells_is_read_as_the_rate_that_is_meant(tmp_path: Path, name: str) -> None:
    path = encode(tmp_path / name, gradient_clip(10, 64, 64, rate=23.976), pictures="mjpeg", pixels="yuvj420p")
    assert read_clip(path).rate == 24000 / 1001


def test_writing_and_reading_twice_give_the_same_bytes_and_the_same_numbers(tmp_path: Path) -> None:
    for name in "ab":
        write_clip(tmp_path / f"{name}.mp4", gradient_clip(17, 64, 64), tone())
    assert filecmp.cmp(tmp_path / "a.mp4", tmp_path / "b.mp4", shallow=False)
    assert torch.equal(read_clip(tmp_path / "a.mp4").frames, read_clip(tmp_path / "b.mp4").frames)


COLOURS = [(200, 60, 30), (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (128, 128, 128), (20, 200, 220)]


@pytest.mark.parametrize("size", [(64, 64), (720, 1280)])
def test_colours_are_written_as_the_bt709_that_players_are_told_at_any_size(tmp_path: Path, size: tuple[int, int]) -> None:
    height, width = size
    bars = torch.tensor(COLOURS, dtype=torch.uint8).repeat_interleave(width // len(COLOURS), 0).expand(3, height, width, 3)
    write_clip(tmp_path / "a.mp4", Clip(bars, 24.0))
    with av.open(str(tmp_path / "a.mp4")) as container:
        told = container.streams.video[0].codec_context  # by the container, before anything is decoded
        frame = next(container.decode(video=0))
    for each in (told, frame):
        assert (int(each.color_primaries), int(each.color_trc), int(each.colorspace), int(each.color_range)) == (1, 1, 1, 1)
    assert b"colr" + b"nclx" + bytes([0, 1, 0, 1, 0, 1, 0]) in (tmp_path / "a.mp4").read_bytes()
    luma = frame.to_ndarray()[height // 2, :width]
    middles = slice(width // len(COLOURS) // 2, None, width // len(COLOURS))
    # By BT.709: 16 + 219 (0.2126 R + 0.7152 G + 0.0722 B).
    wanted = 16 + 219 / 255 * (torch.tensor(COLOURS, dtype=torch.float64) @ torch.tensor([0.2126, 0.7152, 0.0722], dtype=torch.float64))
    assert abs(luma[middles] - wanted.numpy()).max() <= 1
    found = read_clip(tmp_path / "a.mp4").frames[0, height // 2, middles].int()
    assert (found - torch.tensor(COLOURS)).abs().max() <= 3


def test_clips_of_odd_sizes_say_their_colours_too(tmp_path: Path) -> None:
    color = torch.tensor(COLOURS[0], dtype=torch.uint8)
    write_frames(tmp_path / "a.mp4", iter(color.expand(9, 63, 45, 3)), Fraction(24))
    with av.open(str(tmp_path / "a.mp4")) as container:
        told = container.streams.video[0].codec_context
    assert (int(told.color_primaries), int(told.color_trc), int(told.colorspace), int(told.color_range)) == (1, 1, 1, 1)
    assert (read_clip(tmp_path / "a.mp4").frames.int() - color).abs().max() <= 3


def test_a_file_that_tells_no_colours_is_read_as_it_always_was(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "5"})
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), (200, 60, 30), dtype=np.uint8), format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = 0, Fraction(1, 24)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert int(container.streams.video[0].codec_context.colorspace) == 2  # untold
    assert (read_clip(tmp_path / "a.mp4").frames.int() - torch.tensor([200, 60, 30])).abs().max() <= 3  # by BT.601


def test_colours_of_another_matrix_are_read_right(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "hd.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "5"})
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.colorspace = 1  # BT.709
        pixels = np.full((64, 64, 3), (200, 60, 30), dtype=np.uint8)
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p", dst_colorspace="ITU709")
        frame.pts, frame.time_base = 0, Fraction(1, 24)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert (read_clip(tmp_path / "hd.mp4").frames.int() - torch.tensor([200, 60, 30])).abs().max() <= 3


def test_only_the_frames_that_are_asked_for_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "long.mp4", gradient_clip(200), pictures="mjpeg", pixels="yuvj420p")  # every packet is a frame
    packets = []

    def counted(path: Path, container: object, stream: object) -> object:
        for packet in container.demux(stream):
            packets.append(packet)
            yield from packet.decode()

    monkeypatch.setattr("ltxcore.media.clips.frames_of", counted)
    assert read_clip(path, max_frames=9).frames.shape[0] == 9
    assert len(packets) < 40


def test_clips_are_read_into_one_memory_one_after_the_other(tmp_path: Path) -> None:
    for name, clip in (("long", gradient_clip(17, 64, 64)), ("short", gradient_clip(9, 32, 64))):
        write_clip(tmp_path / f"{name}.mp4", clip)
    memory = Memory()
    places = set()
    for name in ("long", "short", "long"):
        found = read_clip(tmp_path / f"{name}.mp4", max_frames=9, memory=memory).frames
        assert torch.equal(found, read_clip(tmp_path / f"{name}.mp4", max_frames=9).frames)
        places.add(found.data_ptr())
    assert len(places) == 1


@pytest.mark.parametrize("most", [1, 5, 17, 30])
def test_the_last_frames_are_those_at_the_end(tmp_path: Path, most: int) -> None:
    write_clip(tmp_path / "a.mp4", gradient_clip(17, 64, 64))
    whole = read_clip(tmp_path / "a.mp4").frames
    assert torch.equal(read_clip(tmp_path / "a.mp4", max_frames=most, last=True).frames, whole[-most:])


def test_a_clip_shorter_than_what_is_asked_for_comes_whole(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", gradient_clip(9))
    assert read_clip(tmp_path / "a.mp4", max_frames=100).frames.shape[0] == 9


@pytest.mark.parametrize(
    ("name", "pictures", "pixels"),
    [
        ("a.mkv", "libx264", "yuv444p"),
        ("a.webm", "libvpx-vp9", "yuv420p"),
        ("a.mov", "mpeg4", "yuv420p"),
        ("a.avi", "mjpeg", "yuvj420p"),
        ("a.gif", "gif", "rgb8"),
    ],
)
def test_other_containers_and_codecs_are_read(tmp_path: Path, name: str, pictures: str, pixels: str) -> None:
    clip = gradient_clip(10, 64, 64, rate=10.0)
    found = read_clip(encode(tmp_path / name, clip, pictures=pictures, pixels=pixels))
    assert (found.frames.shape, found.rate) == (clip.frames.shape, 10.0)
    assert psnr(found.frames, clip.frames) > (16 if pixels == "rgb8" else 27)


def test_a_name_that_looks_like_an_address_or_a_pattern_is_still_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("http:clip.mp4", "clip%03d.png", "a b'c\"d.mp4"):
        frames = gradient_clip(1 if name.endswith("png") else 9)
        write_clip(Path(name), frames)
        assert read_clip(Path(name)).frames.shape == frames.frames.shape


@pytest.mark.parametrize(("name", "least"), [("a.png", float("inf")), ("a.jpg", 36), ("a.JPEG", 36)])
def test_an_image_is_a_clip_of_one_frame_that_lasts_a_second(tmp_path: Path, name: str, least: float) -> None:
    picture = gradient_clip(3, 31, 45)
    picture = Clip(picture.frames[1:2], 24.0)
    write_clip(tmp_path / name, picture)
    found = read_clip(tmp_path / name)
    assert (found.frames.shape, found.rate) == (picture.frames.shape, 1.0)
    assert psnr(found.frames, picture.frames) >= least


def message(error: pytest.ExceptionInfo[DataError]) -> str:
    return str(error.value)


def test_what_a_file_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    mp4, png = tmp_path / "a.mp4", tmp_path / "a.png"
    with pytest.raises(DataError) as error:
        write_clip(mp4, gradient_clip(9, 63, 64))
    assert message(error) == f"{mp4}: frames of 63 x 64 pixels cannot be written as H.264\n    Height and width must be even."
    with pytest.raises(DataError) as error:
        write_clip(png, gradient_clip(9))
    assert message(error) == f"{png}: an image holds one frame and no sound, but this clip has 9 frames\n    Write the clip as .mp4."
    with pytest.raises(DataError) as error:
        write_clip(png, gradient_clip(1), tone())
    assert (
        message(error) == f"{png}: an image holds one frame and no sound, but this clip has 1 frame and sound\n    Write the clip as .mp4."
    )
    with pytest.raises(DataError) as error:
        write_clip(tmp_path / "a.avi", gradient_clip(9))
    assert message(error) == f'{tmp_path}/a.avi: a clip cannot be written as ".avi"\n    Use .mp4, or .png or .jpg for a single frame.'
    with pytest.raises(DataError) as error:
        write_clip(mp4, gradient_clip(0))
    assert message(error) == f"{mp4}: a clip without frames cannot be written"
    assert list(tmp_path.iterdir()) == []


def test_a_sound_file_has_no_pictures(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.wav", sound=tone(), codec="pcm_s16le")
    with pytest.raises(DataError) as error:
        read_clip(path)
    assert message(error) == f"{path}: this file has no video\n    Name a clip or an image, or leave the video column out."


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")
    with pytest.raises(DataError) as error:
        write_clip(path, gradient_clip(), tone(rate=17_000))
    assert message(error) == (
        f"{path}: a sound with 17000 samples per second cannot be written as AAC\n"
        "    AAC supports 96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350 samples per second."
    )
    assert [(found.name, found.read_bytes()) for found in tmp_path.iterdir()] == [("a.mp4", b"old")]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "a.mp4"
    with pytest.raises(DataError) as error:
        write_clip(path, gradient_clip())
    assert (
        message(error)
        == f"{path}: this file cannot be written: File exists\n    Check that the folder exists, is writable, and has space left."
    )
