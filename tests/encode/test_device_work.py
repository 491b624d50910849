"""The work of several threads on a device: one encodes at a time, two clips are there, and every stage is measured."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import attrs
import pytest
import torch
from torch import Tensor

from ltxcore.encode.device_work import AT_ONCE, DeviceWork
from ltxcore.errors import DataError


@attrs.define
class Late:
    """A codec whose results come when `come` is set, as those of a GPU do; it writes down what happens."""

    come: threading.Event = attrs.field(factory=threading.Event)
    events: list[str] = attrs.field(factory=list)
    begun: threading.Semaphore = attrs.field(factory=lambda: threading.Semaphore(0))

    def begin(self, medium: str) -> Callable[[], Tensor]:
        self.events.append(f"begin {medium}")
        self.begun.release()

        def fetch() -> Tensor:
            self.come.wait(30)
            self.events.append(f"fetch {medium}")
            return torch.tensor(float(medium))

        return fetch


def in_threads(work: Callable[[int], Any], count: int) -> list[threading.Thread]:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    return threads


def test_the_next_clip_begins_before_the_results_of_the_one_before_come_and_no_third_one() -> None:
    work, late, results = DeviceWork(), Late(), dict[int, float]()

    def one(number: int) -> None:
        (latents,) = work.encode(late, [str(number)])  # type: ignore[arg-type]
        results[number] = float(latents)

    threads = in_threads(one, 5)
    for _ in range(AT_ONCE):
        assert late.begun.acquire(timeout=30)
    assert not late.begun.acquire(timeout=0.2), "a third clip has to wait until there is room"
    late.come.set()
    for thread in threads:
        thread.join()
    assert results == {number: float(number) for number in range(5)}
    assert [event.split()[0] for event in late.events[:AT_ONCE]] == ["begin"] * AT_ONCE


@attrs.define
class Direct:
    """A codec that encodes at once; it finds out whether two threads use it at a time."""

    inside: threading.Lock = attrs.field(factory=threading.Lock)

    def encode(self, medium: float) -> Tensor:
        assert self.inside.acquire(blocking=False), "two threads at a time"
        try:
            if medium < 0:
                raise DataError("has a size that is not supported")
            return torch.tensor(medium)
        finally:
            self.inside.release()


def test_a_codec_that_encodes_at_once_is_used_by_one_thread_at_a_time() -> None:
    work, codec, results = DeviceWork(), Direct(), list[list[float]]()
    threads = in_threads(lambda number: results.append([float(each) for each in work.encode(codec, [number, number + 0.5])]), 8)  # type: ignore[arg-type]
    for thread in threads:
        thread.join()
    assert sorted(results) == [[float(number), number + 0.5] for number in range(8)]


def test_a_clip_that_is_refused_leaves_the_device_to_the_next_one() -> None:
    work, codec = DeviceWork(), Direct()
    for _ in range(AT_ONCE + 1):
        with pytest.raises(DataError):
            work.encode(codec, [-1.0])  # type: ignore[arg-type]
    assert [float(each) for each in work.encode(codec, [2.0])] == [2.0]  # type: ignore[arg-type]


def test_the_stages_are_measured_and_told() -> None:
    now = [0.0]

    @attrs.define
    class Slow:
        def encode(self, medium: float) -> Tensor:
            now[0] += medium
            return torch.tensor(medium)

    work = DeviceWork(lambda: now[0])
    with work.stage("decoding"):
        now[0] += 40
    work.encode(Slow(), [10.0, 20.0])  # type: ignore[arg-type]
    with work.stage("writing"):
        now[0] += 2
    work.encode(Slow(), [10.0])  # type: ignore[arg-type]
    assert work.busy == 40
    assert work.seconds == {"decoding": 40, "copying": 0, "encoding": 40, "writing": 2, "waiting": 0}
    assert work.report(80, 2) == (
        "encoding took 40 of 80 s (50%); 2 workers spent 40 s decoding, 0 s copying, 40 s encoding, 2 s writing, and 0 s "
        "waiting for their turn to encode"
    )
    assert DeviceWork().report(0.0, 1).startswith("encoding took 0 of 0 s (0%); 1 worker spent 0 s decoding")
