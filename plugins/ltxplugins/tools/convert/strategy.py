"""Convert `training_strategy`: the flexible strategy key by key, and the two older strategies to their equivalents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ltxcore.api import MODALITIES
from ltxcore.api.config import suggestion
from ltxplugins.tools.convert.kinds import Kind, choice, many, number, text, truth, whole
from ltxplugins.tools.convert.reading import UNSET, Old
from ltxplugins.tools.convert.toml import RunText, Section

CONDITIONS: Mapping[str, Mapping[str, Kind]] = {
    "first_frame": {},
    "prefix": {"temporal_boundary": whole},
    "suffix": {"temporal_boundary": whole},
    "spatial_crop": {"spatial_region": many(whole, 4)},
    "mask": {"mask_dir": text},
    "reference": {"latents_dir": text},
}
"""The keys of each condition besides `type` and `probability`, all of which are required."""

NAMES = ("flexible", "text_to_video", "video_to_video")
LEGACY = "The first frame of a one-frame clip is never given, so that an image trains as an image; ltx-trainer did the same."


def convert_strategy(root: Old, run: RunText) -> frozenset[str]:
    """Write `[training_strategy]`, and return the modalities that are generated."""
    table = run.table("training_strategy")
    old = root.inner("training_strategy")
    name = UNSET if old is None else old.get("name", choice(*NAMES))
    table.set("name", "flexible")
    if old is None or (name is UNSET and "name" not in old.table.values):
        root.log.remark(
            table, root.table.line, 'the strategy had no name, which meant "text_to_video"; it is written as the flexible strategy here.'
        )
        name = "text_to_video"
    if old is None:
        _text_to_video(None, run)
        return frozenset({"video"})
    if name == "flexible":
        generated = frozenset(modality for modality in MODALITIES if _modality(old, modality, run))
    elif name == "video_to_video":
        generated = _video_to_video(old, run)
    elif name == "text_to_video":
        generated = _text_to_video(old, run)
    else:  # an unknown name, which is already in the log
        return frozenset()
    old.finish(table)
    return generated


def _modality(strategy: Old, modality: str, run: RunText) -> bool:
    """Write `[training_strategy.MODALITY]`, and return whether it is generated."""
    old = strategy.inner(modality)
    if old is None:
        return False
    section = run.table(f"training_strategy.{modality}")
    is_generated = old.get("is_generated", truth, required=True)
    section.set("is_generated", bool(is_generated is True))
    section.set("latents_dir", old.get("latents_dir", text, required=True))
    conditions = [_condition(each, section, frozen=is_generated is False, modality=modality) for each in old.several("conditions")]
    written = [each for each in conditions if each is not None]
    if written:
        section.set("conditions", written)
    old.finish(section)
    return is_generated is True


def _condition(old: Old, section: Section, *, frozen: bool, modality: str) -> dict[str, Any] | None:
    """Return a condition as a table; None if it has no meaning for this modality."""
    kind = old.get("type", text, required=True)
    if kind is UNSET:
        return None
    if kind not in CONDITIONS:
        old.log.problem(old.line("type"), old.at("type"), f'there is no condition "{kind}"', suggestion(kind, CONDITIONS))
        return None
    found: dict[str, Any] = {"type": kind}
    for name, read in CONDITIONS[kind].items():
        found[name] = old.get(name, read, required=True)
    probability = old.get("probability", number)
    if probability is not UNSET:
        found["probability"] = probability
    old.finish(section)
    if frozen and kind != "reference":
        old.log.remark(
            section,
            old.table.line,
            f'{old.key}: "{kind}" is not converted: it makes no sense on frozen {modality}, and had no effect in ltx-trainer.',
        )
        return None
    return found


def _text_to_video(old: Old | None, run: RunText) -> frozenset[str]:
    """Write a strategy that generates video from text and sometimes gives the first frame; if it also generates audio,
    both get the same noise level.
    """
    probability = UNSET if old is None else old.get("first_frame_conditioning_p", number)
    with_audio = old is not None and old.get("with_audio", truth) is True
    folder = UNSET if old is None else old.get("audio_latents_dir", text)
    _video(run, [_first_frame(probability)])
    if not with_audio:
        return frozenset({"video"})
    audio = run.table("training_strategy.audio")
    audio.set("is_generated", True)
    audio.set("latents_dir", "audio_latents" if folder is UNSET else folder)
    run.table("flow_matching").set("shared_sigma", True, '"text_to_video" added the same amount of noise to audio and video.')
    return frozenset(MODALITIES)


def _video_to_video(old: Old, run: RunText) -> frozenset[str]:
    """Write a strategy that generates video with a reference and sometimes gives the first frame."""
    probability = old.get("first_frame_conditioning_p", number)
    folder = old.get("reference_latents_dir", text)
    reference = {"type": "reference", "latents_dir": "reference_latents" if folder is UNSET else folder}
    _video(run, [reference, _first_frame(probability)])
    return frozenset({"video"})


def _video(run: RunText, conditions: list[dict[str, Any]]) -> None:
    section = run.table("training_strategy.video")
    section.set("is_generated", True)
    section.set("latents_dir", "latents")
    section.set("conditions", conditions, LEGACY)


def _first_frame(probability: Any) -> dict[str, Any]:
    return {"type": "first_frame", "probability": 0.1 if probability is UNSET else probability}
