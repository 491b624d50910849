"""One writer of a folder at a time: refused, taken over where the other one is gone, waited for, and noticed by the one that lost it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from helpers.heard import heard
from ltxcore import writer
from ltxcore.errors import ProcessError
from ltxcore.pids import is_alive, machine, started
from ltxcore.writer import STALE, Holder, Writer, file_name, writing

ELSEWHERE = {
    "host": "node7",
    "boot": "another",
    "space": "pid:[1]",
    "pid": os.getpid(),
    "started": "1",
    "since": "2026-01-01 00:00:00+00:00",
}


def record(folder: Path, age: float = 0.0, **changed: Any) -> Path:
    """The file of another process, last touched so many seconds ago by the clock of the file system."""
    path = folder / file_name()
    path.write_text(json.dumps({**ELSEWHERE, "inode": 1, "token": "theirs", **changed}))
    now = path.stat().st_mtime
    os.utime(path, (now - age, now - age))
    return path


def of_here(path: Path, **changed: Any) -> None:
    """Make it the file of a process of this machine."""
    host, boot, space = machine()
    path.write_text(
        json.dumps({**ELSEWHERE, "host": host, "boot": boot, "space": space, "inode": path.stat().st_ino, "token": "theirs", **changed})
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_has_a_writer_as_long_as_that_writes(tmp_path: Path) -> None:
    with writing(tmp_path / "a" / "b") as held:
        assert names(tmp_path / "a" / "b") == [".writer-0.json"]
        told = json.loads((tmp_path / "a" / "b" / ".writer-0.json").read_text())
        assert (told["pid"], told["host"], told["started"]) == (os.getpid(), machine()[0], started(os.getpid()))
        held.check()
    assert names(tmp_path) == []


def test_what_was_written_meanwhile_stays(tmp_path: Path) -> None:
    with writing(tmp_path / "out"):
        (tmp_path / "out" / "run.json").write_text("")
    assert names(tmp_path / "out") == ["run.json"]


def test_a_second_writer_is_refused_with_who_the_first_is(tmp_path: Path) -> None:
    with writing(tmp_path), pytest.raises(ProcessError) as error, writing(tmp_path, name="--take-over"):
        raise AssertionError
    assert re.fullmatch(
        rf"{tmp_path}: is being written by process {os.getpid()} on {machine()[0]}, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d\n"
        "    Wait for it to finish, end it, or take the folder over: --take-over.",
        str(error.value),
    )
    assert names(tmp_path) == []


def test_each_share_of_the_work_has_a_writer_of_its_own(tmp_path: Path) -> None:
    with writing(tmp_path, rank=0), writing(tmp_path, rank=1):
        assert names(tmp_path) == [".writer-0.json", ".writer-1.json"]


def test_a_process_of_this_machine_that_is_gone_is_taken_over_from_at_once(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    of_here(record(tmp_path), pid=child.pid)
    with heard() as said, writing(tmp_path) as held:
        held.check()
    assert said.getvalue() == f"{tmp_path} is taken over from process {child.pid} on {machine()[0]}, since {ELSEWHERE['since']}\n"
    of_here(record(tmp_path), pid=os.getpid(), started="1")  # its number was given to another process
    with writing(tmp_path):
        pass


def test_a_process_that_ended_and_is_not_yet_taken_note_of_is_gone(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"], stdout=subprocess.PIPE)
    since = started(child.pid)
    assert child.stdout is not None
    child.stdout.read()
    deadline = time.monotonic() + 10
    while is_alive(child.pid, since or "") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_alive(child.pid, since or "")
    child.wait()
    child.stdout.close()


def test_a_copy_of_a_folder_that_is_being_written_is_free(tmp_path: Path) -> None:
    path = record(tmp_path)
    of_here(path, pid=os.getpid(), started=started(os.getpid()), inode=path.stat().st_ino + 1)
    with writing(tmp_path):
        pass


@pytest.mark.parametrize("changed", [{}, {"host": machine()[0]}, {"host": machine()[0], "boot": machine()[1]}])
def test_a_process_elsewhere_is_alive_until_it_was_not_heard_of_for_long(tmp_path: Path, changed: dict[str, str]) -> None:
    """On another machine, on another one of the same name, and in another container of this one."""
    record(tmp_path, STALE - 60, **changed)
    with pytest.raises(ProcessError) as error, writing(tmp_path, name="--take-over"):
        raise AssertionError
    host = changed.get("host", "node7")
    assert str(error.value) == (
        f"{tmp_path}: is being written by process {os.getpid()} on {host}, since {ELSEWHERE['since']}, which last showed a sign of life 240 seconds ago\n"
        "    Wait for it to finish. If it is gone, wait until its last sign of life is older than 5 minutes, or take the folder over: --take-over."
    )
    record(tmp_path, STALE + 60, **changed)
    with heard() as said, writing(tmp_path):
        assert said.getvalue().count("is taken over from") == 1


def test_the_clock_is_that_of_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 0.0)
    record(tmp_path, 10)
    with pytest.raises(ProcessError, match="showed a sign of life 10 seconds ago"), writing(tmp_path):
        raise AssertionError


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pid": "x"}', "\x00"])
def test_a_file_that_tells_nobody_is_one_of_another_machine(tmp_path: Path, text: str) -> None:
    path = record(tmp_path)
    path.write_text(text)
    with pytest.raises(ProcessError, match="by an unknown process, which last showed a sign of life 0 seconds ago"), writing(tmp_path):
        raise AssertionError
    now = path.stat().st_mtime
    os.utime(path, (now - 2 * STALE, now - 2 * STALE))
    with writing(tmp_path):
        pass


def test_who_is_taken_over_notices_and_takes_nothing_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "BEAT", 0.02)
    with writing(tmp_path) as first, writing(tmp_path, takes_over=True) as second:
        wait_for(lambda: has_lost(first))
        with pytest.raises(ProcessError, match=f"this process ends, because the folder was taken over by process {os.getpid()}"):
            first.check()
        first.release()
        second.check()
        assert names(tmp_path) == [".writer-0.json"]


def has_lost(held: Writer) -> bool:
    try:
        held.check(looks=False)
    except ProcessError:
        return True
    return False


def test_a_writer_gives_signs_of_life_and_makes_its_file_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "BEAT", 0.02)
    path = tmp_path / file_name()
    with writing(tmp_path) as held:
        os.utime(path, (0, 0))
        wait_for(lambda: path.stat().st_mtime > 1)
        path.unlink()
        wait_for(path.exists)
        held.check()


def wait_for(what: Any) -> None:
    deadline = time.monotonic() + 10
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_one_that_waits_gets_the_folder_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "POLL", 0.02)
    done = threading.Event()

    def second() -> None:
        with writing(tmp_path, waiting=lambda: None):
            done.set()

    with heard() as said, writing(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        wait_for(said.getvalue)
        assert not done.is_set()
    thread.join(10)
    assert done.is_set()
    assert said.getvalue().startswith(f"waiting for process {os.getpid()} on ")


def test_of_many_at_once_one_writes(tmp_path: Path) -> None:
    """Each takes over from a process that is gone; two that wrote at a time would meet in the file."""
    of_here(record(tmp_path), pid=2**22 + 1)
    met: list[str] = []
    inside = threading.Lock()

    def one() -> None:
        try:
            with writing(tmp_path):
                if not inside.acquire(blocking=False):
                    met.append("two at once")
                    return
                time.sleep(0.05)
                inside.release()
        except ProcessError:
            met.append("refused")

    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "two at once" not in met
    assert met.count("refused") < 8
    assert names(tmp_path) == []


def test_a_file_system_without_links_has_writers_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(self: Path, target: Path) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(Path, "hardlink_to", none)
    with writing(tmp_path) as held:
        assert Holder(**json.loads((tmp_path / file_name()).read_text())) == held.holder
        with pytest.raises(ProcessError), writing(tmp_path):
            raise AssertionError
    assert names(tmp_path) == []
