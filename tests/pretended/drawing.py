"""Checks of generation: the sampler with each kind of guidance, and the studio of `ltx sample`, on the pretended device and on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from helpers.device_record import READ, RECORD, UP
from helpers.quantizers import quantizer
from helpers.sample_made import BOTH, PLAIN, condition, encoded, film, freeze, request
from ltxcore.codecs.source import Codecs
from ltxcore.models.load_base import load_backbone
from ltxcore.models.offload import place
from ltxcore.protocols import ModelInput
from ltxcore.sample.generate import Studio
from ltxcore.sample.sampler import Sampler
from pretended.training import digest, norm_of_a_gpu

GUIDANCE: Mapping[str, Mapping[str, float]] = {
    "none": {},
    "cfg": {"video_cfg_scale": 3.0, "audio_cfg_scale": 2.0},
    "stg": {"video_stg_scale": 1.0},
    "modality": {"audio_modality_guidance_scale": 2.0},
    "all": {"video_cfg_scale": 3.0, "audio_cfg_scale": 2.0, "video_stg_scale": 1.0, "audio_modality_guidance_scale": 2.0},
}


def guided(guidance: str, device: str, quantization: str | None = None, offload_blocks: int = 0) -> dict[str, Any]:
    """Two steps on the tiny model."""
    what = encoded(**{**PLAIN, **GUIDANCE[guidance]})
    there = torch.device(device)
    model = load_backbone(
        "tiny", BOTH, dtype=torch.float32, quantizer=quantizer(quantization), device=there, offloaded=offload_blocks
    ).eval()
    place(model, there, offload_blocks)

    def forward(inputs: Mapping[str, ModelInput], **options: Any) -> Mapping[str, Tensor]:
        return model(inputs.get("video"), inputs.get("audio"), **options)

    RECORD.clear()
    with torch.no_grad():
        drawn = Sampler(model, forward, there).generate(what)
    return {"drawn": digest(drawn), "waits": {READ: RECORD.of(READ), UP: RECORD.of(UP)}}


def both(guidance: str, **options: Any) -> dict[str, Any]:
    """The same on the CPU and on the device, by the same attention and the same RMS norm."""
    with sdpa_kernel(SDPBackend.MATH), norm_of_a_gpu():
        return {device: guided(guidance, device, **options) for device in ("cpu", "cuda:0")}


def studio(model: Mapping[str, str], folder: str, precision: str, **options: Any) -> list[str]:
    """A sample with a first frame and one with a frozen sound, from files to files, with a model in its official layout and all guidance."""
    there, device = Path(folder), "cuda:0"
    film(there / "film.mp4")
    paths = {key: Path(path) for key, path in model.items() if key != "model_path"}
    given = Codecs(
        model["model_path"],
        paths.get("text_encoder_path"),
        paths.get("video_vae_path"),
        paths.get("audio_vae_path"),
        device=device,
        tiling=True,
    )
    drawer = Studio(given, precision=precision, quantizer=quantizer(options.pop("quantization", None)), **options)
    whole = {**PLAIN, **GUIDANCE["all"]}
    asked = [
        request(condition("first_frame", medium=there / "film.mp4"), **whole),
        request(frozen=[freeze("audio", there / "film.mp4")], **whole),
    ]
    drawn = drawer.generate(drawer.plan(asked), [there / f"sample_{number}" for number in range(len(asked))])
    return [path.name for path in drawn if path.stat().st_size]
