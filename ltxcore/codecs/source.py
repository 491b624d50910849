"""The model whose codecs and text encoder make the samples."""

from __future__ import annotations

from pathlib import Path

import attrs

from ltxcore.codecs.load_codecs import audio_codec, text_encoder, video_codec
from ltxcore.codecs.official.text import Placement
from ltxcore.codecs.official.tiles import Tiling
from ltxcore.devices import own_device
from ltxcore.protocols import Codec, TextEncoder


@attrs.frozen
class Model:
    """Where the codecs and the text encoder come from, and where they compute. Files are checked when one is asked for; weights are read on use.

    Attributes:
        path: "tiny", a model file or a folder.
        text_encoder: its own file or folder, where the model does not hold it.
        video_vae: likewise.
        audio_vae: likewise.
        device: where they compute; by default this process's GPU, if there is one.
        tiling: whether clips are encoded and decoded in pieces, for less memory.
        text_in_8bit: whether the text encoder has 8-bit weights.
        text_offload: whether the text encoder's weights stay in main memory, and come to the device one layer at a time.
    """

    path: str
    text_encoder: Path | None = None
    video_vae: Path | None = None
    audio_vae: Path | None = None
    device: str = attrs.field(factory=own_device)
    tiling: bool = False
    text_in_8bit: bool = False
    text_offload: bool = False

    def video(self) -> Codec:
        """The codec of clips."""
        return video_codec(self.path, video_vae_path=self.video_vae, device=self.device, tiling=Tiling() if self.tiling else None)

    def audio(self) -> Codec:
        """The codec of sounds."""
        return audio_codec(self.path, audio_vae_path=self.audio_vae, device=self.device)

    def text(self) -> TextEncoder:
        """The text encoder."""
        placement = Placement(device=self.device, in_8_bit=self.text_in_8bit, offload=self.text_offload)
        return text_encoder(self.path, text_encoder_path=self.text_encoder, placement=placement)
