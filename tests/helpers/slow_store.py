"""A store that answers late, fails when it is told to, and counts its requests: a file system of fsspec, in this process's memory."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

SHORT = "short"
"""A fault: the answer ends before it should."""


class SlowStore(MemoryFileSystem):
    """Files at `slow://...`."""

    protocol = "slow"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    seconds: ClassVar[float] = 0.0
    requests: ClassVar[Counter[tuple[Any, ...]]] = Counter()
    faults: ClassVar[deque[Exception | str]] = deque()

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("slow://"))

    def find(self, path: str, *args: Any, **options: Any) -> Any:
        self.asked("list", path)
        return super().find(path, *args, **options)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        fault = self.asked("read", path, start, end)
        data = super().cat_file(path, start=start, end=end, **options)
        return data[: len(data) // 2] if fault == SHORT else data

    def _open(self, path: str, mode: str = "rb", *args: Any, **options: Any) -> Any:
        if mode == "wb":
            self.asked("write", path)
        return super()._open(path, mode, *args, **options)

    def asked(self, *request: object) -> str | None:
        """Count a request, answer it late, and fail if that is its turn."""
        self.requests[request] += 1
        time.sleep(self.seconds)
        fault = self.faults.popleft() if self.faults else None
        if isinstance(fault, Exception):
            raise fault
        return fault


@contextmanager
def slow_store() -> Iterator[type[SlowStore]]:
    """An empty store, which fsspec knows."""
    fsspec.register_implementation("slow", SlowStore, clobber=True)
    for held in (SlowStore.store, SlowStore.requests, SlowStore.faults):
        held.clear()
    SlowStore.pseudo_dirs[:] = [""]
    SlowStore.seconds = 0.0
    yield SlowStore


def put_files(system: Any, root: Path, address: str) -> None:
    """Copy all files of a folder to an address."""
    for path in sorted(root.rglob("*")):
        if path.is_file():
            there = f"{address}/{path.relative_to(root).as_posix()}"
            system.makedirs(there.rpartition("/")[0], exist_ok=True)
            system.pipe_file(there, path.read_bytes())


def reads(requests: Mapping[tuple[Any, ...], int]) -> dict[tuple[Any, ...], int]:
    """How often each part of a file was read."""
    return {request: count for request, count in requests.items() if request[0] == "read"}
