"""What preprocessing would take of a clip: its bucket, and the part of the picture that fits it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from ltxcore.api import DataError, Problem
from ltxcore.api.dataset import PreprocessingTable, survey_dataset
from ltxplugins.studio.data.listing import Clip, Listing

MOST_OPENED = 500
"""The maximum number of files that are opened to choose buckets for a dataset."""


@attrs.frozen
class Fit:
    """What preprocessing would take of a clip.

    Attributes:
        bucket: the bucket, such as "768x512x49"; "" if there is none.
        left, top, width, height: the part of the picture that is taken, from 0 to 1.
        problems: why the clip cannot be encoded.
        chosen: how the buckets were chosen, if the user left that to preprocessing.
    """

    bucket: str = ""
    left: float = 0.0
    top: float = 0.0
    width: float = 1.0
    height: float = 1.0
    problems: tuple[Problem, ...] = ()
    chosen: str = ""


class Fitting:
    """Fits single clips of a dataset to buckets. The rows are read once for a list and its buckets."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: tuple[object, str] | None = None
        self._data: Any = None
        self._samples: dict[str, Any] = {}
        self._buckets = self._chosen = ""

    def __call__(self, listing: Listing, clip: Clip, buckets: str, size: tuple[int, int]) -> Fit:
        """Return what preprocessing would take of a clip.

        Args:
            listing: the list that the clip is in.
            clip: the clip.
            buckets: the buckets, such as "768x512x49;512x768x49"; or "auto", with which preprocessing chooses them for the sizes of all clips.
            size: the width and height of the clip's pictures.

        Raises:
            LtxError: the buckets cannot be used, or the dataset cannot be read.
        """
        from ltxcore.api.dataset import survey_media  # needs torch, for which the program does not wait at its start

        with self._lock:
            if self._of != (listing.files, buckets):
                options = PreprocessingTable(resolution_buckets=buckets, on_error="skip")
                data, _ = survey_dataset(listing.dataset.path, options)
                if any(caption.is_empty for each in listing.clips for caption in each.captions):  # such clips have a bucket all the same
                    data, _ = survey_dataset(listing.dataset.path, options, data.folders - {"conditions"})
                self._buckets, self._chosen = (buckets, "") if options.bucket_tokens is None else _chosen(listing, data, options)
                self._data, self._samples = data, {each.origin: each for each in data.samples}
                self._of = (listing.files, buckets)
            data, sample = self._data, self._samples.get(clip.name)
            options, chosen = PreprocessingTable(resolution_buckets=self._buckets, on_error="skip"), self._chosen
        if sample is None:
            return Fit()
        found = survey_media(attrs.evolve(data, samples=(sample,)), Path("/nonexistent"), options, None, 1, _quiet)
        problems = tuple(attrs.evolve(problem, where="") for refused in found.refused for problem in refused.problems)
        planned = next((each for each in found.planned if each.bucket is not None), None)
        if planned is None:
            return Fit(problems=problems)
        width, height = size
        across, down = width * planned.size.height, height * planned.size.width
        share = (down / across, 1.0) if across > down else (1.0, across / down)
        return Fit(str(planned.size), (1 - share[0]) / 2, (1 - share[1]) / 2, *share, problems, chosen)


def _chosen(listing: Listing, data: Any, options: PreprocessingTable) -> tuple[str, str]:
    """Return the buckets that preprocessing would choose for a dataset, and how they were chosen.

    Raises:
        DataError: no buckets can be chosen, since no clip can be read.
    """
    from ltxcore.api.dataset import survey_media

    count = len(data.samples)
    some = data.samples[:: -(-count // MOST_OPENED) or 1]
    root = listing.root() or Path("/nonexistent")  # buckets that a set was encoded with are recorded there, and stay the same
    found = survey_media(attrs.evolve(data, samples=some), root, options, None, 2, _quiet)
    if found.chosen is None:
        raise DataError("buckets cannot be chosen, since no clip can be read", remedy="Name buckets, such as 768x512x49.")
    how = "auto" if len(some) == count else f"auto, judging by {len(some):,} of {count:,} clips"
    return ";".join(map(str, found.chosen.buckets)), how


def _quiet(name: str, steps: int) -> Callable[[], None]:
    return lambda: None
