"""The strategy "video_to_video" of older run files: it generates video with a reference video, and sometimes gives the
first frame.
"""

import attrs

from ltxcore.api import Flexible, Setting, Strategy, VideoTable, hookimpl, notice

REPLACEMENT = """The strategy "video_to_video" is deprecated. Write instead:

[training_strategy]
name = "flexible"

[training_strategy.video]
is_generated = true
latents_dir = "latents"
{marker}conditions = [
  {{ type = "reference", latents_dir = {reference_latents_dir} }},
  {{ type = "first_frame", probability = {probability} }},
]
"""


@attrs.frozen
class VideoToVideo:
    """Deprecated name for the flexible strategy that generates video from a reference video, with a given first frame in some samples."""

    deprecated = True

    first_frame_conditioning_p: float = attrs.field(
        default=0.1,
        validator=[attrs.validators.ge(0.0), attrs.validators.le(1.0)],
        metadata={"help": "share of the samples whose first latent frame is given"},
    )
    reference_latents_dir: str = attrs.field(default="reference_latents", metadata={"help": "folder of the reference latents"})
    mark_first_frame: bool = attrs.field(default=True, metadata={"help": "pass the first-frame marker to models that have one (LTX-2.5)"})

    def replacement(self) -> str:
        """Return the tables that replace this strategy in a run file."""
        from ltxcore.api.config import value_text

        return REPLACEMENT.format(
            probability=float(self.first_frame_conditioning_p),
            reference_latents_dir=value_text(self.reference_latents_dir),
            marker="" if self.mark_first_frame else "mark_first_frame = false\n",
        )

    def build(self, setting: Setting) -> Strategy:
        """Build the flexible strategy, and warn once that this name is deprecated."""
        notice(self.replacement())
        conditions = [
            setting.condition("reference", sources={"reference": self.reference_latents_dir}),
            setting.condition("first_frame", probability=self.first_frame_conditioning_p),
        ]
        return Flexible(
            video=VideoTable(is_generated=True, latents_dir="latents", conditions=conditions, mark_first_frame=self.mark_first_frame)
        ).build(setting)


@hookimpl
def ltx_strategies() -> dict[str, type]:
    return {"video_to_video": VideoToVideo}
