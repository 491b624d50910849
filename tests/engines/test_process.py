"""The processes of a run before and after they are connected: waiting for each other, failing together, and telling once what is wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from torch import distributed
from torch._C._distributed_c10d import HashStore

from ltxcore.engines import process
from ltxcore.engines.process import TOLD, Place, Processes, disconnect, wait_at_store
from ltxcore.errors import ConfigError, DataError, ProcessError


def together(work: Callable[[Processes], Any], count: int = 3) -> list[Any]:
    """What `work` returned or raised in each of several threads that stand for processes."""
    store = HashStore()
    found: list[Any] = [None] * count

    def one(rank: int) -> None:
        try:
            found[rank] = work(Processes(Place(rank, count, rank), store))
        except BaseException as error:  # noqa: BLE001 (it is looked at)
            found[rank] = error

    threads = [threading.Thread(target=one, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    return found


def test_a_place_is_what_a_launcher_says_and_alone_where_it_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert Place.of_environment() == Place(0, 1, 0)
    for name, value in (("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert Place.of_environment() == Place(5, 8, 1)


@pytest.mark.parametrize(("rank", "size"), [("2", "2"), ("-1", "2"), ("one", "2"), ("0", "")])
def test_a_place_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, rank: str, size: str) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(ConfigError) as error:
        Place.of_environment()
    assert str(error.value) == (
        f"environment: RANK={rank}, WORLD_SIZE={size} and LOCAL_RANK=0 do not describe a process of a run\n"
        "    Let a launcher such as torchrun set all three, or unset them."
    )


def test_what_each_has_is_exchanged_again_and_again() -> None:
    assert (
        together(lambda here: [here.exchange([turn, here.rank]) for turn in range(3)])
        == [[[[turn, 0], [turn, 1], [turn, 2]] for turn in range(3)]] * 3
    )


def test_one_process_exchanges_with_itself() -> None:
    assert Processes().exchange("here") == ["here"]
    assert Processes().together(lambda: 3) == 3
    assert Processes().first_then_others(lambda: 4) == 4


def test_work_that_fails_on_some_fails_on_all_and_the_first_of_them_tells() -> None:
    def work(here: Processes) -> str:
        def fail_on_two() -> str:
            if here.rank:
                raise DataError(f"no file on {here.rank}")
            return "fine"

        return here.together(fail_on_two)

    found = together(work)
    assert [type(error) for error in found] == [SystemExit, DataError, SystemExit]
    assert str(found[1]) == "no file on 1"
    assert found[0].code == found[2].code == TOLD


def test_the_first_process_works_before_the_others() -> None:
    order: list[int] = []

    def work(here: Processes) -> int:
        def note() -> int:
            order.append(here.rank)
            return here.rank

        return here.first_then_others(note)

    assert together(work) == [0, 1, 2]
    assert order[0] == 0
    assert sorted(order) == [0, 1, 2]


def ended(here: Processes, error: Callable[[int], BaseException]) -> None:
    with here.ending(lambda: "It resumes after step 4."):
        raise error(here.rank)


LOSS = "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:5"


def test_a_process_that_ended_without_a_word_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GRACE", 0.3)

    def work(here: Processes) -> None:
        if here.rank != 1:  # which is gone
            ended(here, lambda rank: RuntimeError(LOSS))

    found = together(work)
    told = [error for error in found if isinstance(error, ProcessError)]
    assert [str(error) for error in told] == [
        "process 1 of 3 ended without a message (it was killed, or ran out of memory), so this run ends\n    It resumes after step 4."
    ]
    assert sum(isinstance(error, SystemExit) and error.code == TOLD for error in found) == 1


def test_a_process_that_told_what_was_wrong_is_not_told_of_by_those_that_lost_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "GRACE", 0.3)
    found = together(lambda here: ended(here, lambda rank: DataError("a bad file") if rank == 1 else RuntimeError(LOSS)))
    assert [type(error) for error in found] == [SystemExit, DataError, SystemExit]


def test_a_mistake_of_ours_keeps_its_traceback() -> None:
    found = together(lambda here: ended(here, lambda rank: KeyError("a bug")), count=1)
    assert [type(error) for error in found] == [KeyError]


def test_a_process_group_that_is_not_left_in_time_does_not_keep_the_process_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    gone, left = threading.Event(), threading.Event()
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "destroy_process_group", lambda: (left.set(), gone.wait()))
    disconnect(limit=0.1)
    assert left.is_set()
    gone.set()


def test_whom_nobody_watches_over_is_waited_for_only_so_long() -> None:
    store = HashStore()
    with pytest.raises(ProcessError, match=r"^process 1 of 2 did not respond within 0 seconds\n    Check what it is doing\.$"):
        wait_at_store(store, "key", "process 1 of 2", 0.1)
    store.set("key", "1")
    assert wait_at_store(store, "key", "process 1 of 2", 0.1) == b"1"


def test_a_process_that_does_not_find_the_others_says_where_it_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ProcessError) as error:
        Processes.meet()
    assert str(error.value).startswith("process 1 cannot reach the other 1 at MASTER_ADDR:MASTER_PORT: ")


def test_the_death_of_a_process_of_this_machine_is_told_by_ltx_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(rank=5, world_size=8, local_rank=1)
    assert not place.is_told_of(4)
    monkeypatch.setenv("LTX_LAUNCH", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert [rank for rank in range(8) if place.is_told_of(rank)] == [4, 5, 6, 7]
