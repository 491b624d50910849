"""Sixteen configurations of ltx-trainer, one a mode, put together by hand from what such files hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import yaml

SHORT = ["to_k", "to_q", "to_v", "to_out.0"]
VIDEO = [f"{attention}.{part}" for attention in ("attn1", "attn2") for part in SHORT]
VIDEO_FF = [*VIDEO, "ff.net.0.proj", "ff.net.2"]
AUDIO = [f"audio_{part}" for part in VIDEO_FF]
AUDIO_CROSS = [*AUDIO, *(f"video_to_audio_attn.{part}" for part in SHORT)]

GENERATED = {"is_generated": True}
FROZEN = {"is_generated": False}

MEDIA = ("image.png", "clip.mp4", "sound.wav", "mask.mp4", "mask.pt", "model.safetensors", "gemma")


@attrs.frozen(kw_only=True)
class Mode:
    """A row of the table in G.3.

    Attributes:
        video, audio: the block of the strategy, without its folder; none: no block.
        targets: LoRA target modules.
        scales: guidance by key of `validation`, where it is not 3/7, 1/1, 3/3.
        generate: `generate_audio` and `generate_video`, where they are written.
        sample: conditions of each validation sample.
        longer: learning rate 2e-4 for 3000 steps, the last 3 kept, instead of 1e-4 for 2000, all kept.
        more: other keys, by table.
    """

    video: Mapping[str, Any] | None = None
    audio: Mapping[str, Any] | None = None
    targets: list[str] = attrs.field(factory=lambda: list(SHORT))
    scales: Mapping[str, float] = attrs.field(factory=dict)
    generate: Mapping[str, bool] = attrs.field(factory=lambda: {"generate_audio": True})
    sample: tuple[Mapping[str, Any], ...] = ()
    longer: bool = False
    more: Mapping[str, Mapping[str, Any]] = attrs.field(factory=dict)


def given(kind: str, **fields: Any) -> dict[str, Any]:
    return {**GENERATED, "conditions": [{"type": kind, **fields, "probability": 1.0}]}


VIDEO_ONLY: dict[str, Any] = {"scales": {"video_modality_guidance_scale": 1.0}, "generate": {"generate_audio": False}}
AUDIO_ONLY: dict[str, Any] = {
    "scales": {"audio_modality_guidance_scale": 1.0},
    "generate": {"generate_audio": True, "generate_video": False},
    "targets": AUDIO,
    "longer": True,
}
REFERENCE = {"type": "reference", "video": "clip.mp4", "downscale_factor": 1, "temporal_scale_factor": 1, "include_in_output": True}
LOW_VRAM = {
    "lora": {"rank": 16, "alpha": 16},
    "optimization": {"optimizer_type": "adamw8bit"},
    "acceleration": {"quantization": "int8-quanto", "load_text_encoder_in_8bit": True, "offload_optimizer_during_validation": True},
    "validation": {"video_dims": [576, 576, 49]},
}

MODES: dict[str, Mode] = {
    "t2v_lora": Mode(video=GENERATED, audio=GENERATED),
    "t2v_lora_low_vram": Mode(video=GENERATED, audio=GENERATED, more=LOW_VRAM),
    "i2v_lora": Mode(
        video={**GENERATED, "conditions": [{"type": "first_frame", "probability": 0.5}]},
        audio=GENERATED,
        sample=({"type": "first_frame", "image_or_video": "image.png"},),
    ),
    "video_extend_lora": Mode(
        video=given("prefix", temporal_boundary=8),
        audio=GENERATED,
        sample=({"type": "prefix", "video": "clip.mp4", "num_frames": 57},),
    ),
    "video_suffix_lora": Mode(
        video=given("suffix", temporal_boundary=8),
        audio=GENERATED,
        sample=({"type": "suffix", "video": "clip.mp4", "num_frames": 64},),
    ),
    "v2v_ic_lora": Mode(
        video={
            **GENERATED,
            "conditions": [
                {"type": "reference", "latents_dir": "reference_latents", "probability": 1.0},
                {"type": "first_frame", "probability": 0.2},
            ],
        },
        targets=VIDEO_FF,
        sample=(REFERENCE,),
        longer=True,
        **VIDEO_ONLY,
    ),
    "a2v_lora": Mode(
        video=GENERATED,
        audio=FROZEN,
        scales={"audio_cfg_scale": 1.0, "audio_stg_scale": 0.0, "audio_modality_guidance_scale": 1.0},
        generate={"generate_audio": False, "generate_video": True},
        sample=({"type": "audio_to_video", "audio": "sound.wav"},),
    ),
    "v2a_lora": Mode(
        video=FROZEN,
        audio=GENERATED,
        targets=AUDIO_CROSS,
        scales={"video_cfg_scale": 1.0, "video_stg_scale": 0.0, "video_modality_guidance_scale": 1.0},
        generate={"generate_audio": True, "generate_video": False},
        sample=({"type": "video_to_audio", "video": "clip.mp4"},),
    ),
    "video_inpainting_lora": Mode(
        video=given("mask", mask_dir="video_masks"),
        targets=VIDEO,
        sample=({"type": "mask", "video": "clip.mp4", "mask": "mask.mp4"},),
        **VIDEO_ONLY,
    ),
    "video_outpainting_lora": Mode(
        video=given("spatial_crop", spatial_region=[0, 0, 288, 576]),
        targets=VIDEO,
        sample=({"type": "spatial_crop", "video": "clip.mp4", "spatial_region": [0, 0, 288, 576]},),
        **VIDEO_ONLY,
    ),
    "t2a_lora": Mode(audio=GENERATED, **AUDIO_ONLY),
    "audio_extend_lora": Mode(
        audio=given("prefix", temporal_boundary=8), sample=({"type": "prefix", "audio": "sound.wav", "duration": 1.0},), **AUDIO_ONLY
    ),
    "audio_suffix_lora": Mode(
        audio=given("suffix", temporal_boundary=8), sample=({"type": "suffix", "audio": "sound.wav", "duration": 1.0},), **AUDIO_ONLY
    ),
    "audio_inpainting_lora": Mode(
        audio=given("mask", mask_dir="audio_masks"),
        sample=({"type": "mask", "audio": "sound.wav", "mask": "mask.pt"},),
        **AUDIO_ONLY,
    ),
    "a2a_ic_lora": Mode(
        audio=given("reference", latents_dir="reference_audio_latents"),
        sample=({"type": "reference", "audio": "sound.wav"},),
        **AUDIO_ONLY,
    ),
    "av2av_ic_lora": Mode(
        video=given("reference", latents_dir="reference_latents"),
        audio=given("reference", latents_dir="reference_audio_latents"),
        sample=(REFERENCE, {"type": "reference", "audio": "sound.wav"}),
        longer=True,
    ),
}


def configuration(name: str, folder: Path) -> str:
    """The YAML of a mode, with all paths in `folder`, where they exist; learning rates are written as YAML 1.1 takes for text."""
    mode = MODES[name]
    for file in MEDIA:
        (folder / file).touch()
    strategy: dict[str, Any] = {"name": "flexible"}
    for modality, block, latents in (("video", mode.video, "latents"), ("audio", mode.audio, "audio_latents")):
        if block is not None:
            strategy[modality] = {"latents_dir": latents, **block}
    tables: dict[str, Any] = {
        "model": {
            "model_path": str(folder / "model.safetensors"),
            "text_encoder_path": str(folder / "gemma"),
            "training_mode": "lora",
            "load_checkpoint": None,
        },
        "lora": {"rank": 32, "alpha": 32, "dropout": 0.0, "target_modules": mode.targets},
        "training_strategy": strategy,
        "optimization": {
            "learning_rate": "2e-4" if mode.longer else "1e-4",
            "steps": 3000 if mode.longer else 2000,
            "batch_size": 1,
            "gradient_accumulation_steps": 1,
            "max_grad_norm": 1.0,
            "optimizer_type": "adamw",
            "scheduler_type": "linear",
            "scheduler_params": {},
            "enable_gradient_checkpointing": True,
        },
        "acceleration": {"mixed_precision_mode": "bf16", "quantization": None, "load_text_encoder_in_8bit": False},
        "data": {"preprocessed_data_root": str(folder), "num_dataloader_workers": 2},
        "validation": _validation(mode, folder),
        "checkpoints": {"interval": 250, "keep_last_n": 3 if mode.longer else -1, "precision": "bfloat16"},
        "flow_matching": {"timestep_sampling_mode": "shifted_logit_normal", "timestep_sampling_params": {}},
        "hub": {"push_to_hub": False, "hub_model_id": None},
        "wandb": {"enabled": False, "project": "ltx-2-trainer", "entity": None, "tags": ["ltx2", "lora", name.split("_")[0]]},
        "seed": 42,
        "output_dir": f"outputs/{name}",
    }
    for table, keys in mode.more.items():
        tables[table] |= keys
    return yaml.safe_dump(tables, sort_keys=False)


def _validation(mode: Mode, folder: Path) -> dict[str, Any]:
    conditions = [{key: str(folder / value) if value in MEDIA else value for key, value in each.items()} for each in mode.sample]
    samples = [{"prompt": prompt} | ({"conditions": conditions} if conditions else {}) for prompt in ("A bird sings.", "Rain on a roof.")]
    scales = {f"{modality}_{what}": value for what, *values in SCALES for modality, value in zip(("video", "audio"), values, strict=True)}
    return {
        "samples": samples,
        "negative_prompt": "blurred, noisy",
        "video_dims": [960, 544, 89],
        "frame_rate": 24.0,
        "seed": 42,
        "inference_steps": 30,
        "interval": 100,
        **scales,
        **mode.scales,
        "stg_blocks": [28],
        "guidance_rescale": 0.7,
        **mode.generate,
        "skip_initial_validation": False,
    }


SCALES = (("cfg_scale", 3.0, 7.0), ("stg_scale", 1.0, 1.0), ("modality_guidance_scale", 3.0, 3.0))
