"""Starting the processes of a run on this machine, and on others by a hostfile.

torchrun's agent runs inside this process, so that what ends the run is told once, by the process that met it, and a signal reaches every process
while there is time to save.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import attrs

from ltxcore.engines.alive import TOLD
from ltxcore.engines.process import OURS
from ltxcore.engines.signals import is_same_request
from ltxcore.errors import ConfigError
from ltxcore.files import text_in, why_unread
from ltxcore.logs import hushed

PORT = 29500
"""The port at which processes on several machines meet by default; on one machine they take a free one."""

MODULE = "ltxcore"


@attrs.frozen
class Hosts:
    """The machines of a run, and which of them this one is; processes meet on the first.

    Attributes:
        names: of all.
        here: number of this one.
        slots: processes on each.
    """

    names: tuple[str, ...]
    here: int
    slots: int


def read_hosts(path: Path, node_rank: int | None = None, processes: int | None = None) -> Hosts:
    """Read a hostfile, which has a line `NAME slots=N` for each machine, as for DeepSpeed and MPI.

    Args:
        path: of the file.
        node_rank: number of this machine; none: found by its names and addresses.
        processes: on each machine; none: as many as the file says.

    Raises:
        ConfigError: lines that are not understood, machines with different numbers of slots, or this machine is not among them.
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
            raise ConfigError(f'"{line}" is not a machine, or was named before', where=f"{path}:{number}", remedy="Write: NAME slots=N")
        found[match[1]] = int(match[2] or 1)
    slots = {processes} if processes is not None else set(found.values())
    if len(slots) != 1:
        what = (
            "names no machine" if not found else f"gives machines different numbers of slots: {', '.join(map(str, sorted(found.values())))}"
        )
        raise ConfigError(what, where=str(path), remedy="Write a line `NAME slots=N` for each, with one N.")
    names = tuple(found)
    return Hosts(names, _here(names, path) if node_rank is None else node_rank, slots.pop())


def _here(names: Sequence[str], path: Path) -> int:
    """Find out which of these machines this one is."""
    own = {socket.gethostname(), socket.getfqdn(), "localhost"}
    mine = own | {address for name in own for address in _addresses(name)}
    for number, name in enumerate(names):
        if name in mine or _addresses(name) & mine:
            return number
    raise ConfigError(
        f"this machine, {socket.gethostname()}, is none of {', '.join(names)}",
        where=str(path),
        remedy="Say which one it is with --node-rank.",
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
        status: exit status of the process that ended first with one other than 0; for one that a signal ended, 128 and its number.
        told: what none of the processes could tell; "" where there is nothing.
    """

    status: int
    told: str = ""


def launch(command: Sequence[str], processes: int, hosts: Hosts | None = None, port: int = PORT) -> Ended:
    """Run `python -m ltxcore COMMAND` in several processes on this machine, and wait for all of them.

    SIGINT, SIGTERM and SIGHUP are passed on to each; a run then finishes its step and saves, however long that takes. A second one ends all at once.

    Args:
        command: arguments of `ltx`.
        processes: on this machine.
        hosts: all machines, on each of which this is called; none: this one alone.
        port: where processes on several machines meet.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    place = ["--standalone"]
    if hosts is not None:
        place = [f"--nnodes={len(hosts.names)}", f"--node-rank={hosts.here}", f"--master-addr={hosts.names[0]}", f"--master-port={port}"]
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as torchrun would, with a remark
    os.environ[OURS] = "1"
    passed = Passed()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves SIGHUP
            signal.signal(number, passed)
    arguments = [*place, f"--nproc-per-node={processes}", "--signals-to-handle=SIGQUIT", "--module", MODULE, *command]
    try:
        with hushed("torch.distributed"):  # the processes tell what is wrong
            run(parse_args(arguments))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        return ended(rank, failure.exitcode, passed)
    return Ended(0)


@attrs.define
class Passed:
    """Passes signals on to the started processes: the first as it is, and later ones as SIGKILL, which ends even stopped processes."""

    first: int = 0
    at: float = 0.0
    is_killed: bool = False

    def __call__(self, number: int, _: FrameType | None) -> None:
        import psutil  # type: ignore[import-untyped, unused-ignore]

        children = psutil.Process().children(recursive=bool(self.first))
        if not children and not self.first:
            raise KeyboardInterrupt  # there is nothing to wait for yet
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
    "SIGBUS": ", often since /dev/shm is full, or since a file grew shorter while it was read",
    "SIGSEGV": ", by a fault in compiled code",
    "SIGABRT": ", by a fault in compiled code that says why above",
}
"""The usual cause of a process's end by each signal."""

INTERRUPTED = 130
"""The exit status of a process that was asked to stop, and said so."""

TRACEBACK = 1
"""The exit status of a process that ended with a traceback."""


def ended(rank: int, code: int, passed: Passed) -> Ended:
    """Describe the end of a launch whose process `rank` ended first, with an exit code that is negative for a signal."""
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
    name = signal.Signals(-code).name
    return Ended(128 - code, f"process {rank} was killed by signal {-code} ({name}){HINTS.get(name, '')}, so this run ends")


def exec_deepspeed(command: Sequence[str], processes: int | None, hostfile: Path | None, port: int | None) -> None:
    """Become the `deepspeed` launcher, which reaches other machines by ssh."""
    place = [] if processes is None else [f"--num_gpus={processes}"]
    if hostfile is not None:
        place.append(f"--hostfile={hostfile}")
    place.append(f"--master_port={port or free_port()}")
    os.execv(sys.executable, [sys.executable, "-m", "deepspeed.launcher.runner", *place, "--module", MODULE, *command])


def free_port() -> int:
    """Return a port that nothing listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
