# ruff: noqa: RUF009 (`key` makes an attrs field, not a shared default)
"""`[validation]`: the samples to generate during training, and the media that their conditions take."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal

import attrs

from ltxcore.conditions import AskedCondition
from ltxcore.config.image_crf import image_crf_key
from ltxcore.config.tables import Finding, filled, key

NEGATIVE_PROMPT = (
    "blurry, low quality, overexposed, flat colours, jerky motion, distorted shapes, deformed hands, extra limbs, subtitles, "
    "watermark, logo, muffled sound, hiss, clipping, unnatural voice, sound that does not match the picture"
)

DISTILLED = (1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875, 0.0)
"""The noise levels that distilled models, and LoRAs distilled from them, generate with.

Source: docs/explanation/arithmetic.md#noise-levels-of-distilled-models
"""

NO_GUIDANCE = {
    "video_cfg_scale": 1.0,
    "audio_cfg_scale": 1.0,
    "video_stg_scale": 0.0,
    "audio_stg_scale": 0.0,
    "guidance_rescale": 0.0,
    "video_modality_guidance_scale": 1.0,
    "audio_modality_guidance_scale": 1.0,
}
"""The values of the keys of guidance that switch it off."""

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "distilled": {"sigmas": "distilled", "inference_steps": len(DISTILLED) - 1, **NO_GUIDANCE},
}
"""Values of several keys of `[validation]` that belong together, by the name of the preset."""


def _guidance(name: str, usual: float, help: str, at_least: float, at_most: float) -> Any:
    """Declare a key of guidance, which is off by default if the noise levels are those of distilled models."""
    default = attrs.Factory(lambda self: NO_GUIDANCE[name] if self.sigmas == "distilled" else usual, takes_self=True)
    help = f"{help}; by default {usual:g}, or {NO_GUIDANCE[name]:g} with distilled sigmas"
    return key(default, help=help, at_least=at_least, at_most=at_most)


@attrs.frozen(kw_only=True)
class Freeze:
    """A modality of a validation sample that is given entirely and only conditions the other one; its `type` is "video_to_audio"
    or "audio_to_video".
    """

    modality: str
    medium: Path
    index: int = attrs.field(default=0, eq=False)

    @property
    def type(self) -> str:
        return next(name for name, modality in FREEZING.items() if modality == self.modality)


FREEZING: dict[str, str] = {"video_to_audio": "video", "audio_to_video": "audio"}
"""The types of condition that freeze a modality of a sample, each with that modality."""


@attrs.frozen(kw_only=True)
class ValidationSample:
    """A sample of `[[validation.samples]]`."""

    not_here: ClassVar[Mapping[str, tuple[str, str]]] = {
        "choices": ("are drawn, which is only possible in training", "Write the conditions of one of the lists in conditions.")
    }
    """Keys that a user might write in this table by mistake, each with an explanation and a remedy."""

    prompt: str = key(help="what to generate")
    conditions: list[AskedCondition] = key(factory=list, help="conditions, which determine what is given or added")
    video_dims: tuple[int, int, int] | None = key(
        None, help="width, height and frames; by default those of [validation]", unit="pixels, pixels, frames", at_least=1, at_most=10**6
    )
    seed: int | None = key(None, help="seed of the noise; by default that of [validation]", at_least=0)
    frozen: list[Freeze] = filled(attrs.Factory(list))


@attrs.frozen(kw_only=True)
class ValidationTable:
    """`[validation]`: samples that are generated during training."""

    samples: list[ValidationSample] = key(factory=list, help="the samples to generate; by default two held-out clips")
    negative_prompt: str = key(NEGATIVE_PROMPT, help="negative prompt: what guidance steers away from")
    video_dims: tuple[int, int, int] = key(
        (960, 544, 89), help="width, height and frames", unit="pixels, pixels, frames", at_least=1, at_most=10**6
    )
    frame_rate: float = key(24.0, help="frame rate of the generated clips", unit="frames per second", at_least=0.1, at_most=1000)
    seed: int = key(42, help="seed of the noise", at_least=0)
    sigmas: list[float] | Literal["distilled"] | None = key(
        None,
        help='noise levels to generate with: "distilled" are those of distilled models and LoRAs, 8 steps without guidance; '
        "or a list from 1 to 0; by default they follow from inference_steps",
        at_least=0,
        at_most=1,
    )
    inference_steps: int = key(
        attrs.Factory(lambda self: 30 if self.levels is None else max(2, len(self.levels) - 1), takes_self=True),
        help="denoising (Euler) steps; by default 30, or as many as sigmas gives",
        unit="steps",
        at_least=2,
        at_most=10_000,
    )
    interval: int = key(
        100, help="how often to generate samples, in steps; 0: only before the first step and at the end", unit="steps", at_least=0
    )
    video_cfg_scale: float = _guidance(
        "video_cfg_scale",
        3.0,
        "classifier-free guidance (CFG) scale of the video: how strongly it follows the prompt; 1: no guidance",
        1,
        1000,
    )
    audio_cfg_scale: float = _guidance(
        "audio_cfg_scale",
        7.0,
        "classifier-free guidance (CFG) scale of the audio: how strongly it follows the prompt; 1: no guidance",
        1,
        1000,
    )
    video_stg_scale: float = _guidance("video_stg_scale", 1.0, "spatio-temporal guidance (STG) scale of the video; 0: no guidance", 0, 1000)
    audio_stg_scale: float = _guidance("audio_stg_scale", 1.0, "spatio-temporal guidance (STG) scale of the audio; 0: no guidance", 0, 1000)
    stg_blocks: list[int] = key(factory=lambda: [28], help="blocks whose self-attention STG skips; an empty list: all", at_least=0)
    guidance_rescale: float = _guidance("guidance_rescale", 0.7, "how much of the contrast added by guidance is removed again", 0, 1)
    video_modality_guidance_scale: float = _guidance(
        "video_modality_guidance_scale",
        3.0,
        "modality guidance scale of the video: how strongly it follows the audio; 1: no guidance",
        1,
        1000,
    )
    audio_modality_guidance_scale: float = _guidance(
        "audio_modality_guidance_scale",
        3.0,
        "modality guidance scale of the audio: how strongly it follows the video; 1: no guidance",
        1,
        1000,
    )
    image_crf: int | None = image_crf_key("images that conditions take")
    generate_audio: bool | None = key(None, help="generate audio; by default, true if audio is trained")
    generate_video: bool | None = key(None, help="generate video; by default, true if video is trained")
    skip_initial_validation: bool = key(False, help="generate nothing before the first step")

    @property
    def levels(self) -> tuple[float, ...] | None:
        """The noise levels that `sigmas` gives; None if they follow from the number of steps."""
        return DISTILLED if self.sigmas == "distilled" else None if self.sigmas is None else tuple(self.sigmas)

    def problems(self) -> list[Finding]:
        return [*self._faults_of_sigmas(), *self._faults_of_modalities()]

    def _faults_of_sigmas(self) -> list[Finding]:
        levels = self.levels
        if levels is None:
            return []
        if len(levels) < 3 or levels[0] != 1 or levels[-1] != 0 or any(low >= high for high, low in pairwise(levels)):
            what = f"must fall from 1 to 0 in at least two steps, which {list(levels)} does not"
            return [(("sigmas",), what, 'Write "distilled", or a list such as [1.0, 0.9, 0.6, 0.0].')]
        if self.inference_steps != len(levels) - 1:
            what = f"is {self.inference_steps}, but sigmas gives {len(levels) - 1} steps"
            return [(("inference_steps",), what, "Remove one of the two keys.")]
        return []

    def _faults_of_modalities(self) -> list[Finding]:
        if self.samples and self.generate_audio is False and self.generate_video is False:
            return [((), "generates neither audio nor video", "Set generate_audio or generate_video to true, or remove the samples.")]
        return []
