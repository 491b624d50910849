"""What a process says about itself, and hears of the others."""

from __future__ import annotations

import os
import threading
import time

import pytest
from torch._C._distributed_c10d import HashStore

from ltxcore.engines.alive import Beat, Progress
from ltxcore.engines.process import wait_at_store
from ltxcore.engines.watch import Watch, launchers
from ltxcore.pids import started

PATIENCE = 600.0


def watch(progress: Progress) -> Watch:
    return Watch(0, 1, HashStore(), progress, PATIENCE, str, launchers={})


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
    waiting = threading.Thread(target=wait_at_store, args=(store, "key", "process 1 of 2"))
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
    each = [Watch(rank, 2, store, Progress(), 1.0, str, launchers={}) for rank in (0, 1)]
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
    assert launchers() == {}
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert launchers() == {os.getppid(): started(os.getppid())}
