# ruff: noqa: RUF009 (`key` makes an attrs field, not a shared default)
"""The table `[preprocessing]` of the run file, whose keys are also the options of commands that take a dataset."""

from __future__ import annotations

from typing import Any, Literal

import attrs

from ltxcore.config.colors import REMEDY, parse_color
from ltxcore.config.tables import Finding, filled, key

MOST_PIXELS, MOST_FRAMES = 65_536, 1_000_000
"""The most pixels along a side, and the most frames of a clip: far more than any model generates."""

OF_SOURCES = ("prefer", "caption_from")
"""The keys that are those of sources, for every source that has one of the same name."""


@attrs.frozen(kw_only=True)
class PreprocessingTable:
    """`[preprocessing]`: how raw media are encoded on first use; the options of `ltx preprocess`."""

    resolution_buckets: str | None = key(None, help='sizes that clips are resized and cut to: "WxHxF;WxHxF"', unit="pixels, pixels, frames")
    audio_durations: list[float] = key(
        factory=list, help="lengths that audio without video is cut to", unit="seconds", above=0, at_most=86_400
    )
    video_column: str | None = key(None, help="column of the clip; by default `video` or `media_path`")
    audio_column: str | None = key(None, help="column of the audio; by default `audio`, or the clip's own audio if there is no such column")
    caption_column: str | None = key(None, help="column of the caption; by default `caption`")
    reference_video_column: str | None = key(None, help="column of the reference clip; by default `reference_video` or `ref_media_path`")
    reference_audio_column: str | None = key(None, help="column of the reference audio; by default `reference_audio`")
    video_mask_column: str | None = key(None, help="column of the video mask; by default `video_mask`")
    audio_mask_column: str | None = key(None, help="column of the audio mask; by default `audio_mask`")
    source: str | None = key(None, help="name of the registered source that reads the dataset; by default the one that recognizes its path")
    source_params: dict[str, Any] = key(factory=dict, help="the parameters that the source takes")
    prefer: Literal["video", "image"] | None = key(
        None, help="which to use if a folder has a clip and an image of the same name (Live Photos); by default that is an error"
    )
    caption_from: Literal["folder"] | None = key(
        None,
        help='the caption of files in a folder that have no text file: "folder" uses the name of their folder, without a leading number '
        '("10_red car"); by default such files are an error',
    )
    lora_trigger: str | None = key(None, help="trigger word put before every caption")
    remove_llm_prefixes: bool = key(False, help='remove phrases with which language models begin captions, such as "The video shows"')
    reference_downscale_factor: int = key(1, help="reference clips are this many times smaller", at_least=1, at_most=1024)
    reference_temporal_scale_factor: int = key(1, help="reference clips have this many times fewer frames", at_least=1, at_most=1024)
    connector_outputs: bool = key(
        False,
        help="store the outputs of the model's text connectors instead of their inputs: training then does not need the connectors, "
        "but the files are larger, since they hold all positions",
    )
    hdr: Literal["bt709", "keep"] = key(
        "bt709",
        help='HDR video and images (HLG, PQ): "bt709" converts them, "keep" uses their values as they are, which makes them look flat and pale',
    )
    skip_audio: bool = key(False, help="ignore the audio of clips")
    variable_rate: Literal["keep", "resample"] = key(
        "keep",
        help='clips with a variable frame rate: "keep" treats all their frames as equally long, "resample" converts them to the '
        "rate that most of their frames have",
    )
    alpha_color: str = key("#000000", help='background of transparent images and clips: "#RRGGBB", black, white or gray')
    on_error: Literal["stop", "skip"] = key(
        "stop",
        help='what to do about a file that cannot be used: "skip" leaves it out, but keeps the video of a clip that only lacks audio',
    )
    batch_size: int = key(1, help="number of captions encoded at a time; clips and audio are encoded one by one", at_least=1, at_most=10**6)
    registry: Any = filled()
    reader: Any = filled()

    def problems(self) -> list[Finding]:
        color: list[Finding] = (
            [] if parse_color(self.alpha_color) else [(("alpha_color",), f'"{self.alpha_color}" is not a colour', REMEDY)]
        )
        if self.resolution_buckets is None:
            return color
        parts = [part.strip() for part in self.resolution_buckets.split(";") if part.strip()]
        wrong = [part for part in parts if not _is_bucket(part)] if parts else [self.resolution_buckets]
        remedy = 'Write width x height x frames, such as "960x544x49"; separate several with ";".'
        return [*color, *((("resolution_buckets",), f'"{_short(part)}" is not a bucket', remedy) for part in wrong)]


def _is_bucket(text: str) -> bool:
    sizes = text.split("x")
    most = (MOST_PIXELS, MOST_PIXELS, MOST_FRAMES)
    return len(sizes) == 3 and all(_is_up_to(size.strip(), limit) for size, limit in zip(sizes, most, strict=True))


def _is_up_to(text: str, limit: int) -> bool:
    """Return whether text spells a number from 1 to a limit; a number with thousands of digits is not even read."""
    return text.isdecimal() and len(text) <= 2 * len(str(limit)) and 0 < int(text) <= limit


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
