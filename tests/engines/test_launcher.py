"""Machines of a hostfile, and starting processes."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ltxcore.engines.launcher import Ended, Hosts, Passed, ended, free_port, read_hosts
from ltxcore.errors import ConfigError


def hosts(folder: Path, text: str, **options: int) -> Hosts:
    path = folder / "hosts"
    path.write_text(text)
    return read_hosts(path, **options)


def refusal(folder: Path, text: str, **options: int) -> str:
    with pytest.raises(ConfigError) as error:
        hosts(folder, text, **options)
    return str(error.value).replace(str(folder), "TMP")


def test_a_hostfile_names_the_machines_and_finds_this_one_among_them(tmp_path: Path) -> None:
    text = f"# all of them\n192.0.2.7 slots=8\n\n{socket.gethostname()} slots = 8  # here\n"
    assert hosts(tmp_path, text) == Hosts(("192.0.2.7", socket.gethostname()), here=1, slots=8)
    assert hosts(tmp_path, "192.0.2.7 slots=8\nlocalhost slots=8\n").here == 1


def test_the_number_of_this_machine_and_of_its_processes_may_be_said(tmp_path: Path) -> None:
    assert hosts(tmp_path, "192.0.2.7 slots=8\n192.0.2.8 slots=4\n", node_rank=1, processes=2) == Hosts(("192.0.2.7", "192.0.2.8"), 1, 2)
    assert hosts(tmp_path, "192.0.2.7\n", node_rank=0).slots == 1


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (
            "a slots=2\nb slots=3\n",
            "TMP/hosts: gives machines different numbers of slots: 2, 3\n    Write a line `NAME slots=N` for each machine, with the same N in all lines.",
        ),
        (
            "# none\n",
            "TMP/hosts: does not name any machine\n    Write a line `NAME slots=N` for each machine, with the same N in all lines.",
        ),
        ("a slots=two\n", 'TMP/hosts:1: "a slots=two" does not name a machine, or names one a second time\n    Write: NAME slots=N'),
        ("a\na\n", 'TMP/hosts:2: "a" does not name a machine, or names one a second time\n    Write: NAME slots=N'),
    ],
)
def test_a_hostfile_that_is_not_understood_is_refused(tmp_path: Path, text: str, what: str) -> None:
    assert refusal(tmp_path, text, node_rank=0) == what


@pytest.mark.parametrize(
    ("content", "what"),
    [(b"\xff\xfe", "is not UTF-8 text"), (None, "there is no such file"), (b"a slots=" + b"9" * 5000, '"a slots=999')],
)
def test_a_hostfile_that_cannot_be_read_is_refused_in_words(tmp_path: Path, content: bytes | None, what: str) -> None:
    path = tmp_path / "hosts"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as error:
        read_hosts(path, 0, None)
    assert what in str(error.value)


def test_a_machine_that_is_not_in_the_hostfile_is_asked_which_one_it_is(tmp_path: Path) -> None:
    assert refusal(tmp_path, "192.0.2.7 slots=2\n") == (
        f"TMP/hosts: this machine, {socket.gethostname()}, is not among 192.0.2.7\n    Give the number of this machine's line, counted from 0, with --node-rank."
    )


def test_a_line_that_the_hostfile_lacks_and_a_machine_without_a_process_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, "a\nb\n", node_rank=2) == (
        "--node-rank: TMP/hosts has no line 2: it names 2 machines, counted from 0\n    Give a number from 0 to 1."
    )
    assert refusal(tmp_path, "a slots=0\n", node_rank=0) == (
        'TMP/hosts:1: "a slots=0" gives the machine no process\n    Write an N of at least 1.'
    )


MEETING = "from ltxcore.engines.launcher import Hosts, launch; launch(['--help'], 1, Hosts(('127.0.0.1', '127.0.0.2'), {here}, 1), {port})"


@pytest.mark.slow
@pytest.mark.parametrize(("here", "number"), [(0, signal.SIGTERM), (1, signal.SIGINT)])
def test_a_launch_that_waits_for_another_machine_says_so_and_can_be_ended(here: int, number: signal.Signals) -> None:
    code = "import logging; logging.basicConfig(level=20, format='%(message)s'); " + MEETING.format(here=here, port=free_port())
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = next(line for line in process.stderr if "waiting" in line)
        assert f"waiting for the same command on 127.0.0.{2 - here}; all meet at 127.0.0.1:" in said
        time.sleep(3)  # by now torch waits
        process.send_signal(number)
        try:
            assert process.wait(timeout=60) in (128 + number, -signal.SIGINT)  # of the thread that listens, or of an exception before that
        finally:
            process.kill()


@pytest.mark.slow
def test_machines_that_cannot_meet_are_told_in_words() -> None:
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = other.getsockname()[1]
        done = subprocess.run([sys.executable, "-c", MEETING.format(here=0, port=port)], capture_output=True, text=True)
    assert done.returncode == 1
    error = done.stderr.splitlines()
    assert any(
        re.match(rf"ltxcore.errors.ProcessError: the machines of this run did not meet at 127.0.0.1:{port}: .*EADDRINUSE", line)
        for line in error
    )
    assert error[-1].endswith("--master-port sets another.")


def test_a_free_port_can_be_listened_on() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", free_port()))


@pytest.mark.parametrize(
    ("code", "status", "told"),
    [
        (
            -9,
            137,
            "process 3 was killed by signal 9 (SIGKILL), often by the kernel when memory runs out (`dmesg` says so), so this run ends",
        ),
        (
            -7,
            135,
            "process 3 was killed by signal 7 (SIGBUS), often because /dev/shm is full, or because a file was shortened while it was read, so this run ends",
        ),
        (-10, 138, "process 3 was killed by signal 10 (SIGUSR1), so this run ends"),
        (-40, 168, "process 3 was killed by signal 40, so this run ends"),
        (77, 77, "process 3 ended with exit status 77 and without a message, so this run ends"),
        (2, 2, ""),
        (130, 130, ""),
        (1, 1, ""),
    ],
)
def test_what_no_process_could_tell_the_launcher_does(code: int, status: int, told: str) -> None:
    assert ended(3, code, Passed()) == Ended(status, told)


def test_a_launch_that_was_asked_to_stop_tells_no_signal_as_news() -> None:
    assert ended(0, -15, Passed(first=15)) == Ended(143, "Stopped.")
    assert ended(0, -9, Passed(first=2, is_killed=True)) == Ended(130, "Ended at once, without saving.")


def test_the_first_signal_is_passed_on_and_the_second_ends_even_what_is_stopped() -> None:
    passed = Passed()
    with subprocess.Popen(
        [sys.executable, "-c", "import signal; signal.signal(signal.SIGINT, print); print(flush=True); signal.pause(); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        passed(signal.SIGINT, None)
        assert b"2" in child.stdout.readline()
        child.send_signal(signal.SIGSTOP)
        passed(signal.SIGINT, None)
        assert child.wait(timeout=20) == -signal.SIGKILL
    assert (passed.first, passed.is_killed) == (signal.SIGINT, True)


def test_an_interrupt_before_any_process_is_started_ends_the_launch() -> None:
    with pytest.raises(KeyboardInterrupt):
        Passed()(signal.SIGINT, None)
