"""Leases on pieces of work: one process holds each, and one that is gone loses all of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.heard import heard
from ltxcore.encode import leases as module
from ltxcore.encode.leases import FOLDER, Leases, differs, joined, work_text
from ltxcore.encode.ledger import Ledger
from ltxcore.encode.products import Made, Product
from ltxcore.errors import ProcessError
from ltxcore.pids import machine
from ltxcore.writer import STALE, file_name

WORK = work_text({"options": "a", "text": "b"})

PRODUCT = Product("latents", {"clip": "a"}, "codec", lambda: Made({"latents": torch.zeros(1, 1, 1, 1)}))

ELSEWHERE = {
    "host": "node7",
    "boot": "another",
    "space": "pid:[1]",
    "pid": 7,
    "started": "1",
    "since": "2026-01-01 00:00:00+00:00",
    "inode": 1,
    "token": "theirs",
    "work": WORK,
}


def place(root: Path, number: int, age: float = 0.0, **changed: Any) -> Path:
    """The place of a process on another machine, which it last touched so many seconds ago."""
    path = root / file_name(number)
    path.write_text(json.dumps({**ELSEWHERE, **changed}))
    now = path.stat().st_mtime
    os.utime(path, (now - age, now - age))
    return path


def held(root: Path, what: str, text: str) -> None:
    """The lease of another process on a piece of work."""
    with joined(root, 90, 91, WORK) as other:
        lease = other.take(what)
        assert lease is not None
        assert lease.path is not None
        lease.path.write_text(text)


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def test_one_process_at_a_time_holds_a_lease(tmp_path: Path) -> None:
    with joined(tmp_path, 0, 1, WORK) as first, heard() as said, joined(tmp_path, 0, 1, WORK) as second:
        assert said.getvalue() == f"{tmp_path}: 1 other process encodes this dataset too, and the work is shared\n"
        assert (first.number, second.number) == (0, 1)
        lease, other = first.take("a"), second.take("b")
        assert lease is not None
        assert other is not None
        assert second.take("a") is None
        assert first.take("a") is None, "another thread of the same process"
        with lease:
            pass
        taken = second.take("a")
        assert taken is not None
        with lease:
            pass
        assert first.take("a") is None, "ending a lease twice does not end that of another process"
        assert len(second.others()) == 1
    assert not list(tmp_path.glob(".writer*"))


def test_of_many_threads_and_processes_one_gets_a_lease(tmp_path: Path) -> None:
    got: list[int] = []
    with joined(tmp_path, 0, 1, WORK) as first, joined(tmp_path, 0, 1, WORK) as second:

        def take(own: Leases) -> None:
            got.extend(number for number in range(50) if own.take(str(number)) is not None)

        threads = [threading.Thread(target=take, args=(own,)) for own in (first, second) * 3]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(got) == list(range(50))


@pytest.mark.parametrize("age", [STALE - 60, STALE + 60])
def test_the_leases_of_a_process_on_another_machine_end_when_it_was_not_heard_of_for_long(tmp_path: Path, age: float) -> None:
    place(tmp_path, 3, age)
    held(tmp_path, "a", json.dumps({"place": 3, "token": "theirs"}))
    with heard() as said, joined(tmp_path, 0, 1, WORK) as own:
        is_held = age < STALE
        assert (own.take("a") is None) == is_held
        assert len(own.others()) == is_held
        assert (tmp_path / file_name(3)).exists() == is_held
    told = f"{tmp_path}: the work of process 7 on node7, since {ELSEWHERE['since']} is taken over, since that process is gone\n"
    assert (told in said.getvalue()) != is_held


def test_the_leases_of_a_killed_process_of_this_machine_end_at_once(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    host, boot, space = machine()
    path = place(tmp_path, 3, host=host, boot=boot, space=space, pid=child.pid)
    held(tmp_path, "a", json.dumps({"place": 3, "token": "theirs"}))
    with joined(tmp_path, 0, 1, WORK) as own:
        assert own.take("a") is not None
    assert not path.exists()


def test_a_process_whose_sign_of_life_stays_in_the_future_is_gone_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the file system was set back since."""
    path = place(tmp_path, 3, -86_400)
    held(tmp_path, "a", json.dumps({"place": 3, "token": "theirs"}))
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with joined(tmp_path, 0, 1, WORK) as own:
        assert own.take("a") is None
        now[0] += STALE - 1
        assert own.take("a") is None
        os.utime(path, (path.stat().st_mtime + 30, path.stat().st_mtime + 30))  # it is alive
        now[0] += STALE - 1
        assert own.take("a") is None
        now[0] += STALE + 1
        assert own.take("a") is not None


def test_a_lease_of_a_place_that_another_process_has_by_now_is_free(tmp_path: Path) -> None:
    place(tmp_path, 3, token="another")
    held(tmp_path, "a", json.dumps({"place": 3, "token": "theirs"}))
    held(tmp_path, "b", json.dumps({"place": 4, "token": "theirs"}))
    with joined(tmp_path, 0, 1, WORK) as own:
        assert own.take("a") is not None
        assert own.take("b") is not None
    assert (tmp_path / file_name(3)).exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"place": "3", "token": 1}'])
def test_a_lease_that_names_nobody_ends_when_it_is_old(tmp_path: Path, text: str) -> None:
    held(tmp_path, "a", text)
    (path,) = (tmp_path / FOLDER).glob("*.json")
    with joined(tmp_path, 0, 1, WORK) as own:
        assert own.take("a") is None
        now = path.stat().st_mtime
        os.utime(path, (now - 2 * STALE, now - 2 * STALE))
        assert own.take("a") is not None


def test_a_process_that_makes_something_else_is_refused_or_waits_or_ends_the_others(tmp_path: Path) -> None:
    other = work_text({"options": "other", "text": "b"})
    waited: list[int] = []
    with joined(tmp_path, 0, 1, WORK) as first:
        with (
            pytest.raises(ProcessError, match=r"is being written by process .*\n.*or take the folder over: --take-over"),
            joined(tmp_path, 0, 1, other),
        ):
            raise AssertionError
        assert names(tmp_path) == [file_name(0)]

        def wait() -> None:
            waited.append(1)
            assert first.writer is not None
            first.writer.release()

        with joined(tmp_path, 0, 1, other, waiting=wait) as second:
            assert (waited, second.number) == ([1], 0)
    with (
        joined(tmp_path, 0, 1, WORK) as first,
        joined(tmp_path, 0, 1, WORK) as second,
        joined(tmp_path, 0, 1, other, take_over=True) as third,
    ):
        assert (third.number, third.others()) == (0, [])
        for each in (first, second):
            assert each.writer is not None
            with pytest.raises(ProcessError, match="the folder was taken over by"):
                each.writer.check()
    assert names(tmp_path) == []


def test_processes_need_not_know_the_same_about_their_work() -> None:
    assert not differs(WORK, work_text({"options": "a", "text": "", "video": "v"}))
    assert differs(WORK, work_text({"options": "a", "text": "c"}))
    assert not differs(WORK, "")


def test_the_last_process_to_finish_does_what_comes_last(tmp_path: Path) -> None:
    done: list[str] = []
    held(tmp_path, "left by a killed process", json.dumps({"place": 9, "token": "theirs"}))
    place(tmp_path, 9, 2 * STALE)
    with joined(tmp_path, 0, 1, WORK) as first, joined(tmp_path, 0, 1, WORK) as second:
        lease = second.take("a")
        assert lease is not None
        first.finish(lambda: done.append("first"))
        assert names(tmp_path) == [FOLDER, file_name(1), file_name(9)]
        with lease:
            pass
        second.finish(lambda: done.append("second"))
        assert names(tmp_path) == []
    assert done == ["second"]


def test_without_a_place_everything_can_be_taken(tmp_path: Path) -> None:
    lease = Leases(tmp_path).take("a")
    assert lease is not None
    with lease:
        assert names(tmp_path) == []


@pytest.mark.parametrize("is_killed", [False, True], ids=["finished", "killed"])
def test_what_a_process_made_is_seen_by_one_that_never_met_it(tmp_path: Path, is_killed: bool) -> None:
    """It joined, worked and was gone between two looks of the other one, as happens to a process that begins late."""
    with joined(tmp_path, 0, 2, WORK) as first:
        ledger = Ledger(tmp_path, ["latents"], first.number, writer=first.writer)
        with joined(tmp_path, 1, 2, WORK) as second:
            lease = second.take("a")
            assert lease is not None
            Ledger(tmp_path, ["latents"], second.number, writer=second.writer).write(PRODUCT, "a", "a.mp4", PRODUCT.make())
            if is_killed:
                (tmp_path / file_name(1)).unlink()  # which the process that takes its lease over does
            else:
                with lease:
                    pass
                second.finish(lambda: None)
        with first.take("a") or pytest.fail("the lease is free"):
            assert ledger.catch_up() == [("latents", "a")]
            assert ledger.is_fresh(PRODUCT, "a")
        first.finish(lambda: None)
    assert names(tmp_path) == ["latents"]
