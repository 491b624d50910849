"""A codec made of the audio VAE and the vocoder: it turns audio into normalized latents of a log-mel spectrogram, and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import torch
from torch import Tensor

from ltxcore.codecs.mel import RATE, log_mel, resample, to_stereo
from ltxcore.codecs.official import part_files
from ltxcore.codecs.official.modules import Part
from ltxcore.errors import CheckpointError
from ltxcore.protocols import Sound

_MEL_FRAMES_PER_SECOND = 100


@attrs.define(eq=False)
class AudioVae:
    """A codec that turns audio into latents `[8, T, 16]`, 25 steps a second, and back into stereo audio at the vocoder's rate. Everything
    is computed in float32, even on a GPU.

    N whole seconds give 25N + 1 steps. The encoder, the decoder and the vocoder are read when they are first used.

    Attributes:
        scale: the number of mel frames that a latent step covers.
        fingerprint: a hash that changes whenever the codec would encode to different latents.
        device: the device that the codec computes on.
        rate: the samples per second of decoded audio.
    """

    modality: str = attrs.field(default="audio", init=False)
    scale: tuple[int, int, int]
    fingerprint: str
    device: str
    rate: int
    _part: Part
    _vocoder: Part
    _filled: set[str] = attrs.field(factory=set, init=False)

    def encode(self, medium: Sound) -> Tensor:
        """Encode audio of any rate and number of channels to the normalized mean of its latent distribution, `[C, T,
        M]` float32 on the CPU.

        Raises:
            DataError: the audio is too short for one window of the spectrogram.
            CheckpointError: the encoder cannot be read.
        """
        self._fill("encoder")
        vae, mel = self._part.module, log_mel(resample(to_stereo(medium.samples), medium.rate, RATE))
        with torch.no_grad(), _exact():
            moments: Tensor = vae.encoder(mel[None].to(self.device))
        latents = moments[0, : vae.config.latent_channels].cpu()
        mean, std = self._statistics(latents)
        return ((latents - mean) / std).contiguous()

    def decode(self, latents: Tensor, rate: float = 0.0) -> Sound:
        """Decode latents `[C, T, M]` to stereo audio of 4 T - 3 mel frames; `rate` is ignored.

        Raises:
            CheckpointError: the decoder or the vocoder cannot be read.
        """
        self._fill("decoder")
        self._fill_vocoder()
        mean, std = self._statistics(latents)
        restored = latents.to("cpu", torch.float32) * std + mean
        with torch.no_grad(), _exact():
            mel = self._part.module.decoder(restored[None].to(self.device))
            samples: Tensor = self._vocoder.module(mel)
        return Sound(samples[0].to("cpu", torch.float32).clamp(-1.0, 1.0).contiguous(), self.rate)

    def _statistics(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and standard deviation of each channel and bin, `[C, 1, M]`.

        Source: docs/explanation/arithmetic.md#latents-of-a-sound
        """
        shape = (latents.shape[0], 1, latents.shape[2])
        return self._part.module.latents_mean.reshape(shape), self._part.module.latents_std.reshape(shape)

    def _fill(self, half: str) -> None:
        if half not in self._filled:
            self._part.fill("latents_", dtype=torch.float32)
            self._part.fill(f"{half}.", device=self.device, dtype=torch.float32)
            self._filled.add(half)

    def _fill_vocoder(self) -> None:
        if "vocoder" not in self._filled:
            self._vocoder.fill(device=self.device, dtype=torch.float32)
            self._vocoder.module.to(self.device)  # computed buffers are not in the file
            self._filled.add("vocoder")


@contextmanager
def _exact() -> Iterator[None]:
    """Compute the convolutions inside the block in full float32. By default, a GPU rounds the factors of convolutions to 10 bits (TF32), so
    its latents would differ from a CPU's.
    """
    cudnn = torch.backends.cudnn
    with cudnn.flags(enabled=cudnn.enabled, benchmark=cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=False):
        yield


def load(model_path: Path, own_path: Path | None = None, *, device: str = "cpu") -> AudioVae:
    """Load the audio VAE and vocoder of a model; their files are checked now, and their weights are read when they are
    needed.

    Args:
        model_path: the model's file or folder.
        own_path: the separate file of the audio VAE and the vocoder, or another model's folder; None if the model's own are used.
        device: the device that the codec computes on.

    Raises:
        ConfigError: the model's file does not hold them, and no other file is named.
        CheckpointError: they do not match their configurations or each other, cannot be read, or belong to a release other than the
            model's.
    """
    part = part_files.audio_vae(model_path, own_path)
    vocoder = part_files.vocoder(model_path, own_path)
    _check_statistics(part)
    _check_vocoder(vocoder)
    scale = (int(part.module.temporal_compression_ratio), 1, 1)
    return AudioVae(scale, f"ltx-audio-{part.fingerprint()}", device, int(vocoder.module.config.output_sampling_rate), part, vocoder)


def _check_statistics(part: Part) -> None:
    """Check that each channel and bin of the latents has exactly one number for normalizing it."""
    config = part.module.config
    bins = int(config.mel_bins) // int(part.module.mel_compression_ratio)
    if int(config.latent_channels) * bins != int(config.base_channels):
        raise CheckpointError(
            f"the statistics of the audio VAE have {config.base_channels} numbers per step, but the latents have {config.latent_channels} channels of {bins} bins",
            where=str(part.weights.where),
        )


def _check_vocoder(vocoder: Part) -> None:
    """Check that a vocoder really produces the rate that it claims from 100 mel frames a second."""
    config = vocoder.module.config
    first = vocoder.module.vocoder if hasattr(vocoder.module, "vocoder") else vocoder.module
    says = int(config.get("input_sampling_rate", config.output_sampling_rate))
    makes = _MEL_FRAMES_PER_SECOND * int(first.total_upsample_factor)
    if says != makes:
        raise CheckpointError(
            f"the configuration of the vocoder specifies {says} samples per second, but the layers produce {makes}",
            where=str(vocoder.weights.where),
        )
