"""A codec made of the video VAE, which turns clips into normalized latents and back, whole or in tiles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs
import torch
from torch import Tensor

from ltxcore.codecs.official import part_files
from ltxcore.codecs.official.modules import Part, spoken_dtype, with_options
from ltxcore.codecs.official.tiles import Tiling, decode_tiled, encode_tiled
from ltxcore.devices import fetching
from ltxcore.errors import DataError
from ltxcore.protocols import Clip


@attrs.define(eq=False)
class VideoVae:
    """A codec that turns clips of 8k + 1 frames, with sides that are multiples of 32 pixels, into latents `[128, k + 1, H / 32, W / 32]`,
    and back.

    The encoder and the decoder are read when they are first used; preprocessing never reads the decoder.

    Attributes:
        scale: the pixel frames, rows and columns that a latent cell covers.
        fingerprint: a hash that changes whenever the codec would encode to different latents.
        device: the device that the codec computes on.
        dtype: the dtype that the codec computes in; the statistics that normalize the latents are always float32.
        tiling: how a clip is cut into pieces that fit in memory; None if it is not cut.
    """

    modality: str = attrs.field(default="video", init=False)
    scale: tuple[int, int, int]
    fingerprint: str
    device: str
    dtype: torch.dtype
    tiling: Tiling | None
    _part: Part
    _filled: set[str] = attrs.field(factory=set, init=False)

    def encode(self, medium: Clip) -> Tensor:
        """Encode a clip to the normalized mean of its latent distribution, `[C, F, H, W]` float32 on the CPU.

        Raises:
            DataError: the number of frames is not 8k + 1, or a side is not a multiple of 32 pixels.
            CheckpointError: the encoder cannot be read.

        Source: docs/explanation/arithmetic.md#latents-of-a-clip
        """
        return self.begin(medium)()

    def begin(self, medium: Clip) -> Callable[[], Tensor]:
        """Begin to encode a clip, which may be on the device already, and return a function that waits for its latents, as `encode` returns
        them. The GPU works on the clip until the function is called.

        Raises:
            DataError: as in `encode`.
            CheckpointError: as in `encode`.
        """
        self._check(medium)
        self._fill("encoder")
        pixels = medium.frames.permute(3, 0, 1, 2)
        with torch.no_grad():
            latents = self._encode(pixels[None])[0] if self.tiling is None else encode_tiled(self._encode, pixels, self.scale, self.tiling)
        mean, std = self._statistics()
        fetched = fetching(latents.to(torch.float32))
        return lambda: ((fetched() - mean) / std).contiguous()

    def decode(self, latents: Tensor, rate: float) -> Clip:
        """Decode latents `[C, F, H, W]` to a clip of 8 (F - 1) + 1 frames, `rate` of them per second.

        Raises:
            CheckpointError: the decoder cannot be read.
        """
        self._fill("decoder")
        mean, std = self._statistics()
        restored = latents.to("cpu", torch.float32) * std + mean
        with torch.no_grad():
            pixels = (
                self._decode(restored[None])[0] if self.tiling is None else decode_tiled(self._decode, restored, self.scale, self.tiling)
            )
        frames = ((pixels.to("cpu", torch.float32) + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return Clip(frames.permute(1, 2, 3, 0).contiguous(), rate)

    def _check(self, clip: Clip) -> None:
        frames, height, width, _ = clip.frames.shape
        if frames % self.scale[0] != 1 % self.scale[0] or height % self.scale[1] or width % self.scale[2]:
            raise DataError(
                f"a clip of {frames} frame{'' if frames == 1 else 's'} of {height} x {width} pixels cannot be encoded",
                remedy=f"The number of frames must be a multiple of {self.scale[0]} plus 1, the height a multiple of {self.scale[1]}, and the width a multiple of {self.scale[2]}.",
            )

    def _encode(self, pixels: Tensor) -> Tensor:
        """Encode pixels `[1, 3, f, h, w]` uint8 to the mean of their latents, `[1, C, f', h', w']`."""
        scaled = pixels.to(self.device, torch.float32) / 127.5 - 1.0
        vae = self._part.module
        moments: Tensor = vae.encoder(scaled.to(self.dtype))
        return moments[:, : vae.config.latent_channels]

    def _decode(self, latents: Tensor) -> Tensor:
        pixels: Tensor = self._part.module.decoder(latents.to(self.device, self.dtype))
        return pixels

    def _statistics(self) -> tuple[Tensor, Tensor]:
        """Return the mean and standard deviation of each channel, `[C, 1, 1, 1]` float32."""
        module = self._part.module
        mean, std = module.latents_mean[:, None, None, None], module.latents_std[:, None, None, None]
        return mean, std

    def _fill(self, half: str) -> None:
        if half not in self._filled:
            self._part.fill("latents_", dtype=torch.float32)
            self._part.fill(f"{half}.", device=self.device, dtype=self.dtype)
            self._filled.add(half)


def load(
    model_path: Path,
    own_path: Path | None = None,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.bfloat16,
    tiling: Tiling | None = None,
) -> VideoVae:
    """Load the video VAE of a model; its file is checked now, and its weights are read when they are needed.

    Args:
        model_path: the model's file or folder.
        own_path: the VAE's separate file or folder; None if the model's own VAE is used.
        device: the device that the codec computes on.
        dtype: the dtype that the codec computes in.
        tiling: how a clip is cut into pieces.

    Raises:
        ConfigError: as in `part_files.video_vae`, or tiles do not fit the latent grid.
        CheckpointError: as in `part_files.video_vae`.
    """
    part = part_files.video_vae(model_path, own_path)
    side = int(part.module.spatial_compression_ratio)
    scale = (int(part.module.temporal_compression_ratio), side, side)
    if tiling is not None:
        tiling.cells(scale)
    fingerprint = with_options(f"ltx-video-{part.fingerprint()}", dtype=spoken_dtype(dtype), tiles=tiling)
    return VideoVae(scale, fingerprint, device, dtype, tiling, part)
