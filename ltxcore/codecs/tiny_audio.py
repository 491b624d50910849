"""The tiny audio codec, which keeps the lowest cosine coefficients of blocks of a log-mel spectrogram. It has no weights, and its audio can
be recognized.
"""

from __future__ import annotations

import attrs
import torch
from torch import Tensor

from ltxcore.codecs.cosine_blocks import Statistics, basis, fingerprint, statistics
from ltxcore.codecs.mel import BINS, FLOOR, HOP, RATE, WINDOW, log_mel, resample, sound_from_log_mel, to_stereo
from ltxcore.protocols import Sound

MEL_FRAMES = 4
CHANNELS, LATENT_BINS = 8, 16
_BLOCK = (MEL_FRAMES, BINS)
_KEPT = tuple((time, bin_) for time in range(MEL_FRAMES) for bin_ in range(CHANNELS * LATENT_BINS // MEL_FRAMES))


@attrs.define(eq=False)
class TinyAudioCodec:
    """A codec that turns audio into latents `[8, T, 16]`, 25 steps a second, and back into mono audio at 16 kHz.

    The first mel frame, repeated four times, fills a block of its own, so that it stands alone as in the real codec. N whole seconds give
    25N + 1 steps.
    """

    modality: str = attrs.field(default="audio", init=False)
    scale: tuple[int, int, int] = attrs.field(default=(MEL_FRAMES, 1, 1), init=False)
    fingerprint: str = attrs.field(factory=lambda: fingerprint("audio", _KEPT, RATE, HOP, WINDOW, FLOOR), init=False)

    def encode(self, medium: Sound) -> Tensor:
        """Encode audio of any rate and number of channels to latents `[8, T, 16]`.

        Raises:
            DataError: the audio is too short for one window of the spectrogram.
        """
        latents = statistics(self.modality).standardised(coefficients(medium))
        return latents.unflatten(1, (CHANNELS, LATENT_BINS)).transpose(0, 1).contiguous()

    def decode(self, latents: Tensor, rate: float = 0.0) -> Sound:
        """Decode latents `[8, T, 16]` to mono audio of (T - 1) * 640 samples at 16 kHz; `rate` is ignored."""
        numbers = statistics(self.modality).restored(latents.to(torch.float32).transpose(0, 1).flatten(1))
        mel = (numbers @ basis(_BLOCK, _KEPT)).unflatten(1, _BLOCK)  # [T, 4, 64]
        # These are four decoded copies of the first mel frame; their mean is what was encoded.
        mel = torch.cat([mel[0].mean(dim=0, keepdim=True), mel[1:].flatten(0, 1)])
        return Sound(sound_from_log_mel(mel[None]).clamp(-1.0, 1.0), RATE)


def coefficients(sound: Sound) -> Tensor:
    """Compute the kept coefficients of audio before they are standardized, `[T, 128]`.

    The coefficients are computed from the logarithm of the channels' mean mel magnitudes, so that opposite phases in two channels do not
    cancel.

    Raises:
        DataError: as in `TinyAudioCodec.encode`.

    Source: docs/explanation/arithmetic.md#cosine-blocks
    """
    mel = log_mel(resample(to_stereo(sound.samples), sound.rate, RATE)).exp().mean(dim=0).log()
    steps = (mel.shape[0] - 1) // MEL_FRAMES
    whole = torch.cat([mel[:1].expand(MEL_FRAMES - 1, -1), mel[: 1 + steps * MEL_FRAMES]])
    return whole.unflatten(0, (-1, MEL_FRAMES)).flatten(1) @ basis(_BLOCK, _KEPT).T


def measured(sounds: list[Sound]) -> Statistics:
    """Measure the constants that standardize audio, from the audio in `sounds`."""
    return Statistics.of(torch.cat([coefficients(sound) for sound in sounds]))
