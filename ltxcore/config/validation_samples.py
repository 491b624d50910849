# ruff: noqa: RUF009 (`key` makes an attrs field, not a shared default)
"""`[validation]`: the samples to generate during training, and the media that their conditions take."""

from __future__ import annotations

from pathlib import Path

import attrs

from ltxcore.conditions import AskedCondition
from ltxcore.config.tables import Finding, filled, key

NEGATIVE_PROMPT = (
    "blurry, low quality, overexposed, flat colours, jerky motion, distorted shapes, deformed hands, extra limbs, subtitles, "
    "watermark, logo, muffled sound, hiss, clipping, unnatural voice, sound that does not match the picture"
)


@attrs.frozen(kw_only=True)
class Freeze:
    """A validation sample's modality that is given entirely and only conditions the other; `type` "video_to_audio" or
    "audio_to_video".
    """

    modality: str
    medium: Path
    index: int = attrs.field(default=0, eq=False)

    @property
    def type(self) -> str:
        return next(name for name, modality in FREEZING.items() if modality == self.modality)


FREEZING: dict[str, str] = {"video_to_audio": "video", "audio_to_video": "audio"}
"""The types in a sample's conditions that freeze a modality, with that modality."""


@attrs.frozen(kw_only=True)
class ValidationSample:
    """A sample of `[[validation.samples]]`."""

    prompt: str = key(help="what to generate")
    conditions: list[AskedCondition] = key(factory=list, help="its conditions, which say what is given or added")
    video_dims: tuple[int, int, int] | None = key(
        None, help="width, height and frames; by default those of [validation]", unit="pixels, pixels, frames", at_least=1, at_most=10**6
    )
    seed: int | None = key(None, help="seed of its noise; by default that of [validation]", at_least=0)
    frozen: list[Freeze] = filled(attrs.Factory(list))


@attrs.frozen(kw_only=True)
class ValidationTable:
    """`[validation]`: samples drawn while training."""

    samples: list[ValidationSample] = key(factory=list, help="the samples to generate; by default two held-out clips")
    negative_prompt: str = key(NEGATIVE_PROMPT, help="negative prompt: what guidance steers away from")
    video_dims: tuple[int, int, int] = key(
        (960, 544, 89), help="width, height and frames", unit="pixels, pixels, frames", at_least=1, at_most=10**6
    )
    frame_rate: float = key(24.0, help="frame rate of the generated clips", unit="frames per second", at_least=0.1, at_most=1000)
    seed: int = key(42, help="seed of the noise", at_least=0)
    inference_steps: int = key(30, help="denoising (Euler) steps", unit="steps", at_least=2, at_most=10_000)
    interval: int = key(
        100, help="how often to generate samples, in steps; 0: only before the first step and at the end", unit="steps", at_least=0
    )
    video_cfg_scale: float = key(
        3.0,
        help="classifier-free guidance (CFG) scale of the video: how strongly it follows the prompt; 1: no guidance",
        at_least=1,
        at_most=1000,
    )
    audio_cfg_scale: float = key(
        7.0,
        help="classifier-free guidance (CFG) scale of the audio: how strongly it follows the prompt; 1: no guidance",
        at_least=1,
        at_most=1000,
    )
    video_stg_scale: float = key(1.0, help="spatio-temporal guidance (STG) scale of the video; 0: no guidance", at_least=0, at_most=1000)
    audio_stg_scale: float = key(1.0, help="spatio-temporal guidance (STG) scale of the audio; 0: no guidance", at_least=0, at_most=1000)
    stg_blocks: list[int] = key(factory=lambda: [28], help="blocks whose self-attention STG skips; an empty list: all", at_least=0)
    guidance_rescale: float = key(0.7, help="how much of the contrast added by guidance is removed again", at_least=0, at_most=1)
    video_modality_guidance_scale: float = key(
        3.0, help="modality guidance scale of the video: how strongly it follows the audio; 1: no guidance", at_least=1, at_most=1000
    )
    audio_modality_guidance_scale: float = key(
        3.0, help="modality guidance scale of the audio: how strongly it follows the video; 1: no guidance", at_least=1, at_most=1000
    )
    generate_audio: bool | None = key(None, help="generate audio; by default if audio is trained")
    generate_video: bool | None = key(None, help="generate video; by default if video is trained")
    skip_initial_validation: bool = key(False, help="generate nothing before the first step")

    def problems(self) -> list[Finding]:
        if self.samples and self.generate_audio is False and self.generate_video is False:
            return [((), "generates neither audio nor video", "Set generate_audio or generate_video to true, or remove the samples.")]
        return []
