"""Whole small models as a user downloads them: every file of a release in its official layout, made to go together.

The transformer has the names and settings of the golden models and the connectors of golden group 11; its ends are cut to the width of the small
codecs. Nothing here knows how ltx reads them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from helpers.eight_bits import in_eight_bits
from helpers.golden_connectors import SETTINGS, connector_tensors
from helpers.golden_models import PREFIX, golden_config, golden_weights
from helpers.official_models import BINS, CHANNELS, codec_tensors, randomised, write, write_folder
from helpers.official_text import (
    GEMMA4,
    HIDDEN,
    LAYERS,
    TRANSFORMER,
    WIDTHS,
    gemma_of,
    language_model,
    projections,
    tensors_of,
    tokenizer_bytes,
    write_gemma3,
    write_packed,
)
from ltxcore.models.transformer_settings import diffusers_arguments

SOUND = 2 * BINS
"""Numbers a step of the small audio VAE's latents: two channels of bins."""

GOLDEN = {"2.3": "B", "2.5": "C"}


def settings(generation: str) -> dict[str, Any]:
    """The configuration of a transformer for latents of the small codecs."""
    sizes = {"in_channels": CHANNELS, "out_channels": CHANNELS, "audio_in_channels": SOUND, "audio_out_channels": SOUND}
    connectors = {key: value for key, value in SETTINGS.items() if "connector_" in key and not key.startswith("caption")}
    return {**golden_config(GOLDEN[generation]), **connectors, **TRANSFORMER["2.3"], **sizes}


def transformer(generation: str) -> dict[str, Tensor]:
    """Its tensors, with those of its connectors."""
    weights = golden_weights(GOLDEN[generation])
    generator = torch.Generator().manual_seed(11)
    for stream, width in (("", CHANNELS), ("audio_", SOUND)):
        inner = weights[f"{stream}patchify_proj.weight"].shape[0]
        weights[f"{stream}patchify_proj.weight"] = (torch.randn(inner, width, generator=generator) / width**0.5).to(torch.bfloat16)
        weights[f"{stream}proj_out.weight"] = (torch.randn(width, inner, generator=generator) / inner**0.5).to(torch.bfloat16)
        weights[f"{stream}proj_out.bias"] = torch.zeros(width, dtype=torch.bfloat16)
    return {PREFIX + key: value for key, value in weights.items()} | connector_tensors()


def unified(folder: Path) -> dict[str, Path]:
    """LTX-2.3: one file with everything but Gemma 3, and the folder of Gemma 3. Keys are those of `[model]`."""
    codecs, sections = codec_tensors("2.3")
    tensors = {**transformer("2.3"), **codecs, **projections("2.3")}
    path = write(folder / "ltx-2.3-22b-dev.safetensors", tensors, {"transformer": settings("2.3"), **sections}, model_version="2.3.1")
    return {"model_path": path, "text_encoder_path": write_gemma3(folder / "gemma-3")}


def split(folder: Path) -> dict[str, Path]:
    """LTX-2.5: the transformer, the text encoder with the projections, the video VAE, the audio VAE with the vocoder."""
    codecs, sections = codec_tensors("2.5", video_prefix="")
    sound = {name: tensor for name, tensor in codecs.items() if name.startswith(("audio_vae.", "vocoder."))}
    pictures = {name: tensor for name, tensor in codecs.items() if name not in sound}
    told = {"model_version": "2.5.0", "gemma_source_checkpoint": gemma_of(GEMMA4["gemma_version"])}
    heard = {name: sections[name] for name in ("audio_vae", "vocoder")}
    config = {"transformer": settings("2.5")}
    return {
        "model_path": write(folder / "ltx-2.5-22b-dev-transformer-bf16.safetensors", transformer("2.5"), config, **told),
        "text_encoder_path": write_packed(folder / "gemma4-with-proj.safetensors"),
        "video_vae_path": write(folder / "video-vae-conv.safetensors", pictures, {"vae": sections["vae"]}, model_version="2.5.0"),
        "audio_vae_path": write(folder / "audio-vae.safetensors", sound, heard, model_version="2.5.0"),
    }


def diffusers_folder(folder: Path) -> dict[str, Path]:
    """LTX-2.5 as diffusers keeps it, written by diffusers itself; its transformer is the one to train."""
    from diffusers import LTX2VideoTransformer3DModel
    from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors

    model = randomised(LTX2VideoTransformer3DModel(**diffusers_arguments(settings("2.5"), "2.5")), 4)
    model.to(torch.bfloat16).save_pretrained(folder / "transformer_full")
    connectors = LTX2TextConnectors(
        caption_channels=HIDDEN, text_proj_in_factor=LAYERS + 1, per_modality_projections=True, proj_bias=True, rope_type="split",
        video_hidden_dim=WIDTHS["video"], video_connector_num_attention_heads=4, video_connector_attention_head_dim=16,
        audio_hidden_dim=WIDTHS["audio"], audio_connector_num_attention_heads=4, audio_connector_attention_head_dim=8,
    )  # fmt: skip
    randomised(connectors, 5).save_pretrained(folder / "connectors")
    write_folder(folder, "2.5")
    gemma = folder / "text_encoder"
    gemma.mkdir()
    save_file(tensors_of(language_model(GEMMA4), ""), gemma / "model.safetensors")
    (gemma / "config.json").write_text(json.dumps(GEMMA4))
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "tokenizer.json").write_bytes(tokenizer_bytes())
    return {"model_path": folder}


def unified_in_eight_bits(folder: Path) -> dict[str, Path]:
    """LTX-2.3 as it is published in 8 bits: the matrices of the blocks, and of the text connectors, with a scale each."""
    found = unified(folder)
    for among in ("transformer_blocks.", "transformer_1d_blocks."):
        in_eight_bits(found["model_path"], "official", among)
    return found


WHOLE = {"unified": unified, "unified in 8 bits": unified_in_eight_bits, "split": split, "folder": diffusers_folder}
