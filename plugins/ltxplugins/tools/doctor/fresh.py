"""The check that encoded samples of a dataset were made from the files that the dataset names now."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING

from ltxplugins.tools.doctor.findings import Finding, warning

if TYPE_CHECKING:
    from ltxcore.api.dataset import Survey

MADE_OF = {
    "conditions": "another caption",
    "latents": "another clip, or for another size,",
    "audio_latents": "another sound, or for another length,",
    "reference_latents": "another reference, or for another size,",
    "reference_audio_latents": "another reference, or for another length,",
    "video_masks": "another mask, or for another size,",
    "audio_masks": "another mask, or for another length,",
}


def examine_fresh(found: Survey, folders: Collection[str], step: Callable[[], None]) -> Iterator[Finding]:
    """Compare each encoded file with what would be encoded now.

    Args:
        found: the dataset.
        folders: the folders to examine.
        step: called after each sample.
    """
    from ltxcore.api.dataset import stale

    for each in stale(found, folders, step):
        if each.since:
            what = f'"{each.sample.name}" was encoded by an older version, which read its files differently: now, {each.since}'
            remedy = "`ltx preprocess`, or a new run that names the dataset, encodes it again. An unfinished run keeps it."
        else:
            other = "another encoder" if each.made_otherwise else MADE_OF[each.folder]
            what = f"{each.path} was made with {other} than the dataset and its options name now"
            remedy = "`ltx preprocess`, or a run that names the dataset, encodes it again; a run that names only the encoded set trains on the old one."
        yield warning("stale", each.sample.where, what, remedy)
