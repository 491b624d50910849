"""The strategy "text_to_video" of older run files: it generates video and optionally audio, and sometimes gives the
first video frame.
"""

import attrs

from ltxcore.api import Flexible, ModalityTable, Setting, Strategy, VideoTable, hookimpl, notice

REPLACEMENT = """The strategy "text_to_video" is deprecated. Write instead:

[training_strategy]
name = "flexible"

[training_strategy.video]
is_generated = true
latents_dir = "latents"
{marker}conditions = [{{ type = "first_frame", probability = {probability} }}]
"""

WITH_AUDIO = """
[training_strategy.audio]
is_generated = true
latents_dir = {audio_latents_dir}

[flow_matching]
shared_sigma = true
"""


@attrs.frozen
class TextToVideo:
    """Deprecated name for the flexible strategy that generates video, or video and audio, from text, with a given first frame in some
    samples.
    """

    deprecated = True

    first_frame_conditioning_p: float = attrs.field(
        default=0.1,
        validator=[attrs.validators.ge(0.0), attrs.validators.le(1.0)],
        metadata={"help": "share of the samples whose first latent frame is given"},
    )
    with_audio: bool = attrs.field(default=False, metadata={"help": "generate audio too"})
    audio_latents_dir: str = attrs.field(default="audio_latents", metadata={"help": "folder of the audio latents"})
    mark_first_frame: bool = attrs.field(default=True, metadata={"help": "pass the first-frame marker to models that have one (LTX-2.5)"})

    def replacement(self) -> str:
        """Return the tables that replace this strategy in a run file."""
        from ltxcore.api.config import value_text

        marker = "" if self.mark_first_frame else "mark_first_frame = false\n"
        text = REPLACEMENT.format(probability=float(self.first_frame_conditioning_p), marker=marker)
        return text + (WITH_AUDIO.format(audio_latents_dir=value_text(self.audio_latents_dir)) if self.with_audio else "")

    def build(self, setting: Setting) -> Strategy:
        """Build the flexible strategy, and warn once that this name is deprecated."""
        notice(self.replacement())
        conditions = [setting.condition("first_frame", probability=self.first_frame_conditioning_p)]
        tables = Flexible(
            video=VideoTable(is_generated=True, latents_dir="latents", conditions=conditions, mark_first_frame=self.mark_first_frame),
            audio=ModalityTable(is_generated=True, latents_dir=self.audio_latents_dir) if self.with_audio else None,
        )
        return tables.build(attrs.evolve(setting, shared_sigma=setting.shared_sigma or self.with_audio))


@hookimpl
def ltx_strategies() -> dict[str, type]:
    return {"text_to_video": TextToVideo}
