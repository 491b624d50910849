"""Signals that ask a process to end: which of them say the same, and a while without."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SAME = 5.0
"""Seconds within which a SIGTERM is the request that came before: a scheduler such as SLURM sends it to every process, and so does the launcher, DeepSpeed's
also after an interrupt of a terminal, which has reached every process already."""


def is_same_request(number: int, seconds: float) -> bool:
    """Whether a signal says once more what another one said so many seconds ago; an interrupt is always meant."""
    return number != signal.SIGINT and seconds < SAME


@contextmanager
def undisturbed() -> Iterator[None]:
    """Without SIGTERM, which a launcher sends as soon as one process is gone: the others still have to say why they end, and then do."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread gets signals
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
