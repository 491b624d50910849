"""What a process says about itself, and hears of the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from datetime import timedelta

import attrs
import pytest
from torch._C._distributed_c10d import HashStore
from torch.distributed import TCPStore

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


@pytest.mark.parametrize("wrong", [b"", b"\xff", b"[", b"[1]", b"2"])
def test_an_answer_that_is_no_heartbeat_is_passed_over(wrong: bytes) -> None:
    store = HashStore()
    store.set("beat/1", wrong)
    here = Watch(0, 2, store, Progress(), 1.0, str, launchers={})
    here.start()
    wait(lambda: store.check(["beat/0"]))
    time.sleep(2 * here.period)
    assert heard(here, 1) is None
    store.set("beat/1", json.dumps(attrs.asdict(Beat(what="encoding"))))
    wait(lambda: heard(here, 1) is not None and heard(here, 1).what == "encoding")
    here.stop()
    assert not any(thread.is_alive() for thread in here._threads)


HOLDS = """
import sys
from torch.distributed import TCPStore
store = TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)
print(store.port, flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
def test_the_threads_end_quietly_after_the_process_with_the_store_was_killed() -> None:
    """An exception in one of them would be an error of this test."""
    with subprocess.Popen([sys.executable, "-c", HOLDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        client = TCPStore("127.0.0.1", int(holder.stdout.readline()), None, False, timedelta(seconds=1), wait_for_workers=False)
        here = Watch(0, 1, client, Progress(), 100.0, str, launchers={})
        here.start()
        wait(lambda: client.check(["beat/0"]))
        threading.Timer(0.2, holder.kill).start()
        until = time.monotonic() + 1
        while time.monotonic() < until:  # many calls, one of which is under way when the store goes
            here.progress.news.set()
            time.sleep(0.001)
        here.stop()
    wait(lambda: not any(thread.is_alive() for thread in here._threads))  # the last call may still wait for an answer


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
