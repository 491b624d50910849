"""The pace of encoding, measured on the first samples of a phase, from which the user is told once how long the others will take."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ltxcore.logs import inform

ROUNDS = 0.03
"""The share of the samples that the pace is measured on, if that is more than one round of the workers."""

LEAST = 10.0
"""The smallest number of seconds left that is worth telling."""


class Pace:
    """The pace of one phase of encoding; several threads may use one instance."""

    def __init__(self, name: str, total: int, workers: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin to measure.

        Args:
            name: the kind of data that is encoded, such as "captions".
            total: the number of samples to encode, without those that are up to date.
            workers: the number of samples that are worked on at a time.
            clock: a function that returns the present time in seconds.
        """
        self._name, self._total, self._clock, self._lock = name, total, clock, threading.Lock()
        # Reading weights takes part of the first round's time, so the pace is that of later rounds, unless there are too few of them.
        self._first = workers if total > 2 * workers else 0
        self._told = self._first + max(workers, round(ROUNDS * total))
        self._done, self._begun = 0, clock()

    def step(self) -> None:
        """Count a sample that was encoded, and tell how long the others will take as soon as this can be known."""
        with self._lock:
            self._done += 1
            if self._done == self._first:
                self._begun = self._clock()
            if self._done != self._told or self._done >= self._total:
                return
            measured, took = self._done - self._first, self._clock() - self._begun
            left = took * (self._total - self._done) / measured
        if left >= LEAST:
            inform(
                f"{self._name}: {self._done:,} of {self._total:,} are encoded, the last {measured:,} in {spelled(took)}: "
                f"about {spelled(left)} left"
            )


def spelled(seconds: float) -> str:
    """Return a duration in words, such as "40 seconds", "12 minutes" or "1.5 hours"."""
    if seconds < 100:
        return f"{seconds:.0f} seconds" if round(seconds) != 1 else "1 second"
    return f"{seconds / 60:.0f} minutes" if seconds < 100 * 60 else f"{seconds / 3600:.1f} hours"
