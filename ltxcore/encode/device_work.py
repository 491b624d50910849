"""The work of VAEs on a device, with the clips of several threads: while one is encoded, the next one is copied to the device, and others are
decoded. How long each stage takes shows what the device waits for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import attrs
import torch
from torch import Tensor

from ltxcore.devices import copying_stream, current_stream, moved, on_stream
from ltxcore.protocols import Clip, Codec

AT_ONCE = 2
"""The number of clips on the device: one that is encoded, and one that is copied or waits. More would take memory and save no time."""

Stage = Literal["decoding", "copying", "encoding", "writing", "waiting"]

STAGES: tuple[Stage, ...] = ("decoding", "copying", "encoding", "writing", "waiting")


@attrs.define(eq=False)
class DeviceWork:
    """The work on a device. Several threads may use one instance; one at a time uses a codec.

    Attributes:
        seconds: the seconds that all threads together have spent in each stage; "waiting" is waiting for the device.
        clock: a function that returns the present time in seconds.
    """

    seconds: dict[Stage, float] = attrs.field(factory=lambda: dict.fromkeys(STAGES, 0.0), init=False)
    clock: Callable[[], float] = time.monotonic
    _turn: threading.Lock = attrs.field(factory=threading.Lock, init=False)
    _places: threading.Semaphore = attrs.field(factory=lambda: threading.Semaphore(AT_ONCE), init=False)
    _streams: dict[str, Any] = attrs.field(factory=dict, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)
    _encoding: int = attrs.field(default=0, init=False)
    _since: float = attrs.field(default=0.0, init=False)
    _busy: float = attrs.field(default=0.0, init=False)

    @contextmanager
    def stage(self, name: Stage) -> Iterator[None]:
        """Return a context whose duration counts to a stage."""
        begun = self.clock()
        try:
            yield
        finally:
            with self._lock:
                self.seconds[name] += self.clock() - begun

    @property
    def busy(self) -> float:
        """The seconds during which at least one clip was encoded."""
        return self._busy

    def encode(self, codec: Codec, media: Sequence[Any]) -> list[Tensor]:
        """Encode several clips or audio files, one after the other.

        A codec with a method `begin` only queues its work there, and returns a function that waits for the latents. Another thread can then
        queue its work before these latents are fetched.

        Raises:
            DataError: a medium has a size that the VAE does not support.
        """
        with self._place():
            with self.stage("copying"):
                media = [self._copied(codec, medium) for medium in media]
            with self.stage("waiting"):
                self._turn.acquire()
            with self._at_work(), self.stage("encoding"):
                try:
                    self._arrive(codec)
                    begin = getattr(codec, "begin", None)
                    results = [codec.encode(medium) if begin is None else begin(medium) for medium in media]
                finally:
                    self._turn.release()
                return [result if isinstance(result, Tensor) else result() for result in results]

    @contextmanager
    def _place(self) -> Iterator[None]:
        with self.stage("waiting"):
            self._places.acquire()
        try:
            yield
        finally:
            self._places.release()

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        with self._lock:
            if not self._encoding:
                self._since = self.clock()
            self._encoding += 1
        try:
            yield
        finally:
            with self._lock:
                self._encoding -= 1
                if not self._encoding:
                    self._busy += self.clock() - self._since

    def _stream(self, codec: Codec) -> Any:
        """Return the stream on which clips are copied to the codec's device; None if it is no GPU."""
        device = str(getattr(codec, "device", "cpu"))
        with self._lock:
            if device not in self._streams:
                self._streams[device] = copying_stream(torch.device(device))
            return self._streams[device]

    def _copied(self, codec: Codec, medium: Any) -> Any:
        """Begin to copy a clip to a GPU, through pinned memory, while another one is encoded there."""
        stream = self._stream(codec)
        if stream is None or not isinstance(medium, Clip) or not hasattr(codec, "begin"):
            return medium
        with on_stream(stream):
            frames = moved(medium.frames, str(getattr(codec, "device")))  # noqa: B009 - codecs need not have a device
        frames.record_stream(current_stream(frames.device))
        return attrs.evolve(medium, frames=frames)

    def _arrive(self, codec: Codec) -> None:
        """Let the device wait for the copies before it begins to encode."""
        stream = self._stream(codec)
        if stream is not None:
            current_stream(torch.device(str(getattr(codec, "device")))).wait_stream(stream)  # noqa: B009

    def report(self, wall: float, workers: int) -> str:
        """Say for how many of `wall` seconds the device worked, and how `workers` threads spent their time."""
        spent = ", ".join(f"{self.seconds[stage]:,.0f} s {stage}" for stage in STAGES[:-1])
        share = min(1.0, self.busy / wall) if wall else 0.0
        many = f"{workers} workers" if workers > 1 else "1 worker"
        return (
            f"encoding took {self.busy:,.0f} of {wall:,.0f} s ({share:.0%}); {many} spent {spent}, and {self.seconds['waiting']:,.0f} s "
            "waiting for their turn to encode"
        )
