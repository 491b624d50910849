"""Checks for masks whose size differs from that of their sample, or that have one value everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from ltxcore.api import DataError
from ltxplugins.tools.doctor.findings import Finding, errors, warning

if TYPE_CHECKING:
    from torch import Tensor

    from ltxcore.api.dataset import Planned, Survey


def examine_masks(planned: Planned, found: Survey) -> Iterator[Finding]:
    """Find what is wrong with the masks of a sample; they are made in the same way as by preprocessing.

    Args:
        planned: the sample.
        found: the dataset of the sample.
    """
    sample = planned.sample
    for folder, role in (("video_masks", "video_mask"), ("audio_masks", "audio_mask")):
        if folder not in planned.folders:
            continue
        where = sample.at(sample.media[role])
        try:
            mask = found.mask(planned, folder)
        except DataError as error:
            yield from errors("mask", [attrs.evolve(problem, where=where) for problem in error.problems])
        else:
            yield from one_value(where, mask)


def one_value(where: str, mask: Tensor) -> Iterator[Finding]:
    """Warn about a mask, of any shape, that does not tell one part of its sample from another."""
    low, high = float(mask.min()), float(mask.max())
    if low != high:
        return
    effect = {0.0: "nothing is given", 1.0: "everything is given, and nothing is left to learn"}.get(
        low, "every cell is given by the same amount"
    )
    yield warning(
        "mask",
        where,
        f"has the value {low:g} everywhere: {effect}",
        "White (or amplitude 1) is given, black (or silence) is generated; use both, or leave the row out.",
    )
