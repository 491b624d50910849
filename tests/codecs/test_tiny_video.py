"""The tiny video codec."""

import math

import pytest
import torch

from helpers.media_made import gradient_clip, psnr
from ltxcore.codecs import cosine_blocks, tiny_video
from ltxcore.codecs.tiny_video import TinyVideoCodec
from ltxcore.errors import DataError
from ltxcore.new.tiny_world import scenes
from ltxcore.protocols import Clip

CODEC = TinyVideoCodec()


@pytest.mark.parametrize(
    ("frames", "height", "width", "shape"), [(17, 64, 64, (128, 3, 2, 2)), (1, 32, 96, (128, 1, 1, 3)), (9, 96, 64, (128, 2, 3, 2))]
)
def test_latents_have_the_shape_of_the_grid_and_come_back_as_the_clip_s_size(
    frames: int, height: int, width: int, shape: tuple[int, ...]
) -> None:
    latents = CODEC.encode(gradient_clip(frames, height, width))
    assert (latents.shape, latents.dtype, latents.is_contiguous()) == (shape, torch.float32, True)
    decoded = CODEC.decode(latents, 24.0)
    assert (decoded.frames.shape, decoded.frames.dtype, decoded.rate) == ((frames, height, width, 3), torch.uint8, 24.0)


def test_a_clip_of_the_world_can_be_watched_after_the_way_there_and_back() -> None:
    for item in scenes("base_held_out", 8):
        clip = item.clip()
        assert psnr(CODEC.decode(CODEC.encode(clip), clip.rate).frames, clip.frames) > 23


def test_smooth_pictures_come_back_nearly_as_they_were() -> None:
    clip = gradient_clip(17, 64, 64)
    assert psnr(CODEC.decode(CODEC.encode(clip), 24.0).frames, clip.frames) > 43


def test_coefficients_are_the_cosine_sums_written_out() -> None:
    clip = Clip(torch.randint(0, 256, (9, 32, 64, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8), 24.0)
    pixels = clip.frames.double() / 127.5 - 1
    block = pixels[1:9, :, 32:]  # second latent frame, second column
    found = tiny_video.coefficients(clip)[1, 0, 1]

    def cosine(k: int, size: int) -> torch.Tensor:
        scale = math.sqrt((1 if k == 0 else 2) / size)
        return scale * torch.tensor([math.cos(math.pi * k * (2 * n + 1) / (2 * size)) for n in range(size)], dtype=torch.float64)

    order = sorted(
        ((t * t + y * y + x * x + c * c, (t, y, x, c)) for t in range(8) for y in range(12) for x in range(12) for c in range(3)),
    )[:128]
    expected = [
        torch.einsum("tyxc,t,y,x,c->", block, cosine(t, 8), cosine(y, 32), cosine(x, 32), cosine(c, 3)) for _, (t, y, x, c) in order
    ]
    torch.testing.assert_close(found.double(), torch.stack(expected), atol=2e-4, rtol=1e-4)


def test_the_first_latent_frame_sees_the_first_frame_alone() -> None:
    clip = gradient_clip(17, 64, 64)
    other = Clip(clip.frames.clone(), clip.rate)
    other.frames[1:] = 255 - other.frames[1:]
    latents, changed = CODEC.encode(clip), CODEC.encode(other)
    assert torch.equal(latents[:, 0], changed[:, 0])
    assert torch.equal(latents[:, :1], CODEC.encode(Clip(clip.frames[:1], clip.rate)))
    assert not torch.isclose(latents[:, 1:], changed[:, 1:]).all(dim=0).any()


def test_each_later_latent_frame_sees_its_own_eight_frames() -> None:
    clip = gradient_clip(25, 32, 32)
    other = Clip(clip.frames.clone(), clip.rate)
    other.frames[9:17] = 0
    changed = (CODEC.encode(clip) != CODEC.encode(other)).any(dim=0).flatten()
    assert changed.tolist() == [False, False, True, False]


@pytest.mark.parametrize(("frames", "height", "width"), [(16, 64, 64), (17, 48, 64), (17, 64, 65), (8, 32, 32)])
def test_sizes_that_do_not_fit_the_blocks_are_refused(frames: int, height: int, width: int) -> None:
    with pytest.raises(DataError) as error:
        CODEC.encode(gradient_clip(frames, height, width))
    assert str(error.value) == (
        f"a clip of {frames} frames of {height} x {width} pixels cannot be encoded\n"
        "    The number of frames must be a multiple of 8 plus 1, and the height and width must be multiples of 32."
    )


def test_the_world_is_about_standardised() -> None:
    latents = torch.stack([CODEC.encode(item.clip()) for item in scenes("base_held_out", 100)])
    per_channel = latents.transpose(0, 1).flatten(1)
    assert per_channel.mean(dim=1).abs().max() < 0.2
    assert per_channel.std(dim=1).max() < 1.3
    assert 0.6 < latents.std() < 1.1


def test_the_fingerprint_changes_with_the_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    assert CODEC.fingerprint == TinyVideoCodec().fingerprint
    table = {name: dict(rows) for name, rows in cosine_blocks._table().items()}
    table["video"]["spread"] = [2 * value for value in table["video"]["spread"]]
    monkeypatch.setattr(cosine_blocks, "_table", lambda: table)
    assert TinyVideoCodec().fingerprint != CODEC.fingerprint


def test_latents_far_from_any_clip_s_still_decode() -> None:
    decoded = CODEC.decode(50 * torch.randn(128, 2, 1, 1, generator=torch.Generator().manual_seed(0)), 16.0)
    assert decoded.frames.shape == (9, 32, 32, 3)


def test_the_axes_one_by_one_give_what_the_whole_basis_gives() -> None:
    clip = Clip(torch.randint(0, 256, (17, 64, 96, 3), generator=torch.Generator().manual_seed(1)).to(torch.uint8), 24.0)
    pixels = clip.frames.double() / 127.5 - 1
    padded = torch.cat([pixels[:1].expand(7, -1, -1, -1), pixels])
    blocks_of = padded.unflatten(0, (3, 8)).unflatten(2, (2, 32)).unflatten(4, (3, 32)).permute(0, 2, 4, 1, 3, 5, 6).flatten(3)
    expected = blocks_of @ cosine_blocks.basis((8, 32, 32, 3), cosine_blocks.lowest((8, 32, 32, 3), 128)).T.double()
    torch.testing.assert_close(tiny_video.coefficients(clip).double(), expected, atol=2e-5, rtol=0)
