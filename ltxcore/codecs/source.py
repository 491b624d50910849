# ruff: noqa: RUF009 (`_part` makes an attrs field, not a shared default)
"""The place that the VAEs and the text encoder are loaded from when a dataset is encoded or a clip is generated."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs

from ltxcore.config.parts import made_of
from ltxcore.config.run_file import ModelTable
from ltxcore.devices import own_device
from ltxcore.model_folder import beside
from ltxcore.protocols import Codec, TextEncoder

KEYS = MappingProxyType(
    {
        "path": "model_path",
        "text_encoder": "text_encoder_path",
        "video_vae": "video_vae_path",
        "audio_vae": "audio_vae_path",
        "connectors": "connectors_path",
    }
)
"""The keys of `[model]` that name the VAEs and the text encoder, by attribute of `Codecs`."""


def _part(name: str) -> Any:
    """Declare the attribute for the file of a part; by default, it is the file in the folder at `path`, if that is a folder of files."""
    return attrs.field(default=attrs.Factory(lambda self: beside(self.path, KEYS[name]), takes_self=True))


@attrs.frozen
class Codecs:
    """The paths of the VAEs and the text encoder, and the device that they compute on.

    An encoder's files are checked when it is loaded; its weights are read when it is first used.

    Attributes:
        path: "tiny", a model file or a folder; "" if no model is named.
        text_encoder: the text encoder's separate file or folder, if the model does not hold it.
        video_vae: the video VAE's separate file or folder, if the model does not hold it.
        audio_vae: the audio VAE's separate file or folder, if the model does not hold it.
        device: the device to compute on; by default this process's GPU, if there is one.
        tiling: whether clips are encoded and decoded in pieces, to save memory.
        text_in_8bit: whether the text encoder has 8-bit weights.
        text_offload: whether the text encoder's weights stay in host memory and are moved to the device one layer at a time.
        connectors: the separate file of the text connectors and projections, if the model does not hold them.
    """

    path: str
    text_encoder: Path | None = _part("text_encoder")
    video_vae: Path | None = _part("video_vae")
    audio_vae: Path | None = _part("audio_vae")
    device: str = attrs.field(factory=own_device)
    tiling: bool = False
    text_in_8bit: bool = False
    text_offload: bool = False
    connectors: Path | None = _part("connectors")

    @classmethod
    def of(cls, table: ModelTable, **options: Any) -> Codecs:
        """Return the VAEs and the text encoder that `[model]` of a run file names.

        Args:
            table: the table `[model]`; a value that is unknown in the table is unknown in the result too (`config.parts`).
            options: other attributes of this class, by name.
        """
        return made_of(cls, table, KEYS, **options)

    def of_model(self, path: str) -> Codecs:
        """Return a copy for a model at another path."""
        parts: dict[str, Any] = {name: getattr(self, name) or beside(path, KEYS[name]) for name in KEYS if name != "path"}
        return attrs.evolve(self, path=path, **parts)

    def or_of(self, table: ModelTable) -> Codecs:
        """Return a copy in which every path that this object does not have is taken from `[model]` of a run file."""
        own: dict[str, Any] = {name: getattr(self, name) or getattr(table, key) for name, key in KEYS.items()}
        return attrs.evolve(self, **own)

    def video(self) -> Codec:
        """Load the VAE for clips.

        Raises:
            ConfigError: the VAE does not exist, or no path names it.
        """
        from ltxcore.codecs.load_codecs import video_codec
        from ltxcore.codecs.official.tiles import Tiling

        return video_codec(self.path, video_vae_path=self.video_vae, device=self.device, tiling=Tiling() if self.tiling else None)

    def audio(self) -> Codec:
        """Load the VAE for audio; errors are raised as in `video`."""
        from ltxcore.codecs.load_codecs import audio_codec

        return audio_codec(self.path, audio_vae_path=self.audio_vae, device=self.device)

    def text(self) -> TextEncoder:
        """Load the text encoder; errors are raised as in `video`."""
        from ltxcore.codecs.load_codecs import text_encoder
        from ltxcore.codecs.official.text import Placement

        placement = Placement(device=self.device, in_8_bit=self.text_in_8bit, offload=self.text_offload)
        return text_encoder(self.path, text_encoder_path=self.text_encoder, connectors_path=self.connectors, placement=placement)
