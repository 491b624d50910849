"""The tiny text encoder, which turns every word into a vector of its own by hashing its letters. It has no weights, and works in any
language.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache

import attrs
import torch
from torch import Tensor

from ltxcore.protocols import MODALITIES

LENGTH = 32
WIDTH = 128
_WORD = re.compile(r"\w+(?:['’-]\w+)*")
_POSITION_SHARE = 0.5
_VERSION = 1


@attrs.define(eq=False)
class TinyTextEncoder:
    """An encoder that turns captions into text features `[l, 128]`, one per word. Both modalities get the same features.

    Letter case and punctuation are ignored. A caption without words gives `[0, 128]`. Only the first 32
    words of a longer caption count.
    """

    length: int = attrs.field(default=LENGTH, init=False)
    fingerprint: str = attrs.field(default=f"tiny-text-{_VERSION}-{LENGTH}x{WIDTH}", init=False)

    def encode(self, captions: Sequence[str]) -> list[dict[str, Tensor]]:
        """Encode captions to text features for each modality, `[l, 128]` float32, where l is the caption's number of words, at most 32."""
        return [{modality: _features(caption) for modality in MODALITIES} for caption in captions]


def words(caption: str) -> list[str]:
    """Return the words of a caption that are encoded, in order."""
    return _WORD.findall(caption.casefold())[:LENGTH]


def _features(caption: str) -> Tensor:
    found = words(caption)
    if not found:
        return torch.zeros(0, WIDTH)
    return torch.stack([_word_vector(word) for word in found]) + _POSITION_SHARE * _positions(len(found))


@lru_cache(maxsize=4096)
def _word_vector(word: str) -> Tensor:
    """Make 128 signs from a word's hash, `[128]`. They are the same on every machine and nearly orthogonal to any other word's signs.

    Source: docs/explanation/arithmetic.md#word-vectors
    """
    bits = int.from_bytes(hashlib.sha256(word.encode()).digest()[: WIDTH // 8], "big")
    return torch.tensor([1.0 if bits >> place & 1 else -1.0 for place in range(WIDTH)])


def _positions(count: int) -> Tensor:
    """Encode the positions of words, `[count, 128]`, by sines and cosines with periods from 2 pi to 64 words."""
    half = WIDTH // 2
    rate = (torch.arange(half) / half * -2.3).exp()  # from 1 down to 0.1 radians per word
    angle = torch.arange(count)[:, None] * rate
    return torch.cat([angle.sin(), angle.cos()], dim=1)
