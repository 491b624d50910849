"""Files that PyAV opens in another way, that it cannot decode, or that cannot be read at all: each is read, or refused in words."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import av
import pytest

from helpers.media_made import encode, gradient_clip, psnr, tone
from ltxcore.dataset.raw import RawFiles
from ltxcore.errors import DataError
from ltxcore.media.container import blaming, opened
from ltxcore.media.probe import frame_seconds, probe, read_clip, read_sound, shown_size, write_clip

REMEDY = "    Convert the file to PNG, or to MP4 with H.264 and AAC; or, if the codec is new, run pip install --upgrade av"


@pytest.mark.parametrize(
    ("name", "pictures", "sound"),
    [
        ("a.mpg", "mpeg1video", "mp2"),
        ("a.vob", "mpeg2video", "mp2"),
        ("a.flv", "flv1", "aac"),
        ("a.ts", "libx264", "aac"),
    ],
)
def test_formats_whose_streams_are_known_late_are_read(tmp_path: Path, name: str, pictures: str, sound: str) -> None:
    clip = gradient_clip(12, 64, 96, 25.0)
    pictures = "flv" if pictures == "flv1" else pictures
    path = encode(tmp_path / name, clip, tone(0.48, 44_100), pictures=pictures, codec=sound)
    info = probe(path)
    assert (info.frames, info.height, info.width, info.rate, info.sound_rate) == (12, 64, 96, 25, 44_100)
    assert shown_size(path) == (64, 96)
    assert psnr(read_clip(path).frames, clip.frames) > 25
    assert read_sound(path).rate == 44_100
    assert [round(after - before, 2) for before, after in pairwise(frame_seconds(path, 12))] == [0.04] * 11


def renamed(path: Path, codec: bytes) -> Path:
    """An MP4 whose codec has another name, and no description of the kind that would tell it all the same."""
    content = path.read_bytes()
    assert codec in content
    path.write_bytes(content.replace(codec, b"zzzz").replace(b"esds", b"free"))
    return path


def test_pictures_of_an_unknown_codec_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_clip(path, gradient_clip(9), tone(0.4))
    renamed(path, b"avc1")
    for read in (probe, read_clip, shown_size, RawFiles(tmp_path, tmp_path).info):
        with pytest.raises(DataError) as error:
            read(path)
        assert str(error.value) == f'{path}: the installed FFmpeg does not support the codec "zzzz" of the pictures\n{REMEDY}'
    assert read_sound(path).rate == 16_000  # its sound is none the worse for it


def test_a_drawing_is_named_by_its_codec(tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    path.write_text('<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"/>')
    for read in (probe, read_clip, shown_size):
        with pytest.raises(DataError) as error:
            read(path)
        assert str(error.value) == f'{path}: the installed FFmpeg does not support the codec "svg" of the pictures\n{REMEDY}'


def test_a_clip_whose_sound_is_of_an_unknown_codec_still_has_pictures(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_clip(path, gradient_clip(9), tone(0.4))
    renamed(path, b"mp4a")
    info = probe(path)
    assert (info.frames, info.sound_rate, info.unheard) == (9, None, 'the installed FFmpeg does not support the codec "zzzz" of the sound')
    assert read_clip(path).frames.shape[0] == 9
    with pytest.raises(DataError) as error:
        read_sound(path)
    assert str(error.value) == f'{path}: the installed FFmpeg does not support the codec "zzzz" of the sound\n{REMEDY}'
    assert RawFiles(tmp_path, tmp_path).info(path).unheard == info.unheard


def test_a_sound_of_an_unknown_codec_is_named(tmp_path: Path) -> None:
    path = renamed(encode(tmp_path / "a.m4a", sound=tone(0.4, 48_000)), b"mp4a")
    for read in (probe, read_sound):
        with pytest.raises(DataError) as error:
            read(path)
        assert str(error.value) == f'{path}: the installed FFmpeg does not support the codec "zzzz" of the sound\n{REMEDY}'


def test_what_ffmpeg_logs_is_logged_no_more_after_a_codec_was_looked_for(tmp_path: Path) -> None:
    before = av.logging.get_level()
    with pytest.raises(DataError):
        probe(renamed(encode(tmp_path / "a.m4a", sound=tone(0.4, 48_000)), b"mp4a"))
    assert av.logging.get_level() == before


@contextmanager
def as_nobody() -> Iterator[None]:
    """As a user who owns nothing, where the tests run as one who may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may look into."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def test_a_file_that_may_not_be_read_is_named(open_folder: Path) -> None:
    path, locked = open_folder / "a.png", open_folder / "locked"
    write_clip(path, gradient_clip(1, 16, 16))
    assert read_clip(path).frames.shape[0] == 1  # whatever is imported on the way is by now
    locked.mkdir()
    path.chmod(0)
    locked.chmod(0)
    told = "this file cannot be read: Permission denied\n    Check the permissions of the file, and the disk."
    with as_nobody():
        for read in (probe, read_clip, read_sound, shown_size, RawFiles(open_folder / "none", open_folder).info):
            for place in (path, locked / "b.png"):
                with pytest.raises(DataError) as error:
                    read(place)
                if place == path or read.__name__ != "info":
                    assert str(error.value) == f"{place}: {told}"
        with pytest.raises(DataError, match=f"{path}: cannot be read: Permission denied"):
            RawFiles(open_folder / "none", open_folder).content(path)
    locked.chmod(0o755)


@pytest.mark.parametrize("name", ["x" * 5000 + ".mp4", "a\0b.mp4", "a.mp4/b.mp4"])
def test_names_that_no_file_can_have_are_refused_in_words(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    for read in (probe, read_clip, read_sound):
        with pytest.raises(DataError, match=r"there is no such file|this file cannot be read: File name too long"):
            read(tmp_path / name)


def test_links_that_lead_in_a_circle_are_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").symlink_to("b.mp4")
    (tmp_path / "b.mp4").symlink_to("a.mp4")
    with pytest.raises(DataError, match="cannot be read: Too many levels of symbolic links"):
        probe(tmp_path / "a.mp4")


def test_what_pyav_raises_beside_its_own_errors_is_told_with_the_file(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", gradient_clip(9))
    with pytest.raises(DataError) as error, opened(path) as container:
        next(container.decode(video=0)).to_ndarray(format="no such pixels")
    assert str(error.value).startswith(f"{path}: this file is damaged: ")
    with pytest.raises(DataError) as error, blaming(path):
        av.VideoFrame(16, 16, "no such pixels")
    assert str(error.value).startswith(f"{path}: this file is damaged: ")


@pytest.mark.parametrize(
    "mistake", [ValueError("ours"), TypeError("ours"), AttributeError("ours"), ZeroDivisionError("ours"), KeyError("ours")]
)
def test_a_mistake_of_our_own_stays_one(tmp_path: Path, mistake: Exception) -> None:
    path = encode(tmp_path / "a.mkv", gradient_clip(9))
    with pytest.raises(type(mistake), match="ours"), opened(path):
        raise mistake
    with pytest.raises(AttributeError), opened(path) as container:
        container.no_such_thing()
    with pytest.raises(ValueError, match="not enough values"), opened(path):
        _, _ = path.parts[:1]


def test_a_problem_that_does_not_say_where_it_is_is_given_its_file(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", gradient_clip(9))
    with pytest.raises(DataError) as error, opened(path):
        raise DataError("is no good", remedy="Leave it.")
    assert str(error.value) == f"{path}: is no good\n    Leave it."
