"""Functions that start the processes of a run, on this machine or on the machines in a hostfile.

torchrun's agent runs inside this process. Whatever ends the run is thus reported once, by the process where it happened, and a signal
reaches every process in time to save.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

import attrs

from ltxcore.engines.alive import TOLD
from ltxcore.engines.process import OURS, first_line
from ltxcore.engines.signals import is_same_request
from ltxcore.errors import ConfigError, ProcessError, listed, many
from ltxcore.files import text_in, why_unread
from ltxcore.logs import hushed, inform

PORT = 29500
"""The default port at which processes on several machines meet. On a single machine, they use any free port."""

MODULE = "ltxcore"


@attrs.frozen
class Hosts:
    """The machines of a run, and the index of this machine. Processes meet on the first machine.

    Attributes:
        names: the names of all machines.
        here: the index of this machine.
        slots: the number of processes on each machine.
    """

    names: tuple[str, ...]
    here: int
    slots: int


def read_hosts(path: Path, node_rank: int | None = None, processes: int | None = None) -> Hosts:
    """Read a hostfile in the format of DeepSpeed and MPI, which has a line `NAME slots=N` for each machine.

    Args:
        path: the path of the file.
        node_rank: the index of this machine; None finds it by the machine's names and addresses.
        processes: the number of processes on each machine; None takes it from the file.

    Raises:
        ConfigError: lines cannot be parsed, machines have different numbers of slots or none, or this machine is not listed.
    """
    try:
        lines = [line.split("#")[0].strip() for line in text_in(path).splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        what = why_unread(error) if isinstance(error, OSError) else "is not UTF-8 text"
        raise ConfigError(what, where=str(path), remedy="Write a line `NAME slots=N` for each machine.") from error
    found: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        match = re.fullmatch(r"(\S+)(?:\s+slots\s*=\s*(\d{1,6}))?", line)
        if match is None or match[1] in found:
            raise ConfigError(
                f'"{line}" does not name a machine, or names one a second time', where=f"{path}:{number}", remedy="Write: NAME slots=N"
            )
        found[match[1]] = int(match[2] or 1)
        if not found[match[1]]:
            raise ConfigError(f'"{line}" gives the machine no process', where=f"{path}:{number}", remedy="Write an N of at least 1.")
    slots = {processes} if processes is not None else set(found.values())
    if len(slots) != 1:
        what = (
            "does not name any machine"
            if not found
            else f"gives machines different numbers of slots: {', '.join(map(str, sorted(found.values())))}"
        )
        raise ConfigError(what, where=str(path), remedy="Write a line `NAME slots=N` for each machine, with the same N in all lines.")
    names = tuple(found)
    if node_rank is not None and node_rank >= len(names):
        what = f"{path} has no line {node_rank}: it names {many(len(names), 'machine', 'machines')}, counted from 0"
        raise ConfigError(what, where="--node-rank", remedy=f"Give a number from 0 to {len(names) - 1}.")
    return Hosts(names, _here(names, path) if node_rank is None else node_rank, slots.pop())


def _here(names: Sequence[str], path: Path) -> int:
    """Find the index of this machine in the hostfile."""
    own = {socket.gethostname(), socket.getfqdn(), "localhost"}
    mine = own | {address for name in own for address in _addresses(name)}
    for number, name in enumerate(names):
        if name in mine or _addresses(name) & mine:
            return number
    raise ConfigError(
        f"this machine, {socket.gethostname()}, is not among {', '.join(names)}",
        where=str(path),
        remedy="Give the number of this machine's line, counted from 0, with --node-rank.",
    )


def _addresses(name: str) -> set[str]:
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(name, None)}
    except OSError:
        return set()


@attrs.frozen
class Ended:
    """The end of a launch.

    Attributes:
        status: the exit status of the first process that ended with a status other than 0; 128 plus the signal's number if a signal ended
            it.
        told: facts that the processes could not report themselves; "" if there are none.
    """

    status: int
    told: str = ""


def launch(command: Sequence[str], processes: int, hosts: Hosts | None = None, port: int = PORT) -> Ended:
    """Run `python -m ltxcore COMMAND` in several processes on this machine, and wait for all of them.

    SIGINT, SIGTERM and SIGHUP are passed on to each process; a run then finishes its step and saves, however long that
    takes. A second signal kills all processes immediately.

    Args:
        command: the arguments of `ltx`.
        processes: the number of processes on this machine.
        hosts: all machines of the run, if it has several; this function must be called on each of them. None for this machine alone.
        port: the port where processes on several machines meet.

    Raises:
        ProcessError: the machines do not find each other, or the port is in use.
    """
    from torch.distributed import DistError
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    place = ["--standalone"]
    if hosts is not None:
        place = [f"--nnodes={len(hosts.names)}", f"--node-rank={hosts.here}", f"--master-addr={hosts.names[0]}", f"--master-port={port}"]
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as torchrun does, but torchrun also prints a remark
    os.environ[OURS] = "1"
    passed = Passed()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # keep SIGHUP ignored, as nohup set it
            signal.signal(number, passed)
    arguments = [*place, f"--nproc-per-node={processes}", "--signals-to-handle=SIGQUIT", "--module", MODULE, *command]
    try:
        with hushed("torch.distributed"), _ending_alone(passed):  # the processes report what is wrong
            if hosts is not None and len(hosts.names) > 1:
                others = listed(name for index, name in enumerate(hosts.names) if index != hosts.here)
                inform(f"waiting for the same command on {others}; all meet at {hosts.names[0]}:{port}")
            run(parse_args(arguments))
    except DistError as error:
        at = "" if hosts is None else f" at {hosts.names[0]}:{port}"
        what = f"the machines of this run did not meet{at}: {first_line(error)}"
        remedy = "Run the same command on each machine, and see that the first one can be reached at that port; --master-port sets another."
        raise ProcessError(what, remedy=remedy) from error
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        return ended(rank, failure.exitcode, passed)
    return Ended(0)


@contextlib.contextmanager
def _ending_alone(passed: Passed) -> Iterator[None]:
    """Return a context in which a signal ends this process at once, as long as it has started no other process. While torch waits for the
    other machines, no handler of Python runs in the main thread.
    """
    hears, says = socket.socketpair()
    says.setblocking(False)
    before = signal.set_wakeup_fd(says.fileno(), warn_on_full_buffer=False)

    def hear() -> None:
        import psutil  # type: ignore[import-untyped, unused-ignore]

        while number := hears.recv(1):
            if not passed.first and signal.getsignal(number[0]) is passed and not psutil.Process().children():
                os.write(2, b"Stopped.\n")
                os._exit(128 + number[0])

    thread = threading.Thread(target=hear, daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        says.close()
        thread.join()
        hears.close()


@attrs.define
class Passed:
    """A signal handler that passes the first signal on to the started processes, and later ones as SIGKILL, which ends even stopped
    processes.
    """

    first: int = 0
    at: float = 0.0
    is_killed: bool = False

    def __call__(self, number: int, _: FrameType | None) -> None:
        import psutil  # type: ignore[import-untyped, unused-ignore]

        children = psutil.Process().children(recursive=bool(self.first))
        if not children and not self.first:
            raise KeyboardInterrupt  # no process has started yet
        if self.first and is_same_request(number, time.monotonic() - self.at):
            return
        self.is_killed = bool(self.first)
        self.first, self.at = self.first or number, self.at or time.monotonic()
        to_send = signal.SIGKILL if self.is_killed else signal.SIGINT if number == signal.SIGINT else signal.SIGTERM
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.send_signal(to_send)


HINTS = {
    "SIGKILL": ", often by the kernel when memory runs out (`dmesg` says so)",
    "SIGBUS": ", often because /dev/shm is full, or because a file was shortened while it was read",
    "SIGSEGV": ", by a fault in compiled code",
    "SIGABRT": ", by a fault in compiled code, which printed the reason above",
}
"""The usual reason why a process is ended by each signal."""

INTERRUPTED = 130
"""The exit status of a process that was asked to stop and has reported this."""

TRACEBACK = 1
"""The exit status of a process that ended with a traceback."""


def ended(rank: int, code: int, passed: Passed) -> Ended:
    """Describe the end of a launch in which process `rank` ended first. A negative exit code stands for a signal."""
    if passed.is_killed:
        return Ended(128 + passed.first, "Ended at once, without saving.")
    if code >= 0:
        told = (
            ""
            if code in (TOLD, INTERRUPTED, TRACEBACK)
            else f"process {rank} ended with exit status {code} and without a message, so this run ends"
        )
        return Ended(code, told)
    if passed.first:
        return Ended(128 - code, "Stopped.")
    name = next((each.name for each in signal.Signals if each == -code), "")  # most real-time signals have no name
    called = f" ({name})" if name else ""
    return Ended(128 - code, f"process {rank} was killed by signal {-code}{called}{HINTS.get(name, '')}, so this run ends")


def exec_deepspeed(command: Sequence[str], processes: int | None, hostfile: Path | None, port: int | None) -> None:
    """Replace this process with the `deepspeed` launcher, which reaches other machines by ssh."""
    place = [] if processes is None else [f"--num_gpus={processes}"]
    if hostfile is not None:
        place.append(f"--hostfile={hostfile}")
    place.append(f"--master_port={port or free_port()}")
    os.execv(sys.executable, [sys.executable, "-m", "deepspeed.launcher.runner", *place, "--module", MODULE, *command])


def free_port() -> int:
    """Return a port on which nothing is listening now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
