"""Starting the processes of a run on this machine, and on others by a hostfile.

torchrun's agent runs inside this process, so that what ends the run is told once, by the process that met it, and a signal reaches every process
while there is time to save.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import attrs

from ltxcore.errors import ConfigError

PORT = 29500
"""Where processes on several machines meet, unless another port is asked for; on one machine they take a free one."""

MODULE = "ltxcore"


@attrs.frozen
class Hosts:
    """The machines of a run, the first of which is where they meet, and which of them this one is.

    Attributes:
        names: of all.
        here: number of this one.
        slots: processes on each.
    """

    names: tuple[str, ...]
    here: int
    slots: int


def read_hosts(path: Path, node_rank: int | None = None, processes: int | None = None) -> Hosts:
    """A hostfile: a line `NAME slots=N` for each machine, as DeepSpeed and MPI have it.

    Args:
        path: of the file.
        node_rank: number of this machine; none: found by its names and addresses.
        processes: on each machine; none: as many as the file says.

    Raises:
        ConfigError: lines that are not understood, machines with different numbers of slots, or this machine is not among them.
    """
    lines = [line.split("#")[0].strip() for line in path.read_text().splitlines()]
    found: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        match = re.fullmatch(r"(\S+)(?:\s+slots\s*=\s*(\d+))?", line)
        if match is None or match[1] in found:
            raise ConfigError(
                f'"{line}" is no machine, or one that was named before', where=f"{path}:{number}", remedy="Write: NAME slots=N"
            )
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
    """Which of these machines this one is."""
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


def launch(command: Sequence[str], processes: int, hosts: Hosts | None = None, port: int = PORT) -> int:
    """Run `python -m ltxcore COMMAND` in several processes on this machine, and wait for all of them.

    SIGINT and SIGTERM are passed on to each; a run then finishes its step and saves, however long that takes.

    Args:
        command: arguments of `ltx`.
        processes: on this machine.
        hosts: all machines, on each of which this is called; none: this one alone.
        port: where processes on several machines meet.

    Returns:
        The exit status of the process that ended first with one other than 0; for one that a signal ended, 128 and its number.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    place = ["--standalone"]
    if hosts is not None:
        place = [f"--nnodes={len(hosts.names)}", f"--node-rank={hosts.here}", f"--master-addr={hosts.names[0]}", f"--master-port={port}"]
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as torchrun would, with a remark
    logging.disable(logging.ERROR)  # the processes tell what is wrong
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _pass_on)
    arguments = [*place, f"--nproc-per-node={processes}", "--signals-to-handle=SIGHUP,SIGQUIT", "--module", MODULE, *command]
    try:
        run(parse_args(arguments))
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        return failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
    return 0


def _pass_on(number: int, _: FrameType | None) -> None:
    import psutil  # type: ignore[import-untyped, unused-ignore]

    for child in psutil.Process().children():
        child.send_signal(number)


def exec_deepspeed(command: Sequence[str], processes: int | None, hostfile: Path | None, port: int | None) -> None:
    """Become the `deepspeed` launcher, which reaches other machines by ssh."""
    place = [] if processes is None else [f"--num_gpus={processes}"]
    if hostfile is not None:
        place.append(f"--hostfile={hostfile}")
    place.append(f"--master_port={port or free_port()}")
    os.execv(sys.executable, [sys.executable, "-m", "deepspeed.launcher.runner", *place, "--module", MODULE, *command])


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
