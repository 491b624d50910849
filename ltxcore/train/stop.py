"""Being asked to stop: the step is finished and saved first."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import attrs

from ltxcore.engines.signals import is_same_request

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@attrs.define
class Stop:
    """Whether someone has asked; `signal` is its number, 0 for none."""

    signal: int = 0


@contextmanager
def listening() -> Iterator[Stop]:
    """Turn SIGINT and SIGTERM into a request. A second one is obeyed at once, as it would be without this; a SIGTERM that comes twice within moments is one."""
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
