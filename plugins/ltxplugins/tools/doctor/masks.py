"""Check for masks that differ in size from their sample, and for masks with the same value everywhere."""

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
    """Find what is wrong with the masks of a sample. The masks are made in the same way as in preprocessing.

    Args:
        planned: the sample.
        found: the dataset of the sample.
    """
    sample = planned.sample
    for column in found.encoding.data.columns.all:
        folder, role = column.folder, column.role
        if folder not in planned.folders or column.kind != "mask" or not column.has_media:
            continue
        where = sample.at(sample.media[role])
        try:
            mask = found.mask(planned, folder)
        except DataError as error:
            yield from errors("mask", [attrs.evolve(problem, where=where) for problem in error.problems])
        else:
            yield from one_value(where, mask)


def examine_cells(planned: Planned, found: Survey) -> Iterator[Finding]:
    """Find what is wrong with those cells of a sample that plugins encode. The cells are encoded in the same way as in
    preprocessing. Cells that go with audio are not examined, because the length of audio is not known before it is
    encoded.

    Args:
        planned: the sample.
        found: the dataset of the sample.
    """
    for column in found.encoding.data.columns.all:
        if column.folder in planned.folders and column.is_data and column.modality == "video":
            try:
                found.values(planned, column.folder)
            except DataError as error:
                yield from errors("cell", error.problems)


def one_value(where: str, mask: Tensor) -> Iterator[Finding]:
    """Warn about a mask, of any shape, that has the same value in every part of its sample."""
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
