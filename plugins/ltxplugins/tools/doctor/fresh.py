"""Check that the encoded samples of a dataset were made from the current files of the dataset."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING

from ltxplugins.tools.doctor.findings import Finding, warning

if TYPE_CHECKING:
    from ltxcore.api.dataset import Survey

MADE_OF = {
    "conditions": "a caption",
    "latents": "a clip or size",
    "audio_latents": "a sound or length",
    "reference_latents": "a reference or size",
    "reference_audio_latents": "a reference or length",
    "video_masks": "a mask or size",
    "audio_masks": "a mask or length",
}


def examine_fresh(found: Survey, folders: Collection[str], step: Callable[[], None]) -> Iterator[Finding]:
    """Compare each encoded file with the file that would be encoded now.

    Args:
        found: the dataset.
        folders: the folders to examine.
        step: a function that is called after each sample.
    """
    from ltxcore.api.dataset import stale

    for each in stale(found, folders, step):
        if each.since:
            what = f'"{each.sample.name}" was encoded by an older version, which read its files differently: now, {each.since}'
            remedy = "`ltx preprocess`, or a new run that names the dataset, encodes it again. An unfinished run keeps it."
        else:
            other = "an encoder" if each.made_otherwise else MADE_OF.get(each.folder, "a cell, size or parameter")
            what = f"{each.path} was made with {other} other than those that the dataset and its options name now"
            remedy = "`ltx preprocess`, or a run that names the dataset, encodes it again; a run that names only the encoded set trains on the old one."
        yield warning("stale", each.sample.where, what, remedy)
