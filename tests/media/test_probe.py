"""What is in a media file, and files that are not what they should be."""

import random
from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.stream import Disposition

from helpers.media_made import cut, encode, gradient_clip, tone
from ltxcore.errors import DataError
from ltxcore.media.probe import MediaInfo, frame_seconds, probe, read_clip, read_sound, write_clip, write_sound

CUT = "this file is cut short: it ends earlier than its header says\n    Copy or download the file again."
NO_MEDIUM = "this is not a clip, a sound or an image that can be read\n    Play the file to see whether it is intact, and convert it to MP4, WAV or PNG."


def test_a_clip_with_sound_is_described_without_decoding(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_clip(path, gradient_clip(25, 64, 96, rate=30000 / 1001), tone(0.8, 48_000, channels=2))
    rate = Fraction(30000, 1001)
    assert probe(path) == MediaInfo(path, 25, 64, 96, rate, float(25 / rate), 48_000, 2, False)


def test_frames_are_counted_where_the_container_does_not(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", gradient_clip(25), tone(2.0))
    info = probe(path)
    assert (info.frames, info.rate, info.duration) == (25, 24, pytest.approx(25 / 24))


def test_a_sound_is_described(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write_sound(path, tone(1.5, 44_100, channels=2))
    assert probe(path) == MediaInfo(path, None, None, None, None, 1.5, 44_100, 2, False)


def test_an_image_has_one_frame_and_neither_rate_nor_duration(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_clip(path, gradient_clip(1, 31, 45))
    assert probe(path) == MediaInfo(path, 1, 31, 45, None, None, None, None, True)


def test_a_cover_picture_does_not_make_a_sound_a_clip(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    with av.open(str(path), "w") as container:
        track = container.add_stream("libmp3lame", rate=16_000, layout="mono")
        cover = container.add_stream("png", rate=1)
        cover.height = cover.width = 32
        cover.pix_fmt, cover.disposition = "rgb24", Disposition.attached_pic
        samples = av.AudioFrame.from_ndarray(tone().samples.numpy(), format="fltp", layout="mono")
        samples.sample_rate, samples.pts, samples.time_base = 16_000, 0, Fraction(1, 16_000)
        picture = av.VideoFrame.from_ndarray(gradient_clip(1, 32, 32).frames[0].numpy(), format="rgb24")
        for packet in (*cover.encode(picture), *cover.encode(None), *track.encode(samples), *track.encode(None)):
            container.mux(packet)
    info = probe(path)
    assert (info.frames, info.channels, info.is_image) == (None, 1, False)
    assert read_sound(path).rate == 16_000
    with pytest.raises(DataError) as error:
        read_clip(path)
    assert str(error.value) == f"{path}: this file has no video\n    Name a clip or an image, or leave the video column out."


READERS = (probe, read_clip, read_sound)


@pytest.mark.parametrize("read", READERS)
def test_a_missing_file_and_a_folder_are_named(tmp_path: Path, read: object) -> None:
    with pytest.raises(DataError) as error:
        read(tmp_path / "none.mp4")
    assert (
        str(error.value)
        == f"{tmp_path}/none.mp4: there is no such file\n    Check the path; paths in a dataset are relative to the dataset's own folder."
    )
    with pytest.raises(DataError) as error:
        read(tmp_path)
    assert str(error.value) == f"{tmp_path}: this is a folder, not a media file\n    Name a file in the folder."


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("content", [b"", random.Random(0).randbytes(5000), b"A caption, no medium.\n" * 50, b"\x00" * 4096])
def test_what_is_no_medium_is_refused(tmp_path: Path, read: object, content: bytes) -> None:
    path = tmp_path / "a.mp4" if content[:1] != b"A" else tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read(path)
    assert str(error.value) == f"{path}: {NO_MEDIUM}"


def test_subtitles_are_neither_pictures_nor_sound(tmp_path: Path) -> None:
    path = tmp_path / "a.srt"
    path.write_text("1\n00:00:00,000 --> 00:00:01,000\nHello\n")
    with pytest.raises(DataError) as error:
        probe(path)
    assert str(error.value) == f"{path}: this file has neither video nor audio\n    Name a clip, a sound or an image."


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.999])
@pytest.mark.parametrize("name", ["a.mp4", "plain.mov", "a.mkv", "a.webm", "a.avi"])
def test_a_clip_that_was_cut_short_is_refused_even_where_enough_is_left(tmp_path: Path, name: str, share: float) -> None:
    if name == "a.mp4":
        write_clip(tmp_path / name, gradient_clip(49), tone(2.0))
    else:
        video, audio = ("libvpx-vp9", "libopus") if name.endswith("webm") else ("libx264", "aac")
        encode(tmp_path / name, gradient_clip(49), tone(2.0, 48_000), pictures=video, codec=audio)
    path = cut(tmp_path / name, tmp_path / f"short_{name}", share)
    for read in (probe, lambda p: read_clip(p, max_frames=1), lambda p: read_sound(p, max_duration=0.01)):
        with pytest.raises(DataError) as error:
            read(path)
        assert str(error.value) == f"{path}: {CUT}"


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize(("name", "codec"), [("a.wav", "pcm_s16le"), ("a.ogg", "libopus"), ("a.m4a", "aac"), ("a.oga", "flac")])
def test_a_sound_that_was_cut_short_is_refused(tmp_path: Path, name: str, codec: str, share: float) -> None:
    encode(tmp_path / name, sound=tone(2.0, 48_000), codec=codec)
    path = cut(tmp_path / name, tmp_path / f"short_{name}", share)
    with pytest.raises(DataError) as error:
        read_sound(path)
    assert str(error.value) == f"{path}: {CUT}"


def test_a_cut_flac_file_is_damaged(tmp_path: Path) -> None:
    path = cut(encode(tmp_path / "a.flac", sound=tone(2.0, 48_000), codec="flac"), tmp_path / "b.flac", 0.6)
    with pytest.raises(DataError) as error:
        read_sound(path)
    assert str(error.value) == (
        f"{path}: this file is damaged: Invalid data found when processing input\n    Copy or download the file again, or encode the file again."
    )


@pytest.mark.parametrize(
    ("name", "reason"),
    [("a.jpg", CUT), ("a.png", "this file is damaged: {}\n    Copy or download the file again, or encode the file again.")],
)
def test_an_image_that_was_cut_short_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    write_clip(tmp_path / name, gradient_clip(1, 256, 256))
    path = cut(tmp_path / name, tmp_path / f"short_{name}", 0.6)
    with pytest.raises(DataError) as error:
        read_clip(path)
    assert str(error.value) == f"{path}: {reason.format('Invalid data found when processing input')}"
    path = cut(tmp_path / name, tmp_path / f"stub_{name}", 0.02 if name == "a.png" else 0.5)
    with pytest.raises(DataError) as error:
        probe(path)
    assert str(error.value) in (f"{path}: {reason.format('the frames have no size')}", f"{path}: {NO_MEDIUM}")


def test_a_clip_with_a_hole_in_it_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_clip(path, gradient_clip(49))
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + 4
    hole = slice(start + 900, start + 1100)
    content[hole] = bytes(len(content[hole]))
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read_clip(path)
    assert str(error.value) == (
        f"{path}: this file is damaged: Invalid data found when processing input\n    Copy or download the file again, or encode the file again."
    )


def test_the_times_of_frames_are_told_in_the_order_in_which_they_are_shown(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", gradient_clip(frames=25, rate=16))
    with av.open(str(path)) as container:
        stored = [packet.pts for packet in container.demux(container.streams.video[0]) if packet.size]
    assert stored != sorted(stored)  # frames that others are predicted from come first
    assert frame_seconds(path, 5) == [0, 1 / 16, 2 / 16, 3 / 16, 4 / 16]
    assert len(frame_seconds(path, 100)) == 25
    assert frame_seconds(encode(tmp_path / "a.wav", sound=tone(), codec="pcm_s16le"), 5) == []
