"""`ltxcore.codecs.load_codecs` for the real models."""

import pytest
import torch

from helpers.official_text import gemma_of, write_gemma3, write_model, write_packed
from ltxcore.codecs.load_codecs import audio_codec, text_encoder, video_codec
from ltxcore.codecs.official.audio_vae import AudioVae
from ltxcore.codecs.official.text import GemmaTextEncoder, Placement
from ltxcore.codecs.official.tiles import Tiling
from ltxcore.codecs.official.video_vae import VideoVae


@pytest.mark.parametrize("layout", ["2.0", "2.3", "2.5", "folder 2.3"])
def test_every_layout_has_its_codecs(models, layout):
    model, video, audio = models[layout]
    pictures = video_codec(str(model), video_vae_path=video, dtype=torch.float32, tiling=Tiling())
    sounds = audio_codec(str(model), audio_vae_path=audio)
    assert (type(pictures), pictures.dtype, pictures.tiling, pictures.device) == (VideoVae, torch.float32, Tiling(), "cpu")
    assert (type(sounds), sounds.rate) == (AudioVae, 24000 if layout == "2.0" else 48000)


def test_and_its_text_encoder(tmp_path):
    older = write_model(tmp_path / "ltx-2.3.safetensors", "2.3")
    newer = write_model(tmp_path / "ltx-2.5.safetensors", "2.5", {}, gemma_source_checkpoint=gemma_of("gemma4-tiny-ltx-v1"))
    for model, own in ((older, write_gemma3(tmp_path / "gemma")), (newer, write_packed(tmp_path / "packed.safetensors"))):
        encoder = text_encoder(str(model), text_encoder_path=own, placement=Placement(dtype=torch.float32))
        assert isinstance(encoder, GemmaTextEncoder)
        assert encoder.encode(["a disc"])[0]["video"].shape == (3, 64)
