"""What a program did with the pretended device: where it waited for values, where for copies, and what it ordered on streams."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from types import FrameType
from typing import Any

import attrs

OURS = ("/ltxcore/", "/ltxplugins/")

READ, UP = "read", "copy up that waits"
"""A value that the program asks of the device: it waits until all that was ordered is done. A copy to the device from memory that is not pinned: likewise."""


@attrs.define
class Record:
    """Since it was last cleared.

    Attributes:
        waits: how often the program waited for the device, by kind and place.
        events: records, waits and copies of streams, in order, each as a tuple that begins with its kind.
        pinned: bytes of each tensor that was pinned, in order.
        pinned_by: the name of the thread that pinned each of them.
    """

    waits: Counter[tuple[str, str]] = attrs.field(factory=Counter)
    events: list[tuple[Any, ...]] = attrs.field(factory=list)
    pinned: list[int] = attrs.field(factory=list)
    pinned_by: list[str] = attrs.field(factory=list)

    def clear(self) -> None:
        self.waits.clear()
        self.events.clear()
        self.pinned.clear()
        self.pinned_by.clear()

    def of(self, kind: str) -> dict[str, int]:
        """How often the program waited, by place."""
        return {place: count for (each, place), count in sorted(self.waits.items()) if each == kind}

    def wait(self, kind: str) -> None:
        self.waits[kind, place()] += 1
        QUEUE.wait_for_all()


@attrs.define
class Queue:
    """The memory of tensors that streams use, as a caching allocator has it while the device is slow: what the program has let go of is free again only
    when the program knows that the device is past it, which it knows of nothing that it has not waited for.

    Attributes:
        held: by number, bytes of tensors that are in use, or were let go and may be in use by the device.
        most: the most tensors, and the most bytes, that were held at once.
        counts: whether what is made now is counted: on a stream beside the main one.
    """

    held: dict[int, int] = attrs.field(factory=dict)
    most: tuple[int, int] = (0, 0)
    counts: bool = False
    _gone: dict[int, int] = attrs.field(factory=dict)
    _clock: Any = attrs.field(factory=lambda: itertools.count(1))

    def now(self) -> int:
        return next(self._clock)

    def take(self, number: int, size: int) -> None:
        self.held[number] = size
        self.most = max(self.most[0], len(self.held)), max(self.most[1], sum(self.held.values()))

    def let_go(self, number: int) -> None:
        if number in self.held:
            self._gone[number] = self.now()

    def wait_for(self, moment: int) -> None:
        """The device is past all that was ordered before."""
        for number, gone in list(self._gone.items()):
            if gone <= moment:
                del self._gone[number]
                self.held.pop(number, None)

    def wait_for_all(self) -> None:
        self.wait_for(self.now())

    def clear(self) -> None:
        """Count from now on: what is there is no longer counted."""
        self.held.clear()
        self._gone.clear()
        self.most = (0, 0)


RECORD, QUEUE = Record(), Queue()


def place() -> str:
    """The function of ltx that is running, as `ltxcore.engines.single:SingleEngine.step`; "elsewhere" for a thread or a test without one."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if any(folder in frame.f_code.co_filename for folder in OURS):
            return f"{frame.f_globals['__name__']}:{frame.f_code.co_qualname.replace('.<locals>', '')}"
        frame = frame.f_back
    return "elsewhere"
