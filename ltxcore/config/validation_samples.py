# ruff: noqa: RUF009 (`key` makes an attrs field, not a shared default)
"""`[validation]`: what is drawn while training, and the media that conditions take then."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from ltxcore.config.keys import Finding, filled, key

NEGATIVE_PROMPT = (
    "blurry, low quality, overexposed, flat colours, jerky motion, distorted shapes, deformed hands, extra limbs, subtitles, "
    "watermark, logo, muffled sound, hiss, clipping, unnatural voice, sound that does not match the picture"
)


@attrs.frozen(kw_only=True)
class SampleCondition:
    """A condition of a validation sample: the class that training uses, with media files in place of source folders.

    Attributes:
        type: its registered name.
        modality: what it works on.
        cls: the registered class.
        fields: the keys of that class that the file sets.
        medium: the file of its own content; none: it has none.
        media: the file of each of its roles.
        num_frames: pixel frames that it gives, where the class counts latent frames.
        duration: seconds that it gives, where the class counts latent frames.
        include_in_output: show the reference beside the result.
        downscale_factor: how many times smaller than the target the reference is drawn.
        temporal_scale_factor: how many times fewer frames the reference has.
        index: its place in the sample's list of conditions, for messages.
    """

    type: str
    modality: str
    cls: Any
    fields: Mapping[str, Any] = attrs.field(factory=dict)
    medium: Path | None = None
    media: Mapping[str, Path] = attrs.field(factory=dict)
    num_frames: int | None = None
    duration: float | None = None
    include_in_output: bool = False
    downscale_factor: int = 1
    temporal_scale_factor: int = 1
    index: int = attrs.field(default=0, eq=False)

    @property
    def has_open_length(self) -> bool:
        """Whether it counts latent frames, and the file does not say how many: then it is as long as its medium."""
        length = length_field(self.cls)
        return length is not None and length not in self.fields and self.num_frames is None and self.duration is None

    def condition(self, latent_frames: int | None = None) -> Any:
        """The condition.

        Args:
            latent_frames: value of a field in latent frames, where the file leaves it to `num_frames`, `duration` or its medium.
        """
        fields = dict(self.fields)
        length = length_field(self.cls)
        if length is not None and length not in fields and latent_frames is not None:
            fields[length] = latent_frames
        return self.cls(**fields)


@attrs.frozen(kw_only=True)
class Freeze:
    """A validation sample's modality that is given whole and only conditions the other; `type` "video_to_audio" or "audio_to_video"."""

    modality: str
    medium: Path
    index: int = attrs.field(default=0, eq=False)

    @property
    def type(self) -> str:
        return next(name for name, modality in FREEZING.items() if modality == self.modality)


FREEZING: dict[str, str] = {"video_to_audio": "video", "audio_to_video": "audio"}
"""Types in a sample's conditions that freeze a modality, and which."""


def length_field(cls: Any) -> str | None:
    """The field of a condition class that counts latent frames, if there is exactly one."""
    fields = [field.alias or field.name for field in attrs.fields(cls) if field.init and field.metadata.get("unit") == "latent frames"]
    return fields[0] if len(fields) == 1 else None


@attrs.frozen(kw_only=True)
class ValidationSample:
    """One entry of `[[validation.samples]]`."""

    prompt: str = key(help="what to draw")
    conditions: list[SampleCondition] = key(factory=list, help="what of it is given, or added")
    video_dims: tuple[int, int, int] | None = key(
        None, help="width, height and frames; by default those of [validation]", unit="pixels, pixels, frames", at_least=1, at_most=10**6
    )
    seed: int | None = key(None, help="of its noise; by default that of [validation]", at_least=0)
    frozen: list[Freeze] = filled(attrs.Factory(list))


@attrs.frozen(kw_only=True)
class ValidationTable:
    """`[validation]`: samples drawn while training."""

    samples: list[ValidationSample] = key(factory=list, help="what to draw")
    negative_prompt: str = key(NEGATIVE_PROMPT, help="what samples are led away from")
    video_dims: tuple[int, int, int] = key(
        (960, 544, 89), help="width, height and frames", unit="pixels, pixels, frames", at_least=1, at_most=10**6
    )
    frame_rate: float = key(24.0, help="of what is drawn", unit="frames per second", at_least=0.1, at_most=1000)
    seed: int = key(42, help="of the samples' noise", at_least=0)
    inference_steps: int = key(30, help="Euler steps", unit="steps", at_least=2, at_most=10_000)
    interval: int = key(100, help="draw every so many steps; 0: never", unit="steps", at_least=0)
    video_cfg_scale: float = key(3.0, help="how strongly the picture follows the prompt; 1: no guidance", at_least=1, at_most=1000)
    audio_cfg_scale: float = key(7.0, help="how strongly the sound follows the prompt; 1: no guidance", at_least=1, at_most=1000)
    video_stg_scale: float = key(
        1.0, help="how far the picture is led away from what blocks without attention draw; 0: not", at_least=0, at_most=1000
    )
    audio_stg_scale: float = key(
        1.0, help="how far the sound is led away from what blocks without attention draw; 0: not", at_least=0, at_most=1000
    )
    stg_blocks: list[int] = key(factory=lambda: [28], help="blocks that lose their self-attention for that; an empty list: all", at_least=0)
    guidance_rescale: float = key(0.7, help="how much of the contrast that guidance adds is taken back", at_least=0, at_most=1)
    video_modality_guidance_scale: float = key(
        3.0, help="how strongly the picture follows the sound; 1: no guidance", at_least=1, at_most=1000
    )
    audio_modality_guidance_scale: float = key(
        3.0, help="how strongly the sound follows the picture; 1: no guidance", at_least=1, at_most=1000
    )
    generate_audio: bool | None = key(None, help="draw sound; by default where sound is trained")
    generate_video: bool | None = key(None, help="draw a picture; by default where the picture is trained")
    skip_initial_validation: bool = key(False, help="draw nothing before the first step")

    def problems(self) -> list[Finding]:
        if self.samples and self.generate_audio is False and self.generate_video is False:
            return [((), "generates neither audio nor video", "Set generate_audio or generate_video to true, or remove the samples.")]
        return []
