# ruff: noqa: RUF009 (`key` makes an attrs field, not a shared default)
"""The table `[preprocessing]` of the run file, whose keys are also the options of commands that take a dataset."""

from __future__ import annotations

import re
from typing import Any, Literal

import attrs

from ltxcore.config.caption_parts import parts_of
from ltxcore.config.colors import REMEDY, parse_color
from ltxcore.config.image_crf import image_crf_key
from ltxcore.config.tables import Finding, filled, key

MOST_PIXELS, MOST_FRAMES = 65_536, 1_000_000
"""The maximum number of pixels along a side, and the maximum number of frames of a clip: far more than any model generates."""

WINDOWS = re.compile(r"first|(?:uniform|stride):[1-9][0-9]{0,5}")
"""A pattern for the key `windows`."""

AUTO = re.compile(r"auto(?::([1-9][0-9]{0,8}))?")
"""A pattern for buckets that are chosen for the clips, with the largest number of tokens of a clip."""

MOST_TOKENS = 16_384
"""The largest number of latent cells in a clip of a proposed bucket, unless the user names another one; LTX-2 could take more."""

OF_SOURCES = ("prefer", "caption_from")
"""The keys that are passed on to the source, each only if the source has a key of the same name."""


@attrs.frozen(kw_only=True)
class PreprocessingTable:
    """`[preprocessing]`: how raw media are encoded on first use, with the same keys as the options of `ltx preprocess`."""

    resolution_buckets: str | None = key(
        None,
        help='sizes that clips are resized and cut to: "WxHxF;WxHxF"; "auto" chooses them for the clips, with at most '
        f'{MOST_TOKENS:,} latent cells each, "auto:8000" with at most 8,000',
        unit="pixels, pixels, frames",
    )
    windows: str = key(
        "first",
        help='the parts of a clip that become samples, each as long as its bucket: "first" is its beginning; "uniform:N" are N parts, '
        'evenly spread from its beginning to its end; "stride:S" are parts that begin S frames apart',
    )
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
    columns: dict[str, Any] = key(
        factory=dict,
        help="a table for each registered column, by its name: the dataset's column to read (`column`), and the registered column's parameters; "
        "a table with another name and a `type` adds a column like the registered one that `type` names, such as a second reference, which is "
        "encoded to a folder of the table's name",
    )
    prefer: Literal["video", "image"] | None = key(
        None,
        help="whether to use the clip or the image if a folder has both under the same name (Live Photos); by default this is an error",
    )
    caption_from: Literal["folder"] | None = key(
        None,
        help='in a folder of media, the caption of a file without a text file: "folder" uses the name of the folder that the file is in, '
        'without a leading number ("10_red car"); by default such a file is an error',
    )
    caption_parts: str | None = key(
        None,
        help='columns whose texts are joined to the caption, separated by ";", each alone or in braces between other words: '
        '"picture;[SOUND] {sound}"; empty texts are left out',
    )
    caption_separator: str | None = key(
        None,
        help='what separates several captions of a clip in one text, such as "|"; "blank-line" is a blank line. One caption is drawn in each '
        "pass over the data",
    )
    lora_trigger: str | None = key(None, help="trigger word put before every caption")
    caption_prefix: str | None = key(None, help="text put before every caption, after the trigger word")
    remove_llm_prefixes: bool = key(False, help='remove phrases that language models begin captions with, such as "The video shows"')
    reference_downscale_factor: int = key(1, help="reference clips are this many times smaller", at_least=1, at_most=1024)
    reference_temporal_scale_factor: int = key(1, help="reference clips have this many times fewer frames", at_least=1, at_most=1024)
    keyframe_candidates: int | None = key(
        None,
        help="number of frames of each clip that are also encoded as images, for the condition keyframes: the first, the last, and others "
        "in between; by default 4 if a run reads them, and otherwise none",
        at_least=1,
        at_most=1024,
    )
    image_crf: int | None = image_crf_key("keyframes")
    connector_outputs: bool = key(
        False,
        help="store the outputs of the model's text connectors instead of their inputs: training then does not need the connectors, "
        "but the files are larger, since they hold all positions",
    )
    hdr: Literal["bt709", "keep"] = key(
        "bt709",
        help='HDR video and images (HLG, PQ): "bt709" converts them, "keep" uses their values unchanged, which makes them look flat and pale',
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
    vae_tiling: bool = key(
        False,
        help="VAE tiling: encode clips in tiles of 512 x 512 pixels, which takes less memory. The latents differ slightly, so clips that "
        "were encoded with the other setting are encoded again",
    )
    batch_size: int = key(
        1,
        help="number of captions encoded at a time; on a GPU, 8 are faster. Clips and audio are encoded one by one",
        at_least=1,
        at_most=10**6,
    )
    registry: Any = filled()
    reader: Any = filled()
    encoders: Any = filled()
    may_lack: Any = filled(frozenset())

    @property
    def bucket_tokens(self) -> int | None:
        """The largest number of tokens of a clip, if buckets are chosen for the clips; None if they are not."""
        found = AUTO.fullmatch(self.resolution_buckets or "")
        return None if found is None else int(found[1] or MOST_TOKENS)

    @property
    def named_buckets(self) -> str | None:
        """The buckets that the user names; None if there are none, or if they are chosen for the clips."""
        return self.resolution_buckets if self.bucket_tokens is None else None

    def problems(self) -> list[Finding]:
        color: list[Finding] = (
            [] if parse_color(self.alpha_color) else [(("alpha_color",), f'"{self.alpha_color}" is not a colour', REMEDY)]
        )
        findings = [*color, *self.window_problems(), *self.caption_problems()]
        named = self.named_buckets
        if named is None:
            return findings
        parts = [part.strip() for part in named.split(";") if part.strip()]
        wrong = [part for part in parts if not _is_bucket(part)] if parts else [named]
        remedy = 'Write width x height x frames, such as "960x544x49"; separate several buckets with ";".'
        return [*findings, *((("resolution_buckets",), f'"{_short(part)}" is not a bucket', remedy) for part in wrong)]

    def caption_problems(self) -> list[Finding]:
        """Return what is wrong with the parts of captions and with what separates captions."""
        findings: list[Finding] = []
        if self.caption_parts is not None:
            try:
                parts_of(self.caption_parts)
            except ValueError as error:
                remedy = 'Separate the columns with ";", and write words only around a column in braces: "picture;[SOUND] {sound}".'
                findings.append((("caption_parts",), f'"{_short(str(error))}" does not name exactly one column', remedy))
        if self.caption_separator is not None and not self.caption_separator.strip():
            remedy = 'Write a character that no caption contains, such as "|", or "blank-line".'
            findings.append((("caption_separator",), "separates nothing, since it is only space", remedy))
        return findings

    def window_problems(self) -> list[Finding]:
        """Return what is wrong with the choice of windows."""
        if not WINDOWS.fullmatch(self.windows):
            what = f'"{_short(self.windows)}" is not a choice of windows'
            return [(("windows",), what, 'Write "first", "uniform:4" (4 windows of each clip) or "stride:24" (a window every 24 frames).')]
        if self.windows != "first" and self.resolution_buckets is None:
            remedy = 'Set resolution_buckets: their frames are the length of the windows. Or set windows = "first".'
            return [(("windows",), f'"{self.windows}" needs buckets, since without them each clip is used whole', remedy)]
        return []


def option_of(key: str) -> str:
    """Return the option for a key of `[preprocessing]`: `--skip-audio` for `skip_audio` or for `preprocessing.skip_audio`. A key of a table
    in `[preprocessing]` is written after the option of the table, as in `--columns video_mask.unit`.
    """
    name, _, inner = key.removeprefix("preprocessing.").partition(".")
    return f"--{name.replace('_', '-')} {inner}".rstrip()


def _is_bucket(text: str) -> bool:
    sizes = text.split("x")
    most = (MOST_PIXELS, MOST_PIXELS, MOST_FRAMES)
    return len(sizes) == 3 and all(_is_up_to(size.strip(), limit) for size, limit in zip(sizes, most, strict=True))


def _is_up_to(text: str, limit: int) -> bool:
    """Return whether text spells a number from 1 to a limit; a number with thousands of digits is not even read."""
    return text.isdecimal() and len(text) <= 2 * len(str(limit)) and 0 < int(text) <= limit


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
