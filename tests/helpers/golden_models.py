"""The golden models A, B and C as files and backbones, stock models of diffusers with the same weights, and inputs for both."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from helpers.golden_io import Case, load_case
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.load_base import load_backbone
from ltxcore.models.parameter_names import to_diffusers
from ltxcore.models.transformer_settings import diffusers_arguments
from ltxcore.protocols import ModelInput

BOTH = frozenset({"video", "audio"})
PREFIX = "model.diffusion_model."
_FIELDS = {
    "tokens": "latent",
    "sigma": "sigma",
    "timesteps": "timesteps",
    "positions": "positions",
    "context": "context",
    "context_mask": "context_mask",
}


def golden_weights(name: str) -> dict[str, torch.Tensor]:
    """Of a golden model, bf16, original names without prefix."""
    return {key: value for key, value in load_case("06_model", f"weights.{name}").outputs.items() if value is not None}


def golden_config(name: str) -> dict[str, Any]:
    return load_case("06_model", f"weights.{name}").config["transformer"]


def write_golden(
    name: str, folder: Path, *, extra: Mapping[str, torch.Tensor] | None = None, settings: Mapping[str, Any] | None = None
) -> Path:
    """The golden model as a file in the original layout, with `extra` tensors beside it and `settings` beside those of its transformer."""
    path = folder / f"{name}.safetensors"
    tensors = {PREFIX + key: value for key, value in golden_weights(name).items()} | dict(extra or {})
    save_file(tensors, path, metadata={"config": json.dumps({"transformer": golden_config(name) | dict(settings or {})})})
    return path


def load_golden(
    name: str, folder: Path, modalities: Iterable[str] = BOTH, *, dtype: torch.dtype = torch.float32, gradient_checkpointing: bool = False
) -> LTXBackbone:
    path = write_golden(name, folder)
    return load_backbone(str(path), frozenset(modalities), dtype=dtype, gradient_checkpointing=gradient_checkpointing)


def stock_model(name: str) -> Any:
    """diffusers' own model with the golden weights in float32."""
    from diffusers import LTX2VideoTransformer3DModel

    model = LTX2VideoTransformer3DModel(**diffusers_arguments(golden_config(name), name))
    model.load_state_dict({to_diffusers(key): value.float() for key, value in golden_weights(name).items()}, strict=True)
    return model.eval()


def inputs_of(case: Case, source: Mapping[str, torch.Tensor | None]) -> dict[str, ModelInput]:
    """The model's inputs in `source` (inputs of a case of group 06, outputs of one of group 01), by modality."""
    present = [m for m in ("video", "audio") if f"{m}.latent" in source]
    return {m: ModelInput(**{ours: source[f"{m}.{theirs}"] for ours, theirs in _FIELDS.items()}) for m in present}


def golden_inputs(case_id: str) -> dict[str, ModelInput]:
    case = load_case("06_model", case_id)
    return inputs_of(case, case.inputs)


def random_input(modality: str, tokens: int, *, seed: int = 0, width: int = 128, sigma: torch.Tensor | None = None) -> ModelInput:
    """A batch of two for a model whose text has `width` features; every token has the sample's noise level."""
    generator = torch.Generator().manual_seed(seed)
    axes = {"video": 3, "audio": 1}[modality]
    sigma = torch.rand(2, generator=generator) if sigma is None else sigma
    start = torch.rand(2, axes, tokens, 1, generator=generator) * torch.tensor([2.0, 200.0, 200.0])[:axes].view(1, -1, 1, 1)
    return ModelInput(
        tokens=torch.randn(2, tokens, 128, generator=generator),
        sigma=sigma,
        timesteps=sigma[:, None].expand(2, tokens),
        positions=torch.cat([start, start + 0.04], dim=-1),
        context=torch.randn(2, 16, width, generator=generator),
        context_mask=torch.tensor([[1] * 16, [0] * 6 + [1] * 10]),
    )


def ask_stock(model: Any, video: ModelInput, audio: ModelInput, **options: Any) -> dict[str, torch.Tensor]:
    """What diffusers' own forward says of the same inputs."""
    out = model(
        hidden_states=video.tokens,
        audio_hidden_states=audio.tokens,
        encoder_hidden_states=video.context,
        audio_encoder_hidden_states=audio.context,
        timestep=video.timesteps * 1000,
        audio_timestep=audio.timesteps * 1000,
        sigma=video.sigma * 1000,
        audio_sigma=audio.sigma * 1000,
        encoder_attention_mask=video.context_mask,
        audio_encoder_attention_mask=audio.context_mask,
        video_coords=video.positions,
        audio_coords=audio.positions,
        **options,
    )
    return {"video": out.sample, "audio": out.audio_sample}
