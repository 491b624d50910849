"""Thread pools for work on many items. Threads are enough if the work releases Python's lock, as reading, decoding,
hashing and most computing do.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import TypeVar

from ltxcore.errors import LtxError

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_WORKERS = 8

READERS = 4
"""The number of files to read at a time if each file is small."""


def processors() -> int:
    """Return how many processors this process may keep busy: its share of those available, if a launcher has started
    several processes on this machine.
    """
    may = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    beside = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return max(1, may // (int(beside) if beside.isdecimal() and int(beside) else 1))


def usual_workers() -> int:
    """Return the usual number of threads: one per processor, at most 8."""
    return min(processors(), MOST_WORKERS)


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int | None = None
) -> Generator[Result, None, None]:
    """Yield the result of `work` for every item, in order, however long each takes. Close the iterator, or exhaust it,
    to end its threads.

    Args:
        work: a function that is called in any thread, several at a time.
        items: the items, taken in the caller's thread; there may be endlessly many only with `ahead`.
        workers: the number of threads; with 0, the work is done in the caller's thread when a result is requested.
        ahead: the number of items to take before the first result is requested; after that, one is taken for each result. None
            takes all at once.

    Raises:
        Exception: whatever `work` raises, unchanged, when its item's turn comes.
    """
    if workers <= 0:
        yield from map(work, items)
        return
    with _pool(workers) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if ahead is not None and len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def as_done(
    work: Callable[[Item], Result], items: Iterable[Item], workers: int = 1, prepare: Callable[[], object] | None = None
) -> Generator[tuple[Item, Result | LtxError], None, None]:
    """Yield every item with the result of `work`, or with the error that it raised, in the order in which they finish.
    Close the iterator, or exhaust it, to end its threads: work that has not begun by then is not done.

    Args:
        work: a function that is called in any thread, several at a time.
        items: the items, all of which are taken at once.
        workers: the number of threads.
        prepare: a function that is called first in each thread.

    Raises:
        Exception: any other error of `work`.
    """
    with _pool(workers, prepare) as pool:
        futures = {pool.submit(work, item): item for item in items}
        for future in as_completed(futures):
            try:
                yield futures[future], future.result()
            except LtxError as error:
                yield futures[future], error


@contextmanager
def _pool(workers: int, prepare: Callable[[], object] | None = None) -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(workers, "ltx-worker", prepare)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
