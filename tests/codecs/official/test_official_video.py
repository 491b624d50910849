"""The video VAE as a codec, against diffusers' class used directly."""

import pytest
import torch

from helpers.official_models import CHANNELS, video_module
from ltxcore.codecs.official import video_vae
from ltxcore.codecs.official.tiles import Tiling
from ltxcore.errors import ConfigError, DataError
from ltxcore.protocols import Clip

LAYOUTS = ("2.0", "2.3", "2.5", "folder 2.0", "folder 2.3")


def clip(frames=17, height=64, width=96, seed=0):
    """Soft moving stripes: neighbours are alike, as in a real clip."""
    time, rows, columns = torch.meshgrid(torch.arange(frames), torch.arange(height), torch.arange(width), indexing="ij")
    colours = [127.5 + 120 * torch.sin((rows * a + columns * b) / 20 + time / 6 + seed) for a, b in ((1, 0.3), (0.2, 1), (0.7, 0.7))]
    return Clip(torch.stack(colours, dim=-1).to(torch.uint8), 24.0)


def direct(layout):
    module = video_module(layout.split()[-1])
    return module, module.latents_mean.view(1, -1, 1, 1, 1), module.latents_std.view(1, -1, 1, 1, 1)


def loaded(models, layout, **options):
    model, own, _ = models[layout]
    return video_vae.load(model, own, **{"dtype": torch.float32, **options})


@pytest.mark.parametrize("layout", LAYOUTS)
def test_latents_are_the_normalised_mode_and_decode_to_the_same_pixels(models, layout):
    codec = loaded(models, layout)
    module, mean, std = direct(layout)
    given = clip()
    pixels = given.frames.permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    expected = (module.encode(pixels).latent_dist.mode() - mean) / std
    latents = codec.encode(given)
    assert (latents.shape, latents.dtype, latents.is_contiguous()) == ((CHANNELS, 3, 2, 3), torch.float32, True)
    assert torch.equal(latents, expected[0])

    decoded = codec.decode(latents, 12.5)
    shown = ((module.decode(expected * std + mean).sample[0] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    assert (decoded.rate, decoded.frames.shape) == (12.5, (17, 64, 96, 3))
    assert torch.equal(decoded.frames, shown.permute(1, 2, 3, 0))
    assert (codec.modality, codec.scale) == ("video", (8, 32, 32))


def test_an_image_is_a_clip_of_one_frame(models):
    codec = loaded(models, "2.0")
    latents = codec.encode(clip(frames=1))
    assert latents.shape == (CHANNELS, 1, 2, 3)
    assert codec.decode(latents, 1.0).frames.shape == (1, 64, 96, 3)


def test_bf16_agrees_with_fp32_to_its_own_precision(models):
    exact, rounded = loaded(models, "2.3").encode(clip()), loaded(models, "2.3", dtype=torch.bfloat16).encode(clip())
    assert rounded.dtype == torch.float32
    assert float((exact - rounded).square().mean().sqrt() / exact.square().mean().sqrt()) < 0.02


def test_only_the_half_that_is_used_is_read(models):
    codec = loaded(models, "2.3")
    module = codec._part.module
    assert all(tensor.is_meta for tensor in module.parameters())
    codec.encode(clip(frames=1))
    assert not any(tensor.is_meta for tensor in module.encoder.parameters())
    assert all(tensor.is_meta for tensor in module.decoder.parameters())


@pytest.mark.parametrize("size", [(16, 64, 96), (17, 60, 96), (17, 64, 90)])
def test_a_clip_that_does_not_fit_the_latent_grid_is_refused(models, size):
    with pytest.raises(DataError) as caught:
        loaded(models, "2.0").encode(clip(*size))
    assert str(caught.value) == (
        f"a clip of {size[0]} frames of {size[1]} x {size[2]} pixels cannot be encoded\n"
        "    The number of frames must be a multiple of 8 plus 1, the height a multiple of 32, and the width a multiple of 32."
    )


def test_one_tile_that_holds_the_clip_is_the_whole_clip(models):
    whole, tiled = loaded(models, "2.3"), loaded(models, "2.3", tiling=Tiling(side=128, side_overlap=32, frames=32, frames_overlap=8))
    latents = whole.encode(clip())
    assert torch.equal(tiled.encode(clip()), latents)
    assert torch.equal(tiled.decode(latents, 24.0).frames, whole.decode(latents, 24.0).frames)


def test_tiles_come_near_the_whole_clip(models):
    given = clip(frames=25, height=128, width=160)
    whole, tiled = loaded(models, "2.3"), loaded(models, "2.3", tiling=Tiling(side=128, side_overlap=64, frames=24, frames_overlap=16))
    latents, found = whole.encode(given), tiled.encode(given)
    assert found.shape == latents.shape == (CHANNELS, 4, 4, 5)
    assert apart(latents, found) < 0.25  # random weights see far; those of a real VAE hardly look past the overlap

    shown, pieces = whole.decode(latents, 24.0).frames.float(), tiled.decode(latents, 24.0).frames.float()
    assert pieces.shape == shown.shape == (25, 128, 160, 3)
    assert apart(shown, pieces) < 0.25


def apart(expected, found):
    return float((found - expected).square().mean().sqrt() / expected.square().mean().sqrt())


def test_tiles_that_do_not_fit_the_grid_are_refused(models):
    with pytest.raises(ConfigError) as caught:
        loaded(models, "2.3", tiling=Tiling(side=100, side_overlap=32))
    assert str(caught.value) == (
        "tiles of 100 pixels with an overlap of 32 cannot be used\n    The size and the overlap must be multiples of 32 pixels, and the overlap must be smaller than the size."
    )


def test_the_fingerprint_tells_weights_precision_and_tiles_apart(models):
    usual = loaded(models, "2.3", dtype=torch.bfloat16).fingerprint
    assert usual.startswith("ltx-video-")
    assert loaded(models, "2.3").fingerprint == f"{usual}+dtype=float32"
    assert loaded(models, "2.3", dtype=torch.bfloat16, tiling=Tiling()).fingerprint == f"{usual}+tiles=512/128"
    assert loaded(models, "2.3", tiling=Tiling(None, 0, 64, 24)).fingerprint == f"{usual}+dtype=float32+tiles=,64/24"
    assert loaded(models, "2.0", dtype=torch.bfloat16).fingerprint != usual
    assert loaded(models, "2.5", dtype=torch.bfloat16).fingerprint == usual  # the same tensors in another layout of file
