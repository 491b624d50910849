"""The columns of datasets with data that accompany a clip or audio: references, which the VAEs encode, and masks.

The core itself encodes what a sample consists of: its clip, its audio and its caption.
"""

import attrs

from ltxcore.api import hookimpl


@attrs.frozen
class ReferenceVideo:
    """A clip that the target is generated from, encoded as latents of the target's size or a fraction of it."""

    kind = "latents"
    modality = "video"
    folder = "reference_latents"
    names = ("reference_video", "ref_media_path")
    borrowed = (("reference_path", "control_path", "control_video", "conditioning_image"),)


@attrs.frozen
class ReferenceAudio:
    """Audio that the target is generated from, encoded as latents."""

    kind = "latents"
    modality = "audio"
    folder = "reference_audio_latents"


@attrs.frozen
class VideoMask:
    """The part of a clip that is given: an image, a clip, or one value for each latent cell."""

    kind = "mask"
    modality = "video"
    folder = "video_masks"
    borrowed = (("mask", "mask_path"),)


@attrs.frozen
class AudioMask:
    """The part of audio that is given: audio whose amplitude marks this part, or one value for each latent step."""

    kind = "mask"
    modality = "audio"
    folder = "audio_masks"


@hookimpl
def ltx_columns() -> dict[str, type]:
    return {"reference_video": ReferenceVideo, "reference_audio": ReferenceAudio, "video_mask": VideoMask, "audio_mask": AudioMask}
