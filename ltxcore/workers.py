"""Process many items in a pool of threads. Threads are enough for work that releases Python's lock, such as reading,
decoding, hashing and most computing.
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
"""The number of small files to read at a time."""


def processors() -> int:
    """Return how many processors this process may keep busy. If a launcher has started several processes on this
    machine, this is one process's share of the available processors.
    """
    may = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    beside = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return max(1, may // (int(beside) if beside.isdecimal() and int(beside) else 1))


def usual_workers() -> int:
    """Return the usual number of threads: one per processor, but at most 8."""
    return min(processors(), MOST_WORKERS)


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int | None = None
) -> Generator[Result, None, None]:
    """Yield the result of `work` for every item, in the order of the items. Close or exhaust the iterator to end its
    threads.

    Args:
        work: a function that is called in several threads at a time.
        items: the items, taken in the caller's thread. Their number may be infinite only if `ahead` is set.
        workers: the number of threads. With 0, the caller's thread does the work when a result is requested.
        ahead: the number of items to take before the first result is requested; after that, one item is taken for each
            result. None takes all items at once.

    Raises:
        Exception: any error of `work`, unchanged, in place of the item's result.
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
    """Yield every item, in the order in which the items are done, with the result of `work` or the LtxError that it
    raised. Close or exhaust the iterator to end its threads; after closing it, no further work begins.

    Args:
        work: a function that is called in several threads at a time.
        items: the items, which are all taken at once.
        workers: the number of threads.
        prepare: a function that is called first in each thread.

    Raises:
        Exception: any other error that `work` raises.
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
