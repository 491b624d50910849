"""The source of the VAEs and the text encoder that make the samples."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs

from ltxcore.config.parts import made_of
from ltxcore.config.run_file import ModelTable
from ltxcore.devices import own_device
from ltxcore.protocols import Codec, TextEncoder

KEYS = MappingProxyType(
    {"path": "model_path", "text_encoder": "text_encoder_path", "video_vae": "video_vae_path", "audio_vae": "audio_vae_path"}
)
"""The keys of `[model]` that name the VAEs and the text encoder, by attribute of `Codecs`."""


@attrs.frozen
class Codecs:
    """The source of the VAEs and the text encoder, and the device that they compute on. Files are checked when one is
    asked for; weights are read on use.

    Attributes:
        path: "tiny", a model file or a folder; "" if it is not named.
        text_encoder: the text encoder's own file or folder, if the model does not hold it.
        video_vae: the video VAE's own file or folder, likewise.
        audio_vae: the audio VAE's own file or folder, likewise.
        device: the device that they compute on; by default this process's GPU, if there is one.
        tiling: whether clips are encoded and decoded in pieces, for less memory.
        text_in_8bit: whether the text encoder has 8-bit weights.
        text_offload: whether the text encoder's weights stay in host memory, and come to the device one layer at a
            time.
    """

    path: str
    text_encoder: Path | None = None
    video_vae: Path | None = None
    audio_vae: Path | None = None
    device: str = attrs.field(factory=own_device)
    tiling: bool = False
    text_in_8bit: bool = False
    text_offload: bool = False

    @classmethod
    def of(cls, table: ModelTable, **options: Any) -> Codecs:
        """Return the VAEs and the text encoder that `[model]` of a run file names.

        Args:
            table: the run file's table; what is unknown in it is unknown here (`config.parts`).
            options: the device and the ways that they compute, as attributes of this class.
        """
        return made_of(cls, table, KEYS, **options)

    def or_of(self, table: ModelTable) -> Codecs:
        """Return these VAEs and text encoder, with what they do not name taken from `[model]` of a run file."""
        own: dict[str, Any] = {name: getattr(self, name) or getattr(table, key) for name, key in KEYS.items()}
        return attrs.evolve(self, **own)

    def video(self) -> Codec:
        """Load the VAE for clips.

        Raises:
            ConfigError: it is not there, or not named.
        """
        from ltxcore.codecs.load_codecs import video_codec
        from ltxcore.codecs.official.tiles import Tiling

        return video_codec(self.path, video_vae_path=self.video_vae, device=self.device, tiling=Tiling() if self.tiling else None)

    def audio(self) -> Codec:
        """Load the VAE for audio; it raises as `video` does."""
        from ltxcore.codecs.load_codecs import audio_codec

        return audio_codec(self.path, audio_vae_path=self.audio_vae, device=self.device)

    def text(self) -> TextEncoder:
        """Load the text encoder; it raises as `video` does."""
        from ltxcore.codecs.load_codecs import text_encoder
        from ltxcore.codecs.official.text import Placement

        placement = Placement(device=self.device, in_8_bit=self.text_in_8bit, offload=self.text_offload)
        return text_encoder(self.path, text_encoder_path=self.text_encoder, placement=placement)
