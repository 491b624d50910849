"""The codecs and the text encoder that belong to a model, by its `model_path`."""

from __future__ import annotations

from pathlib import Path

from ltxcore.codecs.tiny import TinyAudioCodec, TinyTextEncoder, TinyVideoCodec
from ltxcore.errors import ConfigError
from ltxcore.protocols import Codec, TextEncoder

TINY = "tiny"
METADATA_KEY = "codec"
"""Key of a checkpoint's metadata that names the codecs it works with; a full save of the tiny model has `codec = tiny`."""

_TINY_NAMES = (TINY, "tiny-untrained")


def video_codec(model_path: str) -> Codec:
    """The codec of clips.

    Raises:
        ConfigError: there is no such model, or none of its codecs is available.
    """
    _check_tiny(model_path, "video codec")
    return TinyVideoCodec()


def audio_codec(model_path: str) -> Codec:
    """The codec of sounds.

    Raises:
        ConfigError: there is no such model, or none of its codecs is available.
    """
    _check_tiny(model_path, "audio codec")
    return TinyAudioCodec()


def text_encoder(model_path: str) -> TextEncoder:
    """The encoder of captions.

    Raises:
        ConfigError: there is no such model, or its text encoder is not available.
    """
    _check_tiny(model_path, "text encoder")
    return TinyTextEncoder()


def _check_tiny(model_path: str, part: str) -> None:
    if model_path in _TINY_NAMES or _named_codec(model_path) == TINY:
        return
    raise ConfigError(
        f'the {part} of "{model_path}" is not available in this version, which has those of the tiny model',
        remedy='Use model_path = "tiny", or a full save of it.',
    )


def _named_codec(model_path: str) -> str | None:
    """What the metadata of a safetensors file say of its codecs; None if they say nothing, or it is another kind of file or a folder."""
    from safetensors import SafetensorError, safe_open

    path = Path(model_path)
    if not path.exists():
        raise ConfigError("model_path names no file", where=model_path, remedy='Check the path, or use "tiny".')
    if path.is_dir():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get(METADATA_KEY)
    except (OSError, SafetensorError):
        return None  # whoever loads the weights says what is wrong with the file
