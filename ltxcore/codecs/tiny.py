"""The tiny model's codecs and text encoder: everything that the whole pipeline needs on a laptop, without a weight."""

from __future__ import annotations

from ltxcore.codecs.tiny_audio import TinyAudioCodec
from ltxcore.codecs.tiny_text import TinyTextEncoder
from ltxcore.codecs.tiny_video import TinyVideoCodec

__all__ = ["TinyAudioCodec", "TinyTextEncoder", "TinyVideoCodec"]
