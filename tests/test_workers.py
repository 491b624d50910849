"""Threads keep the order or not, as asked, take no more items than they must, pass errors on as they are, and end."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing

import pytest

from ltxcore.errors import DataError
from ltxcore.workers import as_done, in_order, processors, usual_workers


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_items_come_in_order_however_long_each_takes(workers: int) -> None:
    def load(item: int) -> int:
        time.sleep(0.002 * (item % 4))
        return item * 10

    assert list(in_order(load, range(20), workers)) == [item * 10 for item in range(20)]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_error_comes_as_it_is_when_its_turn_comes(workers: int) -> None:
    def load(item: int) -> int:
        if item == 3:
            raise DataError("holds NaN", where="c.safetensors", remedy="Delete it.")
        return item

    reading = in_order(load, range(10), workers)
    assert list(itertools.islice(reading, 3)) == [0, 1, 2]
    with pytest.raises(DataError) as caught:
        next(reading)
    assert str(caught.value) == "c.safetensors: holds NaN\n    Delete it."


def test_several_items_are_worked_on_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=10)

    def work(item: int) -> int:
        both.wait()
        return item

    assert list(in_order(work, range(4), workers=2)) == [0, 1, 2, 3]
    assert sorted(as_done(work, range(4), workers=2)) == [(0, 0), (1, 1), (2, 2), (3, 3)]


@pytest.mark.parametrize(("workers", "most"), [(0, 1), (1, 2), (3, 6)])
def test_of_an_endless_sequence_no_more_is_taken_than_is_read_ahead(workers: int, most: int) -> None:
    taken: list[int] = []

    def endless() -> Iterator[int]:
        for item in itertools.count():
            taken.append(item)
            yield item

    reading = in_order(lambda item: item, endless(), workers, ahead=2 * workers)
    assert next(reading) == 0
    assert len(taken) <= most
    reading.close()


@pytest.mark.parametrize(
    "begun",
    [lambda work: in_order(work, itertools.count(), workers=3, ahead=6), lambda work: as_done(work, range(1000), workers=3)],
    ids=["in order", "as done"],
)
def test_closing_ends_the_threads_and_leaves_undone_what_was_not_begun(
    begun: Callable[[Callable[[int], int]], Generator[object, None, None]],
) -> None:
    before, done = threading.active_count(), list[int]()

    def work(item: int) -> int:
        time.sleep(0.001)
        done.append(item)
        return item

    with closing(begun(work)) as results:
        next(results)
    assert threading.active_count() == before
    assert len(done) < 1000


def test_the_item_that_is_done_first_comes_first_and_one_that_fails_has_its_error() -> None:
    taken = threading.Event()

    def work(item: int) -> int:
        if item == 1:
            taken.wait(60)
            raise DataError("cannot be read")
        return item

    found = as_done(work, (1, 2), workers=2)
    first, done = next(found)
    taken.set()
    ((last, failed),) = found
    assert (first, done, last) == (2, 2, 1)
    assert isinstance(failed, DataError)


def test_an_error_that_is_not_ours_ends_the_work() -> None:
    with pytest.raises(ZeroDivisionError):
        list(as_done(lambda item: 1 // item, (1, 0)))


def test_every_thread_is_prepared_before_it_works() -> None:
    prepared: set[int] = set()

    def work(item: int) -> bool:
        return threading.get_ident() in prepared

    done = as_done(work, range(20), workers=3, prepare=lambda: prepared.add(threading.get_ident()))
    assert all(was for _, was in done)


def test_processes_of_one_machine_share_its_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(24)))
    for beside, expected, workers in ((None, 24, 8), ("1", 24, 8), ("2", 12, 8), ("4", 6, 6), ("48", 1, 1), ("x", 24, 8), ("0", 24, 8)):
        monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
        if beside is not None:
            monkeypatch.setenv("LOCAL_WORLD_SIZE", beside)
        assert (processors(), usual_workers()) == (expected, workers)
