"""Functions that load a model's VAEs and text encoder from its `model_path`, or from separate files where these are named."""

from __future__ import annotations

from pathlib import Path

import torch

from ltxcore.codecs.official.text import Placement
from ltxcore.codecs.official.tiles import Tiling
from ltxcore.codecs.tiny_audio import TinyAudioCodec
from ltxcore.codecs.tiny_text import TinyTextEncoder
from ltxcore.codecs.tiny_video import TinyVideoCodec
from ltxcore.errors import CheckpointError, ConfigError
from ltxcore.files import is_file, is_folder
from ltxcore.headers import read_file
from ltxcore.model_config import building
from ltxcore.model_folder import transformer_in
from ltxcore.protocols import Codec, TextEncoder

TINY = "tiny"
METADATA_KEY = "codec"
"""The metadata key that names the codecs a checkpoint works with; a full save of the tiny model has `codec = tiny`."""

_TINY_NAMES = (TINY, "tiny-untrained")


def video_codec(
    model_path: str,
    *,
    video_vae_path: Path | None = None,
    device: str = "cpu",
    dtype: torch.dtype = torch.bfloat16,
    tiling: Tiling | None = None,
) -> Codec:
    """Load the VAE for clips.

    Args:
        model_path: "tiny", "tiny-untrained", an official file, or a folder in the layout of diffusers.
        video_vae_path: the file or folder of the video VAE, if it is not the model's own.
        device: the device that the VAE computes on.
        dtype: the dtype that the VAE computes in.
        tiling: how a clip that does not fit in memory is cut into pieces; the tiny codec ignores it.

    Raises:
        ConfigError: there is no such model, or it does not hold the codec and no separate file is named.
        CheckpointError: the codec's file is incomplete, of an unknown kind, or from a release other than the model's.
    """
    if _is_tiny(model_path, "video_vae_path", video_vae_path):
        return TinyVideoCodec()
    from ltxcore.codecs.official import video_vae

    with building("a video VAE", str(video_vae_path or model_path)):
        return video_vae.load(transformer_in(Path(model_path)), video_vae_path, device=device, dtype=dtype, tiling=tiling)


def audio_codec(model_path: str, *, audio_vae_path: Path | None = None, device: str = "cpu") -> Codec:
    """Load the VAE for audio; it computes in float32.

    Args:
        model_path: the model, as in `video_codec`.
        audio_vae_path: the file of the audio VAE and the vocoder, or a model's folder, if they are not the model's own.
        device: the device that the VAE computes on.

    Raises:
        ConfigError: as in `video_codec`.
        CheckpointError: as in `video_codec`.
    """
    if _is_tiny(model_path, "audio_vae_path", audio_vae_path):
        return TinyAudioCodec()
    from ltxcore.codecs.official import audio_vae

    with building("an audio VAE and vocoder", str(audio_vae_path or model_path)):
        return audio_vae.load(transformer_in(Path(model_path)), audio_vae_path, device=device)


def text_encoder(
    model_path: str, *, text_encoder_path: Path | None = None, connectors_path: Path | None = None, placement: Placement | None = None
) -> TextEncoder:
    """Load the encoder of captions.

    Args:
        model_path: the model, as in `video_codec`.
        text_encoder_path: the folder or packed file of Gemma, if it is not in the model's folder.
        connectors_path: the separate file of the text projections, if they are not in the model's file.
        placement: the encoder's device and numeric format; None for the defaults.

    Raises:
        ConfigError: as in `video_codec`, or the encoder cannot compute as asked.
        CheckpointError: as in `video_codec`, or the model was trained with a different text encoder.
    """
    if _is_tiny(model_path, "text_encoder_path", text_encoder_path):
        return TinyTextEncoder()
    from ltxcore.codecs.official import text

    with building("a text encoder", str(text_encoder_path or model_path)):
        return text.load(transformer_in(Path(model_path)), text_encoder_path, placement, connectors_path)


def _is_tiny(model_path: str, key: str, own_path: Path | None) -> bool:
    """Return whether a model works with the tiny codecs.

    Raises:
        ConfigError: there is no such model, or it works with the tiny codecs and another model's codec is named as well.
    """
    if model_path not in _TINY_NAMES and _named_codec(model_path) != TINY:
        return False
    if own_path is not None:
        raise ConfigError(f"the tiny model has its own VAEs and text encoder, but {key} names another: {own_path}", remedy=f"Remove {key}.")
    return True


def _named_codec(model_path: str) -> str | None:
    """Return the codecs that a safetensors file's metadata names; None if it names none, or if the path is a folder or another kind of
    file.
    """
    path = Path(model_path)
    if not is_file(path) and not is_folder(path):
        raise ConfigError(f'there is no model "{model_path}"', remedy='Use "tiny", "tiny-untrained", or the path of a .safetensors file.')
    if path.is_dir():
        return None
    try:
        return read_file(path).metadata.get(METADATA_KEY)
    except (OSError, CheckpointError):
        return None  # the function that loads the weights reports what is wrong with the file
