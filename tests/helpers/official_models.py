"""Small models in the layouts of the official files, written from the tables of names alone (tests/codecs/official/model_configs.json).

The modules are of the real classes with small sizes and random weights; the metadata are those of the real files with the same small sizes.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

TABLES: dict[str, Any] = json.loads((Path(__file__).parents[1] / "codecs" / "official" / "model_configs.json").read_text())
CHANNELS, BINS = 8, 16

VIDEO_BLOCKS = {
    "2.0": {
        "encoder": ["res_x 1", "compress_space_res 2", "res_x 1", "compress_time_res 2", "res_x 1", "compress_all_res 2", "res_x 1", "compress_all_res 2", "res_x 1"],
        "decoder": ["res_x 1", "compress_all 2 residual", "res_x 1", "compress_all 2 residual", "res_x 1", "compress_all 2 residual", "res_x 1"],
    },
    "2.3": {
        "encoder": ["res_x 1", "compress_space_res 2", "res_x 1", "compress_time_res 2", "res_x 1", "compress_all_res 2", "res_x 1", "compress_all_res 1", "res_x 1"],
        "decoder": ["res_x 1", "compress_space 2", "res_x 1", "compress_time 2", "res_x 1", "compress_all 1", "res_x 1", "compress_all 2", "res_x 1"],
    },
}  # fmt: skip


def blocks(described: list[str]) -> list[list[Any]]:
    """ "compress_all 2 residual" as a checkpoint's configuration writes it."""
    made: list[list[Any]] = []
    for text in described:
        name, number, *more = text.split()
        options: dict[str, Any] = {"num_layers" if name == "res_x" else "multiplier": int(number)}
        made.append([name, {**options, "residual": True} if more else options])
    return made


def video_section(generation: str, channels: int, described: Mapping[str, list[str]]) -> dict[str, Any]:
    padding = (
        {"encoder_spatial_padding_mode": "zeros", "decoder_spatial_padding_mode": "reflect"}
        if generation == "2.0"
        else {"spatial_padding_mode": "zeros"}
    )
    return {
        "_class_name": "CausalVideoAutoencoder",
        "dims": 3,
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": channels,
        "encoder_blocks": blocks(described["encoder"]),
        "decoder_blocks": blocks(described["decoder"]),
        "scaling_factor": 1.0,
        "norm_layer": "pixel_norm",
        "patch_size": 4,
        "latent_log_var": "uniform",
        "use_quant_conv": False,
        "causal_decoder": False,
        "timestep_conditioning": False,
        "normalize_latent_channels": False,
        **({} if generation == "2.0" else {"encoder_base_channels": channels, "decoder_base_channels": channels}),
        **padding,
    }


def audio_section(channels: int = 128) -> dict[str, Any]:
    net = {
        "double_z": True, "mel_bins": 64, "z_channels": channels // BINS, "resolution": 256, "downsample_time": False, "in_channels": 2, "out_ch": 2,
        "ch": channels, "ch_mult": [1, 2, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0, "mid_block_add_attention": False,
        "norm_type": "pixel", "causality_axis": "height",
    }  # fmt: skip
    return {
        "model": {"params": {"ddconfig": net, "sampling_rate": 16000}},
        "preprocessing": {
            "stft": {"filter_length": 1024, "hop_length": 160, "win_length": 1024, "causal": True},
            "mel": {"n_mel_channels": 64, "mel_fmin": 0, "mel_fmax": 8000},
        },
    }


def vocoder_section(generation: str, widths: tuple[int, int]) -> dict[str, Any]:
    """Widths: of the vocoder, and of the bandwidth extension."""
    common: dict[str, Any] = {"resblock_kernel_sizes": [3, 7, 11], "resblock_dilation_sizes": [[1, 3, 5]] * 3, "stereo": True}
    if generation == "2.0":
        sizes = {"upsample_initial_channel": widths[0], "upsample_rates": [6, 5, 2, 2, 2], "upsample_kernel_sizes": [16, 15, 8, 4, 4]}
        return {"vocoder": {**common, **sizes, "resblock": "1"}}
    common |= {"resblock": "AMP1", "use_tanh_at_final": False, "activation": "snakebeta", "use_bias_at_final": False}
    first = {"upsample_initial_channel": widths[0], "upsample_rates": [5, 2, 2, 2, 2, 2], "upsample_kernel_sizes": [11, 4, 4, 4, 4, 4]}
    second = {"upsample_initial_channel": widths[1], "upsample_rates": [6, 5, 2, 2, 2], "upsample_kernel_sizes": [12, 11, 4, 4, 4]}
    rates = {"input_sampling_rate": 16000, "output_sampling_rate": 48000, "hop_length": 80, "n_fft": 512, "win_size": 512, "num_mels": 64}
    return {"vocoder": {**common, **first}, "bwe": {**common, **second, "apply_final_activation": False, **rates}}


def randomised(module: nn.Module, seed: int) -> nn.Module:
    """The same module with weights and buffers from a seed, rounded to bf16 so that every dtype of file holds them."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        values = torch.randn(tensor.shape, generator=generator) * 0.1
        if name.endswith(("latents_std", "basis")):
            values = values.abs() + 0.5
        tensor.copy_((tensor if name.endswith(".filter") else values).to(torch.bfloat16))
    return module.eval().requires_grad_(False)


def video_module(generation: str) -> Any:
    from diffusers import AutoencoderKLLTX2Video

    told = copy.deepcopy(TABLES["video_vae"][generation]["diffusers_config"])
    told["latent_channels"] = CHANNELS
    told["block_out_channels"] = [width * CHANNELS // 128 for width in told["block_out_channels"]]
    told["decoder_block_out_channels"] = [width * CHANNELS // 128 for width in told["decoder_block_out_channels"]]
    told["layers_per_block"] = [1] * len(told["layers_per_block"])
    told["decoder_layers_per_block"] = [1] * len(told["decoder_layers_per_block"])
    return randomised(AutoencoderKLLTX2Video(**told), 1)


def audio_module(generation: str) -> Any:
    from diffusers import AutoencoderKLLTX2Audio

    told = TABLES["audio_vae"][generation]["diffusers_config"] | {"base_channels": 2 * BINS, "latent_channels": 2}
    return randomised(AutoencoderKLLTX2Audio(**told), 2)


def vocoder_module(generation: str) -> Any:
    from diffusers.pipelines.ltx2.vocoder import LTX2Vocoder, LTX2VocoderWithBWE

    told = dict(TABLES["vocoder"][generation]["diffusers_config"])
    if generation == "2.0":
        return randomised(LTX2Vocoder(**told | {"hidden_channels": 32}), 3)
    return randomised(LTX2VocoderWithBWE(**told | {"hidden_channels": 64, "bwe_hidden_channels": 32}), 3)


def original_name(part: str, generation: str, own: str) -> str:
    """The name in an official file of a tensor of diffusers' module, without prefix: the tables read backwards, longest new name first."""
    table = TABLES[part][generation]["rename_original_to_diffusers"]
    name, row = own, {"encoder": "up_blocks", "decoder": "down_blocks"}.get(own.partition(".")[0])
    moved = False
    for old, new in sorted(table.items(), key=lambda pair: -len(pair[1])):
        numbered = bool(re.search(r"_blocks\.\d", old))
        if new and not (numbered and (moved or old.startswith(str(row)))):
            old, new = old.strip("."), new.strip(".")
            changed = re.sub(rf"(^|\.){re.escape(new)}(\.|$)", rf"\g<1>{old}\g<2>", name, count=0)
            moved |= numbered and changed != name
            name = changed
    if part == "vocoder" and ".downsample." not in own:
        name = name.replace("downsample.lowpass", "downsample")
    return name


def original_tensors(part: str, generation: str, module: nn.Module, prefix: str) -> dict[str, Tensor]:
    return {prefix + original_name(part, generation, own): tensor.to(torch.bfloat16) for own, tensor in module.state_dict().items()}


def write(path: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any], **metadata: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.clone().contiguous() for name, tensor in tensors.items()}, path, metadata={"config": json.dumps(config), **metadata}
    )
    return path


def codec_tensors(generation: str, *, video_prefix: str = "vae.") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All tensors and sections of the codecs of a model; those of the video VAE under `video_prefix`."""
    video = video_module(generation)
    tensors = {
        **original_tensors("video_vae", generation, video, video_prefix),
        **{
            f"{video_prefix}per_channel_statistics.{name}": torch.zeros(CHANNELS)
            for name in ("channel", "mean-of-stds", "mean-of-stds_over_std-of-means")
        },
        **original_tensors("audio_vae", generation, audio_module(generation), "audio_vae."),
        **original_tensors("vocoder", generation, vocoder_module(generation), "vocoder."),
    }
    sections = {
        "vae": video_section(generation, CHANNELS, VIDEO_BLOCKS["2.0" if generation == "2.0" else "2.3"]),
        "audio_vae": audio_section(2 * BINS),
        "vocoder": vocoder_section(generation, (32, 0) if generation == "2.0" else (64, 32)),
    }
    return tensors, sections


def write_unified(path: Path, generation: str) -> Path:
    """LTX-2 or 2.3: one file with everything but Gemma; its transformer is one tensor."""
    tensors, sections = codec_tensors(generation)
    tensors["model.diffusion_model.patchify_proj.weight"] = torch.zeros(2, 2)
    return write(path, tensors, {"transformer": {"num_layers": 0}, **sections}, model_version=f"{generation}.0")


def write_split(folder: Path, generation: str = "2.5") -> dict[str, Path]:
    """2.5: a file for the transformer, one for the video VAE (names without prefix), one for the audio VAE with the vocoder."""
    tensors, sections = codec_tensors(generation, video_prefix="")
    audio = {name: tensor for name, tensor in tensors.items() if name.startswith(("audio_vae.", "vocoder."))}
    video = {name: tensor for name, tensor in tensors.items() if name not in audio}
    version = {"model_version": f"{generation}.0"}
    transformer = {"model.diffusion_model.patchify_proj.weight": torch.zeros(2, 2)}
    return {
        "model": write(folder / "transformer.safetensors", transformer, {"transformer": {"num_layers": 0}}, **version),
        "video": write(folder / "video-vae-conv.safetensors", video, {"vae": sections["vae"]}, **version),
        "audio": write(
            folder / "audio-vae.safetensors", audio, {"audio_vae": sections["audio_vae"], "vocoder": sections["vocoder"]}, **version
        ),
    }


def write_folder(folder: Path, generation: str) -> Path:
    """A folder as diffusers writes it."""
    video_module(generation).save_pretrained(folder / "vae")
    audio_module(generation).save_pretrained(folder / "audio_vae")
    vocoder_module(generation).save_pretrained(folder / "vocoder")
    return folder
