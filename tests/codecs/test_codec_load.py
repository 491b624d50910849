"""Which codecs belong to a model."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ltxcore.codecs.load_codecs import audio_codec, text_encoder, video_codec
from ltxcore.codecs.tiny_audio import TinyAudioCodec
from ltxcore.codecs.tiny_text import TinyTextEncoder
from ltxcore.codecs.tiny_video import TinyVideoCodec
from ltxcore.errors import ConfigError


def parts(model_path: str) -> list[type]:
    return [type(video_codec(model_path)), type(audio_codec(model_path)), type(text_encoder(model_path))]


TINY = [TinyVideoCodec, TinyAudioCodec, TinyTextEncoder]


@pytest.mark.parametrize("name", ["tiny", "tiny-untrained"])
def test_the_tiny_models_have_the_tiny_codecs(name: str) -> None:
    assert parts(name) == TINY


def test_a_full_save_of_the_tiny_model_has_the_tiny_codecs(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata={"codec": "tiny"})
    assert parts(str(path)) == TINY


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.safetensors"
    for load in (video_codec, audio_codec, text_encoder):
        with pytest.raises(ConfigError) as error:
            load(str(path))
        assert str(error.value) == f'there is no model "{path}"\n    Use "tiny", "tiny-untrained", or the path of a .safetensors file.'


def test_the_tiny_model_takes_no_codec_of_another() -> None:
    for load, key in ((video_codec, "video_vae_path"), (audio_codec, "audio_vae_path"), (text_encoder, "text_encoder_path")):
        with pytest.raises(ConfigError) as error:
            load("tiny", **{key: Path("vae.safetensors")})
        assert (
            str(error.value)
            == f"the tiny model has its own VAEs and text encoder, but {key} names another: vae.safetensors\n    Remove {key}."
        )
