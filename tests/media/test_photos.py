"""AVIF and HEIC photographs, animated AVIF and WebP."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pillow_heif
import pytest
import torch
from PIL import Image

from helpers.media_made import cut, gradient_clip, psnr
from ltxcore.dataset.raw import RawFiles
from ltxcore.errors import DataError
from ltxcore.media.photos import photo_of
from ltxcore.media.probe import MediaInfo, frame_seconds, probe, read_clip, read_sound, shown_size

PICTURE = gradient_clip(2, 64, 96).frames[1]


def image(height: int = 64, width: int = 96) -> Image.Image:
    return Image.fromarray(gradient_clip(2, height, width).frames[1].numpy())


def exif(orientation: int) -> bytes:
    found = Image.Exif()
    found[0x0112] = orientation
    return found.tobytes()


def save(path: Path, picture: Image.Image, orientation: int = 1, **options: object) -> Path:
    """A photograph; the orientation is written as the boxes `irot` and `imir`."""
    if path.suffix == ".avif":
        picture.save(path, exif=exif(orientation), quality=95, **options)
    else:
        file = pillow_heif.from_pillow(picture)
        file.save(path, quality=95, exif=exif(orientation), **options)
    return path


def boxed(path: Path, kind: bytes) -> bool:
    return kind in path.read_bytes()


@pytest.mark.parametrize("name", ["a.avif", "a.heic"])
def test_a_photograph_is_a_single_picture(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name, image())
    assert probe(path) == MediaInfo(path, 1, 64, 96, None, None, None, None, True)
    clip = read_clip(path)
    assert (clip.frames.shape, clip.rate, shown_size(path), frame_seconds(path, 5)) == ((1, 64, 96, 3), 1.0, (64, 96), [])
    assert psnr(clip.frames[0], PICTURE) > 36
    assert RawFiles(tmp_path, tmp_path).info(path).picture_corrections == ()
    with pytest.raises(DataError, match="this file has no audio"):
        read_sound(path)


@pytest.mark.parametrize("name", ["a.avif", "a.heic"])
def test_a_photograph_is_as_ffmpeg_decodes_it(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name, image())
    with av.open(str(path)) as container:
        by_ffmpeg = torch.from_numpy(next(container.decode(video=0)).reformat(format="rgb24").to_ndarray())
    assert psnr(read_clip(path).frames[0], by_ffmpeg) > 36


SEEN = {
    2: lambda p: p.flip(1),
    3: lambda p: p.flip(0, 1),
    4: lambda p: p.flip(0),
    5: lambda p: p.transpose(0, 1),
    6: lambda p: torch.rot90(p, -1, (0, 1)),
    7: lambda p: torch.rot90(p.transpose(0, 1), 2, (0, 1)),
    8: lambda p: torch.rot90(p, 1, (0, 1)),
}


@pytest.mark.parametrize("name", ["a.avif", "a.heic"])
@pytest.mark.parametrize("orientation", SEEN)
def test_a_photograph_is_turned_and_mirrored_as_its_boxes_say(tmp_path: Path, name: str, orientation: int) -> None:
    path = save(tmp_path / name, image(), orientation)
    assert boxed(path, b"irot") or boxed(path, b"imir")
    found, expected = read_clip(path).frames[0], SEEN[orientation](PICTURE)
    assert found.shape == expected.shape
    assert psnr(found, expected) > 36
    info = probe(path)
    assert (info.height, info.width) == expected.shape[:2] == shown_size(path)


def test_a_photograph_of_tiles_is_read_whole(tmp_path: Path) -> None:
    """As telephones write them; FFmpeg's first stream is one tile."""
    path = save(tmp_path / "a.heic", image(300, 500), tile_size=256)
    with av.open(str(path)) as container:
        assert (container.streams.video[0].codec_context.height, container.streams.video[0].codec_context.width) == (256, 256)
    assert (probe(path).height, probe(path).width) == (300, 500)
    assert psnr(read_clip(path).frames[0], gradient_clip(2, 300, 500).frames[1]) > 36


@pytest.mark.parametrize("name", ["a.avif", "a.heic"])
def test_the_bucket_is_filled_by_a_resize_as_for_any_picture(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name, image(), 6)
    assert read_clip(path, resize=lambda height, width: (height // 2, width // 2)).frames.shape == (1, 48, 32, 3)


@pytest.mark.parametrize("name", ["a.avif", "a.heic"])
@pytest.mark.parametrize("share", [0.6, 0.9])
def test_a_photograph_that_was_cut_short_is_refused(tmp_path: Path, name: str, share: float) -> None:
    path = cut(save(tmp_path / name, image()), tmp_path / f"short_{name}", share)
    for read in (probe, read_clip, shown_size):
        with pytest.raises(DataError) as error:
            read(path)
        assert (
            str(error.value)
            == f"{path}: this file is cut short: it ends earlier than its header says\n    Copy or download the file again."
        )


@pytest.mark.parametrize("name", ["a.avif", "a.heic"])
def test_a_damaged_photograph_is_named(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name, image())
    content = bytearray(path.read_bytes())
    start = content.index(b"ispe")
    content[start : start + 16] = bytes(16)
    path.write_bytes(content)
    with pytest.raises(DataError, match="this file is damaged: ") as error:
        read_clip(path)
    assert str(error.value).startswith(f"{path}: ")


def animation(path: Path, lasts: list[int], alpha: bool = False) -> Path:
    frames = [Image.fromarray(frame.numpy()) for frame in gradient_clip(len(lasts), 64, 96).frames]
    if alpha:
        for frame in frames:
            frame.putalpha(200)
    options = {"lossless": True} if path.suffix == ".webp" else {"quality": 95}
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=lasts, **options)
    return path


@pytest.mark.parametrize("name", ["a.webp", "a.avif"])
def test_an_animation_is_a_clip_with_the_times_of_its_pictures(tmp_path: Path, name: str) -> None:
    path = animation(tmp_path / name, [100, 40, 40, 40, 80])
    info = probe(path)
    assert (info.frames, info.height, info.width, info.is_image) == (5, 64, 96, False)
    clip = read_clip(path)
    assert clip.frames.shape == (5, 64, 96, 3)
    if name == "a.webp":  # the last picture's own time counts, which the rate of a track leaves out or not
        assert (info.rate, info.duration) == (Fraction(50, 3), pytest.approx(0.3))
        assert torch.equal(clip.frames, gradient_clip(5, 64, 96).frames)
    assert frame_seconds(path, 9) == pytest.approx([0.0, 0.1, 0.14, 0.18, 0.22])
    assert frame_seconds(path, 2) == pytest.approx([0.0, 0.1])
    assert psnr(clip.frames, gradient_clip(5, 64, 96).frames) > 36
    assert read_clip(path, max_frames=2).frames.shape[0] == 2
    assert torch.equal(read_clip(path, max_frames=2, last=True).frames, clip.frames[-2:])


def test_an_animated_avif_was_read_as_one_picture_before_and_an_animated_webp_was_not_at_all(tmp_path: Path) -> None:
    raw = RawFiles(tmp_path, tmp_path)
    assert raw.info(animation(tmp_path / "a.avif", [40] * 5)).picture_corrections == ("animation",)
    assert raw.info(animation(tmp_path / "a.webp", [40] * 5)).picture_corrections == ()


def test_an_animation_with_alpha_and_one_of_a_single_picture_are_read(tmp_path: Path) -> None:
    path = animation(tmp_path / "a.webp", [40, 40], alpha=True)
    assert [frame.format.name for frame in photo_of(path).frames()] == ["rgba", "rgba"]
    assert read_clip(path).frames.shape == (2, 64, 96, 3)
    content = animation(tmp_path / "b.webp", [40, 40]).read_bytes()
    first = content.index(b"ANMF")
    second = content.index(b"ANMF", first + 4)
    alone = b"RIFF" + (second - 8).to_bytes(4, "little") + content[8:second]
    (tmp_path / "c.webp").write_bytes(alone)
    assert probe(tmp_path / "c.webp") == MediaInfo(tmp_path / "c.webp", 1, 64, 96, None, None, None, None, True)
    assert torch.equal(read_clip(tmp_path / "c.webp").frames[0], gradient_clip(2, 64, 96).frames[0])


@pytest.mark.parametrize("count", [1, 3])
def test_an_animated_webp_is_turned_once(tmp_path: Path, count: int) -> None:
    path = tmp_path / "a.webp"
    frames = gradient_clip(3, 64, 96).frames
    images = [Image.fromarray(frame.numpy()) for frame in frames]
    images[0].save(path, save_all=True, append_images=images[1:], duration=40, lossless=True, exif=exif(6))
    if count == 1:  # the first picture alone, and what follows the pictures
        content = path.read_bytes()
        places = [at for at in range(len(content) - 4) if content[at : at + 4] == b"ANMF"]
        content = content[: places[1]] + content[content.index(b"EXIF", places[-1]) :]
        path.write_bytes(b"RIFF" + (len(content) - 8).to_bytes(4, "little") + content[8:])
    clip = read_clip(path)
    assert torch.equal(clip.frames, torch.rot90(frames[:count], -1, (1, 2)))
    info = RawFiles(tmp_path, tmp_path).info(path)
    assert (info.frames, info.height, info.width, info.is_image) == (count, 96, 64, count == 1)


def test_an_animation_without_times_has_no_rate(tmp_path: Path) -> None:
    path = animation(tmp_path / "a.webp", [40, 40])
    content = bytearray(path.read_bytes())
    at = content.find(b"ANMF")
    while at >= 0:
        content[at + 20 : at + 23] = bytes(3)
        at = content.find(b"ANMF", at + 4)
    path.write_bytes(content)
    with pytest.raises(DataError, match="does not say how many frames per second"):
        probe(path)


def test_what_colours_a_photograph_is_in_goes_with_its_pixels(tmp_path: Path) -> None:
    """So that what is written for HDR is treated as a clip of that kind is."""
    path = save(tmp_path / "a.avif", image())
    content = path.read_bytes()
    at = content.index(b"colrnclx") + 8
    path.write_bytes(content[:at] + b"\0\x09\0\x10" + content[at + 4 :])
    frame = next(photo_of(path).frames())
    assert (int(frame.color_primaries), int(frame.color_trc)) == (9, 16)


def test_a_sequence_of_heic_pictures_is_a_clip(tmp_path: Path) -> None:
    path = tmp_path / "a.heics"
    with av.open(str(path), "w", format="mp4", options={"brand": "msf1"}) as container:
        stream = container.add_stream("libx265", rate=10, options={"x265-params": "log-level=none"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for index, pixels in enumerate(gradient_clip(5, 64, 96).frames.numpy()):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert (probe(path).frames, probe(path).rate, probe(path).is_image) == (5, 10, False)
    assert psnr(read_clip(path).frames, gradient_clip(5, 64, 96).frames) > 30


def test_everything_else_is_left_to_ffmpeg(tmp_path: Path) -> None:
    image().save(tmp_path / "a.webp", lossless=True)
    for name in ("a.webp", "none.avif"):
        assert photo_of(tmp_path / name) is None
    assert np.array_equal(read_clip(tmp_path / "a.webp").frames[0].numpy(), PICTURE.numpy())
