"""`[validation]` in older words: lists of prompts, images and reference videos, and one scale for both modalities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ltxcore.config.reading import Reading, Unreadable
from ltxcore.config.render import document
from ltxcore.config.scalars import described
from ltxcore.logs import notice

LISTS = ("prompts", "images", "reference_videos")
REFERENCE = {"reference_downscale_factor": "downscale_factor", "include_reference_in_output": "include_in_output"}
STG_MODES = ("stg_av", "stg_v")
OLDER = (*LISTS, *REFERENCE, "guidance_scale", "stg_scale", "stg_mode")


def in_new_words(table: Any, reading: Reading) -> Any:
    """The same `[validation]` in the words of today; says once what to write instead. A table without older words is returned as it is.

    Mistakes in them are noted, each at its key.

    Source: reference-behaviour E.3.

    Raises:
        Unreadable: the older words cannot be read, or say what newer ones beside them say.
    """
    if not isinstance(table, dict) or not any(name in table for name in OLDER):
        return table
    before = len(reading.mistakes)
    found = {**_samples(table, reading), **_guidance(table, reading)}
    if len(reading.mistakes) > before:
        raise Unreadable
    older = [name for name in OLDER if name in table]
    notice(f"In [validation], {', '.join(older)} {'is' if len(older) == 1 else 'are'} deprecated. Write instead:\n\n{_spelled(found)}")
    return {name: value for name, value in table.items() if name not in OLDER} | found


def _spelled(found: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in found.items() if name != "samples"}
    samples = [f"[[validation.samples]]\n{document(sample)}" for sample in found.get("samples", [])]
    return "\n".join([*([document({"validation": rest})] if rest else []), *samples])


def _samples(table: Mapping[str, Any], reading: Reading) -> dict[str, Any]:
    """One sample for each prompt."""
    given = [name for name in (*LISTS, *REFERENCE) if name in table]
    if not given:
        return {}
    if table.get("samples"):
        for name in given:
            reading.note("says what samples say", "Keep samples.", below=(name,))
        return {}
    lists = {name: _texts(table[name], name, reading) for name in LISTS if name in table}
    prompts = lists.pop("prompts", None)
    if prompts is None:
        for name in given:
            if name != "prompts":
                reading.note("has no prompts to go with", "Write [[validation.samples]], each with a prompt.", below=(name,))
        return {}
    for name, texts in lists.items():
        if texts is not None and len(texts) != len(prompts):
            reading.note(f"has {len(texts)} entries for {len(prompts)} prompts", "Give each prompt one.", below=(name,))
            return {}
    reference = {new: table[old] for old, new in REFERENCE.items() if old in table}
    return {"samples": [_sample(prompt, index, lists, reference) for index, prompt in enumerate(prompts)]}


def _sample(prompt: str, index: int, lists: Mapping[str, list[str] | None], reference: Mapping[str, Any]) -> dict[str, Any]:
    conditions: list[dict[str, Any]] = []
    images, videos = lists.get("images"), lists.get("reference_videos")
    if images is not None:
        conditions.append({"type": "first_frame", "image_or_video": images[index]})
    if videos is not None:
        conditions.append({"type": "reference", "video": videos[index], **reference})
    return {"prompt": prompt} | ({"conditions": conditions} if conditions else {})


def _texts(value: Any, name: str, reading: Reading) -> list[str] | None:
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return value
    reading.note(f"must be a list of texts, not {described(value)}", below=(name,))
    return None


def _guidance(table: Mapping[str, Any], reading: Reading) -> dict[str, Any]:
    """`guidance_scale` is both scales of today; so is `stg_scale`, but of the picture alone where `stg_mode` is "stg_v"."""
    found: dict[str, Any] = {}
    if "guidance_scale" in table and not _mixed(table, ("guidance_scale",), "cfg", reading):
        found |= dict.fromkeys(("video_cfg_scale", "audio_cfg_scale"), table["guidance_scale"])
    older = [name for name in ("stg_scale", "stg_mode") if name in table]
    if older and not _mixed(table, older, "stg", reading):
        mode = table.get("stg_mode", STG_MODES[0])
        if mode not in STG_MODES:
            reading.note(f'there is no mode "{mode}"', f"Choose one: {', '.join(STG_MODES)}.", below=("stg_mode",))
            return found
        scale = table.get("stg_scale", 1.0)
        found |= {"video_stg_scale": scale, "audio_stg_scale": 0.0 if mode == "stg_v" else scale}
    return found


def _mixed(table: Mapping[str, Any], older: tuple[str, ...] | list[str], kind: str, reading: Reading) -> bool:
    """Whether newer words for the same are there too, which is a mistake."""
    newer = [name for name in (f"video_{kind}_scale", f"audio_{kind}_scale") if name in table]
    for name in older if newer else ():
        reading.note(f"says what {' and '.join(newer)} say{'s' if len(newer) == 1 else ''}", f"Keep {' and '.join(newer)}.", below=(name,))
    return bool(newer)
