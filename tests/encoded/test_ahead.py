"""Reading ahead keeps the order, reads no further than it must, and passes errors on as they are."""

import itertools
import threading
import time
from collections.abc import Iterator

import pytest

from ltxcore.encoded.ahead import read_ahead
from ltxcore.errors import DataError


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_items_come_in_order_however_long_each_takes(workers: int) -> None:
    def load(item: int) -> int:
        time.sleep(0.002 * (item % 4))
        return item * 10

    assert list(read_ahead(load, range(20), workers)) == [item * 10 for item in range(20)]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_error_comes_as_it_is_when_its_turn_comes(workers: int) -> None:
    def load(item: int) -> int:
        if item == 3:
            raise DataError("holds NaN", where="c.safetensors", remedy="Delete it.")
        return item

    reading = read_ahead(load, range(10), workers)
    assert list(itertools.islice(reading, 3)) == [0, 1, 2]
    with pytest.raises(DataError) as caught:
        next(reading)
    assert str(caught.value) == "c.safetensors: holds NaN\n    Delete it."


def test_several_items_are_read_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=10)

    def load(item: int) -> int:
        both.wait()
        return item

    assert list(read_ahead(load, range(4), workers=2)) == [0, 1, 2, 3]


@pytest.mark.parametrize(("workers", "most"), [(0, 1), (1, 2), (3, 6)])
def test_of_an_endless_sequence_no_more_is_taken_than_is_read_ahead(workers: int, most: int) -> None:
    taken: list[int] = []

    def endless() -> Iterator[int]:
        for item in itertools.count():
            taken.append(item)
            yield item

    reading = read_ahead(lambda item: item, endless(), workers)
    assert next(reading) == 0
    assert len(taken) <= most
    reading.close()  # type: ignore[attr-defined]


def test_closing_ends_the_threads() -> None:
    before = threading.active_count()
    reading = read_ahead(lambda item: item, itertools.count(), workers=3)
    next(reading)
    reading.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
