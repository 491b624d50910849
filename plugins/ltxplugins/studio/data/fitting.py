"""What preprocessing would take of a clip: its bucket, and the part of the picture that fits it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from ltxcore.api import Problem
from ltxcore.api.dataset import PreprocessingTable, survey_dataset
from ltxplugins.studio.data.listing import Clip, Listing


@attrs.frozen
class Fit:
    """What preprocessing would take of a clip.

    Attributes:
        bucket: the bucket, such as "768x512x49"; "" if there is none.
        left, top, width, height: the part of the picture that is taken, from 0 to 1.
        problems: why the clip cannot be encoded.
    """

    bucket: str = ""
    left: float = 0.0
    top: float = 0.0
    width: float = 1.0
    height: float = 1.0
    problems: tuple[Problem, ...] = ()


class Fitting:
    """Fits single clips of a dataset to buckets. The rows are read once for a list and its buckets."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of: tuple[Listing, str] | None = None
        self._data: Any = None
        self._samples: dict[str, Any] = {}

    def __call__(self, listing: Listing, clip: Clip, buckets: str, size: tuple[int, int]) -> Fit:
        """Return what preprocessing would take of a clip.

        Args:
            listing: the list that the clip is in.
            clip: the clip.
            buckets: such as "768x512x49;512x768x49".
            size: the width and height of the clip's pictures.

        Raises:
            LtxError: the buckets cannot be used, or the dataset cannot be read.
        """
        from ltxcore.api.dataset import survey_media  # needs torch, for which the program does not wait at its start

        options = PreprocessingTable(resolution_buckets=buckets, on_error="skip")
        with self._lock:
            if self._of != (listing, buckets):
                data, _ = survey_dataset(listing.dataset.path, options)
                self._of, self._data, self._samples = (listing, buckets), data, {each.origin: each for each in data.samples}
            data, sample = self._data, self._samples.get(clip.name)
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
        return Fit(str(planned.size), (1 - share[0]) / 2, (1 - share[1]) / 2, *share, problems)


def _quiet(name: str, steps: int) -> Callable[[], None]:
    return lambda: None
