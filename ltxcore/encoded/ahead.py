"""Reading ahead: while one micro-batch is trained on, threads read the next ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Loaded = TypeVar("Loaded")


def read_ahead(load: Callable[[Item], Loaded], items: Iterable[Item], workers: int) -> Iterator[Loaded]:
    """`load` of every item, in order, however long each takes.

    Threads are enough: reading, unpacking and stacking let go of Python's lock. Close the iterator, or exhaust it, to end them.

    Args:
        load: reads one micro-batch; called in any thread, several at a time.
        items: may be endless; taken only as far as is read ahead, in the caller's thread.
        workers: threads, each of which is at most two items ahead; 0 reads in the caller's thread, when asked.

    Raises:
        Exception: whatever `load` raises, as it is, when its item's turn comes.
    """
    if workers <= 0:
        yield from map(load, items)
        return
    pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="read-ahead")
    waiting: deque[Future[Loaded]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(load, item))
            if len(waiting) >= 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
