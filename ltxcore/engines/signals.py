"""Functions for signals that ask a process to end: they receive the request, recognize its repetitions, and ignore it for a while.

A run that is asked to stop finishes and saves the current step first.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import attrs

SAME = 5.0
"""The seconds within which a SIGTERM counts as a repetition of the last request. A scheduler such as SLURM sends SIGTERM to every process,
and so does the launcher. DeepSpeed's launcher sends it even after an interrupt from a terminal, which has already reached every process.
"""


def is_same_request(number: int, seconds: float) -> bool:
    """Return whether a signal repeats the request that another signal made `seconds` ago. An interrupt is never a repetition."""
    return number != signal.SIGINT and seconds < SAME


@contextmanager
def undisturbed() -> Iterator[None]:
    """Return a context that ignores SIGTERM.

    A launcher sends this signal as soon as one process is gone, but the other processes still have to report why they end.
    """
    if threading.current_thread() is not threading.main_thread():  # only the main thread gets signals
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


SIGNALS = (signal.SIGINT, signal.SIGTERM)


@attrs.define
class Stop:
    """The request to stop, with the number of its signal; 0 as long as there is no request."""

    signal: int = 0


@contextmanager
def listening() -> Iterator[Stop]:
    """Turn SIGINT and SIGTERM into a request to stop.

    A second signal takes effect at once, as it would outside this context. SIGTERMs that come shortly after one another count as a single
    signal.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():  # only the main thread gets signals
        yield stop
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    at = 0.0

    def asked(number: int, _: FrameType | None) -> None:
        nonlocal at
        if not stop.signal:
            stop.signal, at = number, time.monotonic()
        elif not is_same_request(number, time.monotonic() - at):
            for each, handler in before.items():
                signal.signal(each, handler)
            signal.raise_signal(number)

    for number in SIGNALS:
        signal.signal(number, asked)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
