"""Requests, media files and the tiny base, for tests of sampling."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from helpers.media_made import gradient_clip, tone
from ltxcore.codecs.source import Codecs
from ltxcore.conditions import AskedCondition, SampleCondition
from ltxcore.config.validation_samples import Freeze, ValidationSample, ValidationTable
from ltxcore.errors import LtxError
from ltxcore.media.probe import write_clip, write_sound
from ltxcore.models.backbone import LTXBackbone, ModelInfo
from ltxcore.models.load_base import describe, load_backbone
from ltxcore.protocols import Clip, ModelInput, Sound
from ltxcore.registry import Registry, load
from ltxcore.sample.empty_tokens import modalities_of
from ltxcore.sample.encode_inputs import Encoded, encode
from ltxcore.sample.media_needs import Planned, plan_generations
from ltxcore.sample.request import Request, requests
from ltxcore.sample.sampler import Sampler

BOTH = frozenset({"video", "audio"})
MODEL = Codecs("tiny", device="cpu")

PLAIN = {
    f"{modality}_{scale}": value
    for modality in ("video", "audio")
    for scale, value in (("cfg_scale", 1.0), ("stg_scale", 0.0), ("modality_guidance_scale", 1.0))
}
"""No guidance: one pass a step."""

QUICK = {"video_dims": (64, 64, 17), "frame_rate": 16.0, "inference_steps": 2, **PLAIN}


@cache
def registry() -> Registry:
    return load(disabled=())


@cache
def info() -> ModelInfo:
    return describe("tiny")


def condition(type: str, modality: str = "video", *, cls: Any = None, index: int = 0, **rest: Any) -> SampleCondition[Any, Any]:
    return SampleCondition(type=type, modality=modality, cls=cls or registry().get("condition", type).value, index=index, **rest)


def freeze(modality: str, medium: Path, index: int = 0) -> Freeze:
    return Freeze(modality=modality, medium=medium, index=index)


def table(*samples: ValidationSample, **changed: Any) -> ValidationTable:
    return ValidationTable(samples=list(samples), **(QUICK | changed))


def sample(*conditions: AskedCondition, **rest: Any) -> ValidationSample:
    return ValidationSample(**({"prompt": "a red disc sways slowly", "conditions": list(conditions)} | rest))


def request(*conditions: AskedCondition, frozen: list[Freeze] | None = None, trained: frozenset[str] = BOTH, **changed: Any) -> Request:
    (found,) = requests(table(sample(*conditions, frozen=frozen or []), **changed), trained, info())
    return found


def planned(*conditions: AskedCondition, factors: Mapping[str, str] | None = None, **rest: Any) -> Planned:
    (found,) = plan_generations([request(*conditions, **rest)], modalities_of(info()), factors)
    return found


def encoded(*conditions: AskedCondition, **rest: Any) -> Encoded:
    (found,) = encode([planned(*conditions, **rest)], MODEL)
    return found


@cache
def backbone(modalities: frozenset[str] = BOTH) -> LTXBackbone:
    return load_backbone("tiny", modalities, dtype=torch.float32).eval()


def sampler(model: LTXBackbone) -> Sampler:
    def forward(inputs: Mapping[str, ModelInput], **options: Any) -> Mapping[str, Tensor]:
        return model(inputs.get("video"), inputs.get("audio"), **options)

    return Sampler(model, forward, torch.device("cpu"))


def drawn(what: Encoded) -> dict[str, Tensor]:
    with torch.no_grad():
        return sampler(backbone(what.canvas.request.modalities)).generate(what)


def clip_file(path: Path, frames: int = 17, height: int = 64, width: int = 64, rate: float = 16.0, sound: Sound | None = None) -> Path:
    write_clip(path, gradient_clip(frames, height, width, rate), sound)
    return path


def film(path: Path, frames: int = 17, rate: float = 16.0) -> Path:
    """A clip with a tone as long as it."""
    return clip_file(path, frames, rate=rate, sound=tone(frames / rate))


def sound_file(path: Path, seconds: float = 17 / 16, rate: int = 16_000, channels: int = 1) -> Path:
    write_sound(path, tone(seconds, rate, channels=channels))
    return path


def image_file(path: Path, height: int = 64, width: int = 64) -> Path:
    write_clip(path, gradient_clip(1, height, width))
    return path


def half_mask(path: Path) -> Path:
    """White on the left."""
    frames = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)
    frames[:, :, :32] = 255
    write_clip(path, Clip(frames, 1.0))
    return path


def message(error: LtxError, folder: Path) -> str:
    return str(error).replace(str(folder), "TMP")
