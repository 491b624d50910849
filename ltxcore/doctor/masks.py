"""Masks: of another size than their sample, or of one value everywhere."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
from torch import Tensor

from ltxcore.doctor.findings import Finding, errors, warning
from ltxcore.encode.latent_masks import audio_mask
from ltxcore.encode.products import RECIPES, Tools
from ltxcore.encode.sample_sizes import STORED_MASKS, Planned
from ltxcore.encoded.store import read_mask
from ltxcore.errors import DataError
from ltxcore.media.probe import read_sound
from ltxcore.modalities.audio import AudioModality

STEPS_PER_SECOND = AudioModality().default_rate


def examine_masks(planned: Planned, tools: Tools, folders: frozenset[str]) -> Iterator[Finding]:
    """What is wrong with the masks of a sample; they are made as preprocessing makes them.

    Args:
        planned: the sample.
        tools: that samples are made with.
        folders: that are made.
    """
    media = planned.sample.media
    for folder, role in (("video_masks", "video_mask"), ("audio_masks", "audio_mask")):
        if folder not in folders:
            continue
        where = planned.sample.at(media[role])
        try:
            mask = RECIPES[folder](planned, tools, {}).make().tensors["mask"] if role == "video_mask" else _audio_mask(planned, tools)
        except DataError as error:
            yield from errors("mask", [attrs.evolve(problem, where=where) for problem in error.problems])
            continue
        yield from one_value(where, mask)


def _audio_mask(planned: Planned, tools: Tools) -> Tensor:
    """The mask of a sound by its own length, since that of the sound's latents is not known before they are made."""
    path = planned.sample.media["audio_mask"]
    if path.suffix.lower() in STORED_MASKS:
        return read_mask(path)
    sound = read_sound(path)
    scale = (4, 1, 1) if tools.audio is None else tools.audio.scale
    return audio_mask(sound.samples, sound.rate, max(1, int(sound.duration * STEPS_PER_SECOND)), scale)


def one_value(where: str, mask: Tensor) -> Iterator[Finding]:
    """A mask that does not tell one part of its sample from another; `mask` of any shape."""
    low, high = float(mask.min()), float(mask.max())
    if low != high:
        return
    effect = {0.0: "nothing is given", 1.0: "all is given, and nothing is left to learn"}.get(low, "all is given to the same part")
    yield warning(
        "mask",
        where,
        f"has the value {low:g} everywhere: {effect}",
        "White (or amplitude 1) is given, black (or silence) is generated; draw both, or leave the row out.",
    )
