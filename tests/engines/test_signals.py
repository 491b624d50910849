"""Being asked to stop."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from ltxcore.engines import signals
from ltxcore.engines.signals import listening


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_request_and_handlers_come_back(number: int) -> None:
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with listening() as stop:
        assert stop.signal == 0
        os.kill(os.getpid(), number)
        assert stop.signal == number
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before


def test_the_second_interrupt_is_obeyed_at_once() -> None:
    with listening() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert stop.signal == signal.SIGINT


def test_outside_the_main_thread_nothing_is_listened_to() -> None:
    found = []

    def work() -> None:
        with listening() as stop:
            found.append(stop.signal)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [0]


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_sigterm_within_moments_of_a_request_is_the_same_one_and_a_later_one_is_obeyed(
    monkeypatch: pytest.MonkeyPatch, first: signal.Signals
) -> None:
    """SLURM sends one to every process, and the launcher passes on its own; an interrupt of a terminal reaches every process, and DeepSpeed's launcher sends SIGTERM."""
    obeyed: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: obeyed.append(number))
    try:
        with listening() as stop:
            os.kill(os.getpid(), first)
            os.kill(os.getpid(), signal.SIGTERM)
            assert (stop.signal, obeyed) == (first, [])
            monkeypatch.setattr(signals, "SAME", 0.0)
            os.kill(os.getpid(), signal.SIGTERM)
            assert obeyed == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
