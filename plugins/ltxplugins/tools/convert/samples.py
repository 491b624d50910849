"""Convert `validation.samples`, which lists samples to generate with the media of their conditions, and the lists that
older configurations have instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ltxcore.api.config import suggestion
from ltxplugins.tools.convert.kinds import Kind, many, number, path, text, truth, whole
from ltxplugins.tools.convert.reading import UNSET, Old
from ltxplugins.tools.convert.toml import RunText, Section

EITHER = ("video", "audio")

CONDITIONS: Mapping[str, Mapping[str, Kind]] = {
    "first_frame": {"image_or_video": path},
    "prefix": {"video": path, "audio": path, "num_frames": whole, "duration": number},
    "suffix": {"video": path, "audio": path, "num_frames": whole, "duration": number},
    "spatial_crop": {"video": path, "spatial_region": many(whole, 4)},
    "mask": {"video": path, "audio": path, "mask": path},
    "reference": {"video": path, "audio": path, "downscale_factor": whole, "temporal_scale_factor": whole, "include_in_output": truth},
    "video_to_audio": {"video": path},
    "audio_to_video": {"audio": path},
}
"""The keys of each condition in a sample, besides `type`."""

REQUIRED: Mapping[str, tuple[str, ...]] = {
    "first_frame": ("image_or_video",),
    "spatial_crop": ("video", "spatial_region"),
    "mask": ("mask",),
    "video_to_audio": ("video",),
    "audio_to_video": ("audio",),
}

UNREAD: Mapping[str, tuple[str, ...]] = {
    "video": ("duration",),
    "audio": ("num_frames", "downscale_factor", "temporal_scale_factor", "include_in_output"),
}
"""The keys that were allowed beside the medium of a modality but had no effect."""


def convert_samples(old: Old, run: RunText) -> None:
    """Write `[[validation.samples]]`, from `samples` or, if there are none, from the older lists."""
    samples = old.several("samples")
    for sample in samples:
        _sample(sample, run.sample())
    _older(old, run, used=not samples)


def _sample(old: Old, section: Section) -> None:
    prompt = old.get("prompt", text, required=True)
    section.set("prompt", "" if prompt is UNSET else prompt)
    dims = old.get("video_dims", many(whole, 3), null=UNSET)
    if dims is not UNSET:
        section.set("video_dims", dims)
    seed = old.get("seed", whole, null=UNSET)
    if seed is not UNSET:
        section.set("seed", seed, "ltx-trainer treated 0 as not set, and used validation.seed." if seed == 0 else "")
    written = [found for each in old.several("conditions") if (found := _condition(each, section)) is not None]
    if written:
        section.set("conditions", written)
    old.finish(section)


def _condition(old: Old, section: Section) -> dict[str, Any] | None:
    """Return a condition as a table; None if it cannot be read."""
    kind = old.get("type", text, required=True)
    if kind is UNSET:
        return None
    if kind not in CONDITIONS:
        old.log.problem(old.line("type"), old.at("type"), f'there is no condition "{kind}"', suggestion(kind, CONDITIONS))
        return None
    found: dict[str, Any] = {"type": kind}
    for name, read in CONDITIONS[kind].items():
        value = old.get(name, read, null=UNSET, required=name in REQUIRED.get(kind, ()))
        if value is not UNSET:
            found[name] = old.log.moved(value) if isinstance(value, Path) else value
    _refuse_both(old, kind, found)
    for name in [name for medium in EITHER if medium in found for name in UNREAD[medium] if name in found]:
        medium = "video" if "video" in found else "audio"
        found.pop(name)
        old.log.remark(
            section, old.line(name), f"{old.at(name)} is not converted: it does not apply to {medium}, and had no effect in ltx-trainer."
        )
    old.finish(section)
    return found


def _refuse_both(old: Old, kind: str, found: Mapping[str, Any]) -> None:
    """Refuse a condition that takes either video or audio but names both or neither."""
    if set(EITHER) <= CONDITIONS[kind].keys() and sum(name in found for name in EITHER) != 1 and not _wrong(old):
        fault = "names both video and audio" if "video" in found else "names neither video nor audio"
        old.log.problem(old.table.line, old.key, fault, "Name only one of the two.")


def _wrong(old: Old) -> bool:
    """Return whether the value for a medium is wrong, in which case the log already has the mistake."""
    return any(problem.where.endswith(f": {old.at(name)}") for _, problem in old.log.problems for name in EITHER)


# ---- older lists


def _older(old: Old, run: RunText, *, used: bool) -> None:
    """Write one sample for each prompt of the older lists `prompts`, `images` and `reference_videos`."""
    section = run.table("validation")
    prompts = old.get("prompts", many(text), null=UNSET)
    images = old.get("images", many(path), null=UNSET)
    references = old.get("reference_videos", many(path), null=UNSET)
    factor = old.get("reference_downscale_factor", whole)
    shown = old.get("include_reference_in_output", truth)
    given = [name for name in ("prompts", "images", "reference_videos") if old.has(name)]
    if not used or prompts is UNSET or not prompts:
        for name in given:
            reason = "samples took precedence over it" if not used else "there are no prompts for it"
            old.log.remark(section, old.line(name), f"{old.at(name)} is not converted: {reason}.")
        return
    for name, paths in (("images", images), ("reference_videos", references)):
        if paths is not UNSET and len(paths) != len(prompts):
            old.log.problem(
                old.line(name),
                old.at(name),
                f"has {len(paths)} {'entry' if len(paths) == 1 else 'entries'} for {len(prompts)} prompt{'s' * (len(prompts) != 1)}",
            )
            return
    for index, prompt in enumerate(prompts):
        sample = run.sample()
        sample.set("prompt", prompt)
        conditions: list[dict[str, Any]] = []
        if images is not UNSET:
            conditions.append({"type": "first_frame", "image_or_video": old.log.moved(images[index])})
        if references is not UNSET:
            extra = {"downscale_factor": factor, "include_in_output": shown}
            chosen = {name: value for name, value in extra.items() if value is not UNSET}
            conditions.append({"type": "reference", "video": old.log.moved(references[index]), **chosen})
        if conditions:
            sample.set("conditions", conditions)
