"""Being asked to stop: the step is finished and saved first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import attrs

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@attrs.define
class Stop:
    """Whether someone has asked; `signal` is its number, 0 for none."""

    signal: int = 0


@contextmanager
def listening() -> Iterator[Stop]:
    """Turn SIGINT and SIGTERM into a request. A second one is obeyed at once, as it would be without this."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():  # only the main thread gets signals
        yield stop
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def asked(number: int, _: FrameType | None) -> None:
        stop.signal = number
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in SIGNALS:
        signal.signal(number, asked)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
