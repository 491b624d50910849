"""Which process holds up a run, by what all of them say."""

from __future__ import annotations

import os
import threading
import time

import pytest
from torch._C._distributed_c10d import HashStore

from ltxcore.engines.alive import Beat, Progress, Watch, launcher, spelled, verdict
from ltxcore.engines.process import wait_at_store

MINUTE = 60.0
PATIENCE = 10 * MINUTE


def judged(*beats: tuple[Beat | None, float]) -> tuple[tuple[int, ...], str] | None:
    found = verdict(dict(enumerate(beats)), PATIENCE)
    return None if found is None else (found.ranks, found.what)


def step(number: int = 12, **told: object) -> Beat:
    return Beat(**{"what": f"step {number}", "moves": number, **told})


def test_processes_that_move_hold_up_nobody() -> None:
    assert judged((step(), 5), (step(idle=9 * MINUTE), 10)) is None


def test_a_process_that_says_nothing_any_more_is_named_with_its_last_word_and_not_the_one_that_waits_for_it() -> None:
    assert judged((step(idle=11 * MINUTE, waits=True), 5), (step(where="load (x.py:3)"), 11 * MINUTE)) == (
        (1,),
        'process 1 of 2, which said "step 12, in load (x.py:3)" 11 minutes ago, gives no sign of life',
    )


def test_a_process_that_never_came_is_named() -> None:
    assert judged((step(), 5), (None, 11 * MINUTE)) == ((1,), "process 1 of 2, which was waited for for 11 minutes, gives no sign of life")
    assert judged((step(), 5), (None, 9 * MINUTE)) is None


def test_a_process_whose_main_thread_does_not_move_is_named_with_its_place() -> None:
    waiting = step(idle=12 * MINUTE, waits=True)
    assert judged((waiting, 5), (step(idle=11 * MINUTE, where="load (x.py:3)"), 5)) == (
        (1,),
        "process 1 of 2 has not moved for 11 minutes: step 12, in load (x.py:3)",
    )


def test_where_none_seems_to_wait_as_on_gpus_the_one_that_is_behind_is_named() -> None:
    found = judged((step(13, idle=11 * MINUTE), 5), (step(12, idle=11 * MINUTE), 5), (step(13, idle=11 * MINUTE), 5))
    assert found is not None
    assert found[0] == (1,)


@pytest.mark.parametrize("what", ["loading the model", "encoding", "saving after step 12"])
def test_one_that_loads_encodes_or_saves_has_six_times_as_long_and_those_that_wait_for_it_too(what: str) -> None:
    waiting = step(idle=50 * MINUTE, waits=True)
    assert judged((waiting, 5), (Beat(what=what, is_long=True, idle=50 * MINUTE), 5)) is None
    assert judged((waiting, 5), (Beat(what=what, is_long=True, idle=61 * MINUTE), 5)) == (
        (1,),
        f"process 1 of 2 has not moved for 61 minutes: {what}",
    )


def test_processes_that_wait_for_one_another_are_all_named() -> None:
    found = judged((step(idle=11 * MINUTE, waits=True, where="a (x.py:1)"), 5), (step(idle=11 * MINUTE, waits=True, where="b (x.py:2)"), 5))
    assert found == (
        (0, 1),
        "all 2 processes wait for one another for 11 minutes: process 0 at step 12, in a (x.py:1), process 1 at step 12, in b (x.py:2)",
    )


def test_one_that_has_done_its_part_is_not_missed() -> None:
    assert judged((step(is_over=True), 60 * MINUTE), (step(), 5)) is None


def test_times_are_spelled_in_seconds_and_minutes() -> None:
    assert [spelled(seconds) for seconds in (4.2, 119, 600)] == ["4 seconds", "119 seconds", "10 minutes"]


def watch(progress: Progress) -> Watch:
    return Watch(0, 1, HashStore(), progress, PATIENCE, str, launcher=None)


def test_a_process_that_loads_and_computes_moves_and_one_that_sleeps_does_not() -> None:
    progress = Progress()
    progress.says("loading the model", is_long=True)
    here = watch(progress)
    main = threading.get_ident()
    here.now(main)
    until = time.process_time() + 0.2
    while time.process_time() < until:
        sum(range(1000))
    assert here.now(main).idle < 0.1
    time.sleep(0.5)
    assert here.now(main).idle >= 0.5
    progress.says("step 1")
    progress.at -= 5
    until = time.process_time() + 0.2
    while time.process_time() < until:
        sum(range(1000))
    assert here.now(main).idle > 5  # in a step it has to get on


def test_a_process_that_waits_for_another_says_so_and_where_the_rest_of_it_is() -> None:
    store = HashStore()
    waiting = threading.Thread(target=wait_at_store, args=(store, "key"))
    here = watch(Progress())
    assert not here.now(threading.get_ident()).waits
    waiting.start()
    try:
        said = here.now(threading.get_ident())
        assert said.waits
        assert f"({__file__}:" in here.now(waiting.ident or 0).where or "process.py:" in here.now(waiting.ident or 0).where
    finally:
        store.set("key", "1")
        waiting.join()


def test_processes_hear_of_one_another_and_of_the_end() -> None:
    store = HashStore()
    each = [Watch(rank, 2, store, Progress(), 1.0, str, launcher=None) for rank in (0, 1)]
    for one in each:
        one.start()
    each[1].progress.says("encoding", is_long=True)
    wait(lambda: heard(each[0], 1) is not None and heard(each[0], 1).what == "encoding")
    each[1].stop()
    wait(lambda: heard(each[0], 1).is_over)
    each[0].stop()


def heard(here: Watch, rank: int) -> Beat:
    found: Beat = here._seen[rank][1]
    return found


def wait(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_process_ends_with_its_launcher_only_where_that_outlives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "CROSS_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert launcher() is None
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert launcher() == os.getppid()
