"""Transparent pictures, seen before a background."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from helpers.media_made import gradient_clip
from ltxcore.media.pictures import Pictures, Rendering
from ltxcore.media.probe import probe, read_clip, shown_size

BEHIND = (10, 200, 255)


def drawing(seed: int = 0, height: int = 40, width: int = 56) -> Any:
    """Colours with every kind of alpha, `[H, W, 4]` uint8; what is wholly transparent has a colour too."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (height, width, 4), dtype=np.uint8)
    pixels[:8, :, 3], pixels[8:16, :, 3] = 0, 255
    return pixels


def over(pixels: Any, background: tuple[int, int, int] = (0, 0, 0)) -> torch.Tensor:
    """What is seen of straight alpha, by the formula itself."""
    colors, alpha = pixels[..., :3].astype(float), pixels[..., 3:].astype(float) / 255
    return torch.from_numpy(np.floor(colors * alpha + np.array(background) * (1 - alpha) + 0.5).astype(np.uint8))


def as_pillow_has_it(path: Path) -> Any:
    with Image.open(path) as image:
        return np.array(image.convert("RGBA"))


def clip_file(path: Path, codec: str, pixels: str, frames: int = 3, drawn: Any = drawing) -> list[Any]:
    """A clip with alpha, and its frames as they were given to the encoder."""
    given = [drawn(number) for number in range(frames)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options={"auto-alt-ref": "0"} if codec.startswith("libvpx") else {})
        stream.height, stream.width, stream.pix_fmt = *given[0].shape[:2], pixels
        for picture in given:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgba").reformat(format=pixels)))
        container.mux(stream.encode(None))
    return given


@pytest.mark.parametrize("background", [(0, 0, 0), BEHIND])
@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
def test_a_picture_is_seen_before_its_background(tmp_path: Path, name: str, background: tuple[int, int, int]) -> None:
    pixels = drawing()
    Image.fromarray(pixels).save(tmp_path / name, **({"lossless": True, "exact": True} if name == "a.webp" else {}))
    found = read_clip(tmp_path / name, rendering=Rendering(background)).frames
    assert torch.equal(found[0], over(pixels, background))
    assert probe(tmp_path / name).picture_corrections == ("alpha",)


def test_black_is_behind_what_nothing_else_was_chosen_for(tmp_path: Path) -> None:
    Image.fromarray(drawing()).save(tmp_path / "a.png")
    assert torch.equal(read_clip(tmp_path / "a.png").frames[0], over(drawing()))


def test_greys_and_palettes_may_be_transparent(tmp_path: Path) -> None:
    grey = Image.fromarray(drawing()).convert("LA")
    grey.save(tmp_path / "grey.png")
    some = Image.fromarray(drawing()[..., :3]).quantize(16)
    some.save(tmp_path / "palette.png", transparency=3)
    some.save(tmp_path / "opaque.png")
    for name in ("grey.png", "palette.png"):
        seen = over(as_pillow_has_it(tmp_path / name), BEHIND)
        assert torch.equal(read_clip(tmp_path / name, rendering=Rendering(BEHIND)).frames[0], seen)
        assert probe(tmp_path / name).picture_corrections == ("alpha",)
    assert probe(tmp_path / "opaque.png").picture_corrections == ()


def test_an_opaque_picture_is_what_it_would_be_without_alpha(tmp_path: Path) -> None:
    pixels = drawing()
    pixels[..., 3] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels[..., :3]).save(tmp_path / "b.png")
    with av.open(str(tmp_path / "a.png")) as one, av.open(str(tmp_path / "b.png")) as other:
        frame, plain = next(one.decode(video=0)), next(other.decode(video=0))
    assert (frame.format.name, plain.format.name) == ("rgba", "rgb24")
    for size in ((40, 56), (24, 32), (80, 112)):
        assert torch.equal(Pictures(Rendering(BEHIND)).pixels(frame, size), Pictures().pixels(plain, size))
    assert probe(tmp_path / "a.png").picture_corrections == ()


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("a.mov", "png", "rgba"),
        ("b.mov", "qtrle", "argb"),
        ("a.mkv", "ffv1", "bgra"),
        ("a.avi", "utvideo", "gbrap"),
        ("a.apng", "apng", "rgba"),
    ],
)
def test_every_frame_of_a_clip_is_seen_before_its_background(tmp_path: Path, name: str, codec: str, pixels: str) -> None:
    given = clip_file(tmp_path / name, codec, pixels)
    found = read_clip(tmp_path / name, rendering=Rendering(BEHIND)).frames
    assert torch.equal(found, torch.stack([over(picture, BEHIND) for picture in given]))
    assert probe(tmp_path / name).picture_corrections == ("alpha",)


def smooth(seed: int = 0) -> Any:
    """A soft picture that fades out downwards, `[H, W, 4]` uint8."""
    alpha = np.linspace(0, 255, 64).round().astype(np.uint8)[:, None, None]
    colors = gradient_clip(4, 64, 96).frames[seed].numpy()
    return np.concatenate([colors, np.broadcast_to(alpha, (64, 96, 1))], axis=-1)


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("a.mov", "prores_ks", "yuva444p10le"),
        ("a.webm", "libvpx-vp9", "yuva420p"),
        ("b.webm", "libvpx", "yuva420p"),
        ("a.mkv", "ffv1", "yuva420p"),
    ],
)
def test_alpha_of_lossy_codecs_is_seen_too(tmp_path: Path, name: str, codec: str, pixels: str) -> None:
    given = clip_file(tmp_path / name, codec, pixels, drawn=smooth)
    found = read_clip(tmp_path / name, rendering=Rendering((255, 255, 255))).frames
    expected = torch.stack([over(picture, (255, 255, 255)) for picture in given])
    assert (found.int() - expected.int()).abs().float().mean() < 3
    assert (found[:, :2].int() - 255).abs().max() < 8  # at the top there is only the background
    assert probe(tmp_path / name).picture_corrections == ("alpha",)
    assert shown_size(tmp_path / name) == (64, 96)


def test_a_gif_is_seen_before_its_background(tmp_path: Path) -> None:
    first = Image.fromarray(drawing()[..., :3]).quantize(16)
    first.save(tmp_path / "a.gif", transparency=2)
    seen = over(as_pillow_has_it(tmp_path / "a.gif"), BEHIND)
    assert torch.equal(read_clip(tmp_path / "a.gif", rendering=Rendering(BEHIND)).frames[0], seen)


def test_hidden_colours_do_not_bleed_where_a_picture_is_resized(tmp_path: Path) -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[..., 0], pixels[:, 32:] = 255, (0, 0, 255, 255)  # red that is not seen, beside blue that is
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = read_clip(tmp_path / "a.png", resize=lambda height, width: (48, 48)).frames
    assert found[..., 0].max() == 0


def test_every_product_of_two_bytes_is_rounded_to_the_nearest() -> None:
    pixels = np.zeros((256, 256, 4), np.uint8)
    pixels[..., 0], pixels[..., 3] = np.arange(256)[None], np.arange(256)[:, None]
    frame = av.VideoFrame.from_ndarray(pixels, format="rgba")
    for level in (0, 1, 100, 254, 255):
        background = (level, level, level)
        assert torch.equal(Pictures(Rendering(background)).pixels(frame, (256, 256)), over(pixels, background))
