"""Functions in plain torch that transform waveforms to log-mel spectrograms and back.

The constants are the same as in LTX-2's audio codec, so that the tiny codec's steps fall at exactly the same times as the real codec's.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from ltxcore.errors import DataError

RATE = 16_000
"""The samples per second of the audio from which a spectrogram is made."""
HOP = 160
"""The number of samples from one mel frame to the next, which gives 100 mel frames a second."""
WINDOW = 1024
"""The length of the Hann window and of the Fourier transform, in samples."""
BINS = 64
FLOOR = 1e-5
"""The magnitude below which audio counts as silence."""

_SINC_ZEROS = 6
_ROLLOFF = 0.99
_OUTPUTS_AT_ONCE = 1 << 16

_SURROUND = {
    6: (1 / 2.414, 0.707 / 2.414, ((0, 2, 4), (1, 2, 5))),
    8: (1 / 3.121, 0.707 / 3.121, ((0, 2, 4, 6), (1, 2, 5, 7))),
}
"""The downmix of 5.1 (L R C LFE Ls Rs) and 7.1 (L R C LFE Lb Rb Ls Rs), by number of channels: the front channel's weight, the weight of
the others, and the channels that each side hears, front first.
"""


def to_stereo(samples: Tensor) -> Tensor:
    """Mix any number of channels `[C, N]` to stereo `[2, N]`.

    Mono is doubled; in 5.1 and 7.1, each side gets its own front channel, the center and its own surround channels, and the low-frequency
    channel is left out; any other number of channels is averaged and doubled.

    Source: docs/explanation/arithmetic.md#stereo
    """
    channels = samples.shape[0]
    if channels == 2:
        return samples
    if channels in _SURROUND:
        front, rest, sides = _SURROUND[channels]
        return torch.stack([front * samples[side[0]] + rest * samples[list(side[1:])].sum(dim=0) for side in sides])
    return samples.mean(dim=0, keepdim=True).expand(2, -1).contiguous()


def resample(samples: Tensor, rate_from: int, rate_to: int) -> Tensor:
    """Resample `[C, N]` at `rate_from` samples per second to `[C, ceil(N * rate_to / rate_from)]` float32 at `rate_to`.

    Output n is a weighted sum of the inputs around time n / rate_to. The weights are a sinc of the lower rate's band under a Hann window of
    six zero crossings on each side. They depend on n only modulo the reduced `rate_to`, so they are computed once per phase.

    Source: docs/explanation/arithmetic.md#resampling
    """
    if rate_from == rate_to:
        return samples.to(torch.float32)
    divisor = math.gcd(rate_from, rate_to)
    down, up = rate_from // divisor, rate_to // divisor
    channels, length = samples.shape
    outputs = -(-length * up // down)
    weights, reach = _sinc_weights(down, up, min(up, outputs))
    padded = torch.nn.functional.pad(samples.to(torch.float32), (reach, reach + 1))
    result = torch.empty(channels, outputs)
    taps = torch.arange(weights.shape[1])
    for start in range(0, outputs, _OUTPUTS_AT_ONCE):
        n = torch.arange(start, min(outputs, start + _OUTPUTS_AT_ONCE))
        around = padded[:, (n * down // up)[:, None] + taps]
        result[:, n] = (around * weights[n % up]).sum(dim=-1)
    return result


@cache
def _sinc_weights(down: int, up: int, phases: int) -> tuple[Tensor, int]:
    """Return the weights `[phases, 2 * reach + 2]` of the inputs, from `reach` inputs before an output's place to `reach + 1` inputs after
    it; and return `reach` itself.
    """
    band = min(down, up) * _ROLLOFF / down  # the cut-off, as a share of the input's Nyquist frequency
    reach = math.ceil(_SINC_ZEROS / band)
    offset = (torch.arange(phases, dtype=torch.float64) * down % up) / up
    distance = torch.arange(-reach, reach + 2, dtype=torch.float64)[None, :] - offset[:, None]
    crossings = (distance * band).clamp(-_SINC_ZEROS, _SINC_ZEROS)
    hann = torch.cos(crossings * math.pi / (2 * _SINC_ZEROS)) ** 2
    return (torch.sinc(crossings) * hann * band).to(torch.float32), reach


def log_mel(samples: Tensor) -> Tensor:
    """Compute the natural logarithm of the mel magnitudes of samples `[C, N]` at 16 kHz: `[C, M, 64]`, with M = N // 160 + 1 frames, 100 a
    second.

    Raises:
        DataError: there are fewer than 513 samples (the window is mirrored at both ends).

    Source: docs/explanation/arithmetic.md#log-mel-spectrogram
    """
    if samples.shape[1] <= WINDOW // 2:
        raise DataError(
            f"a sound of {samples.shape[1] / RATE:.3f} seconds is too short",
            remedy=f"A sound must be longer than {WINDOW / 2 / RATE:.3f} seconds.",
        )
    magnitude = _spectrum(samples.to(torch.float32)).abs()
    return torch.log((magnitude.transpose(1, 2) @ mel_bank().T).clamp_min(FLOOR))


def sound_from_log_mel(mel: Tensor, *, rounds: int = 32) -> Tensor:
    """Invert `log_mel` approximately: convert `[C, M, 64]` to samples `[C, (M - 1) * 160]` at 16 kHz.

    The magnitudes of the Fourier bins are non-negative and explain the mel bins; their phases are found by converting to a waveform and
    back `rounds` times. The first phases are drawn with a fixed seed, so that the result is deterministic.

    Source: docs/explanation/arithmetic.md#phases-from-magnitudes
    """
    mel = mel.to(torch.float32)
    length = (mel.shape[1] - 1) * HOP
    magnitude = _fourier_magnitudes(mel.exp()).transpose(1, 2)
    # One row of noise for all channels, so that two equal channels sound equal.
    turns = torch.rand(magnitude.shape[1:], generator=torch.Generator().manual_seed(0))
    phase = torch.polar(torch.ones_like(turns), 2 * math.pi * turns).expand_as(magnitude)
    previous = torch.zeros_like(phase)
    for _ in range(rounds):
        rebuilt = _spectrum(_waveform(magnitude * phase, length))
        ahead = rebuilt + 0.99 * (rebuilt - previous)
        phase = ahead / ahead.abs().clamp_min(1e-12)
        previous = rebuilt
    return _waveform(magnitude * phase, length)


def _fourier_magnitudes(mel: Tensor, rounds: int = 20) -> Tensor:
    """Estimate Fourier magnitudes `[C, M, 513]` from mel magnitudes `[C, M, 64]`.

    The first estimate is the pseudo-inverse without its negative values. This estimate is then multiplied repeatedly by factors that bring
    it nearer to the mel bins and keep it positive.

    Source: docs/explanation/arithmetic.md#magnitudes-from-mel-bins
    """
    bank = mel_bank()
    wanted, mixing = mel @ bank, bank.T @ bank
    magnitude = (mel @ _inverse_bank().T).clamp_min(1e-6)
    for _ in range(rounds):
        magnitude = magnitude * wanted / (magnitude @ mixing).clamp_min(1e-12)
    return magnitude


def _spectrum(samples: Tensor) -> Tensor:
    """Compute the complex spectrum `[C, 513, N // 160 + 1]` of samples `[C, N]`."""
    return torch.stft(samples, WINDOW, HOP, window=torch.hann_window(WINDOW), center=True, pad_mode="reflect", return_complex=True)


def _waveform(spectrum: Tensor, length: int) -> Tensor:
    return torch.istft(spectrum, WINDOW, HOP, window=torch.hann_window(WINDOW), center=True, length=length)


@cache
def mel_bank() -> Tensor:
    """Compute the weights of the 513 Fourier bins in the 64 mel bins, `[64, 513]`: triangles of area one between neighboring centers.

    Source: docs/explanation/arithmetic.md#mel-bins
    """
    edges = _hertz(torch.linspace(0.0, float(_mel(torch.tensor(RATE / 2, dtype=torch.float64))), BINS + 2, dtype=torch.float64))
    frequency = torch.linspace(0.0, RATE / 2, WINDOW // 2 + 1, dtype=torch.float64)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangle = torch.minimum((frequency - low) / (centre - low), (high - frequency) / (high - centre)).clamp_min(0.0)
    return (triangle * 2.0 / (high - low)).to(torch.float32)


@cache
def _inverse_bank() -> Tensor:
    return torch.linalg.pinv(mel_bank().to(torch.float64)).to(torch.float32)


def _mel(hertz: Tensor) -> Tensor:
    return torch.where(hertz < 1000.0, hertz * 3 / 200, 15 + 27 * torch.log((hertz / 1000.0).clamp_min(1e-9)) / math.log(6.4))


def _hertz(mel: Tensor) -> Tensor:
    return torch.where(mel < 15.0, mel * 200 / 3, 1000.0 * torch.exp((mel - 15) / 27 * math.log(6.4)))
