"""`ltx launch`, which runs a run file in several processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ltxcore.api.commands import FilePath
from ltxcore.errors import Problem, many
from ltxcore.logs import LEVELS, VERBOSITY

if TYPE_CHECKING:
    from ltxcore.config.load import LoadedRun
    from ltxcore.engines.launcher import Hosts


@click.command()
@click.argument("run_file", type=FilePath())
@click.option(
    "--num-gpus",
    "processes",
    type=click.IntRange(min=1),
    help="Number of processes on this machine, each with its own GPU; by default one for each GPU.",
)
@click.option(
    "--hostfile",
    type=FilePath(exists=True, dir_okay=False),
    help="File that lists the machines of the run, with one line `NAME slots=N` for each.",
)
@click.option(
    "--node-rank",
    type=click.IntRange(min=0),
    help="Line of this machine in the hostfile, counted from 0; by default the line that has the machine's name.",
)
@click.option("--master-port", type=click.IntRange(min=1, max=65535), help="Port on the first machine that the other machines connect to.")
@click.option(
    "--launcher",
    type=click.Choice(["torchrun", "deepspeed"]),
    default="torchrun",
    show_default=True,
    help="Launcher that starts the processes.",
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override a value of the run file; may be repeated.")
@click.option("--allow-changes", is_flag=True, help="Resume an unfinished run although the run file has changed.")
@click.option("--take-over", is_flag=True, help="Take the run's folders over from another process, which then stops.")
@click.pass_context
def launch(
    ctx: click.Context,
    run_file: Path,
    processes: int | None,
    hostfile: Path | None,
    node_rank: int | None,
    master_port: int | None,
    launcher: str,
    settings: tuple[str, ...],
    allow_changes: bool,
    take_over: bool,
) -> None:
    """Train on several GPUs or machines: start `ltx run` in several processes.

    Without GPUs, the processes run on the CPU. To use several machines, run the same command on each of them, with the same
    hostfile.
    """
    from ltxcore.engines.launcher import PORT, exec_deepspeed, read_hosts
    from ltxcore.engines.launcher import launch as start
    from ltxcore.engines.process import quiet_torch
    from ltxcore.runs.engine import INSTALL_DEEPSPEED, has_deepspeed
    from ltxcore.runs.resume import where_it_lies
    from ltxcore.runs.run_folder import STATUS, goes_on

    if sys.platform == "win32":
        raise click.UsageError(
            "Several processes can only be started on Linux or in WSL. On Windows, train in one process: ltx run RUN_FILE"
        )
    if launcher == "deepspeed" and not has_deepspeed():
        raise click.UsageError(f"--launcher deepspeed needs the package deepspeed, which is not installed. {INSTALL_DEEPSPEED}")
    quiet_torch()  # before anything imports torch
    hosts = None if hostfile is None else read_hosts(hostfile, node_rank if launcher == "torchrun" else 0, processes)
    here = _processes(processes, hosts)
    loaded = _checked(run_file, settings, here * (1 if hosts is None else len(hosts.names)), allow_changes)
    flags = [name for name, is_set in (("--allow-changes", allow_changes), ("--take-over", take_over)) if is_set]
    command = ["run", str(run_file), *(f"--set={setting}" for setting in settings), *flags]
    if launcher == "deepspeed":
        # The launcher passes the environment on only to processes on this machine.
        verbosity = [f"--{how}" for how in LEVELS if how and how == os.environ.get(VERBOSITY)]
        exec_deepspeed([*verbosity, *command], None if hosts is not None and processes is None else here, hostfile, master_port)
    ended = start(command, here, hosts, master_port or PORT)
    if ended.told:
        click.echo(str(Problem(ended.told, remedy=goes_on(where_it_lies(loaded, STATUS)[0].config))), err=True)
    ctx.exit(ended.status)


def _processes(asked: int | None, hosts: Hosts | None) -> int:
    """Return the number of processes on this machine."""
    from ltxcore.devices import gpus

    there = gpus()
    count = asked or (hosts.slots if hosts is not None else there)
    if not count:
        raise click.UsageError("There is no GPU here. Say how many processes to start on the CPU: --num-gpus 2")
    if there and count > there:
        raise click.UsageError(f"{count} processes were requested, but this machine has {many(there, 'GPU', 'GPUs')}.")
    return count


def _checked(run_file: Path, settings: tuple[str, ...], world_size: int, allow_changes: bool) -> LoadedRun:
    """Load the run file and check it, so that its mistakes are shown before any process is started."""
    from ltxcore.config.load import load_run
    from ltxcore.runs.run_plan import check_outline

    loaded = load_run(run_file, settings)
    check_outline(loaded, world_size, allow_changes=allow_changes)
    return loaded
