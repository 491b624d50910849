"""`ltx plan`, which estimates what a run needs in memory and on disk before it starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import click

from ltxcore.api.commands import FilePath, FiniteRange, columns
from ltxcore.errors import ConfigError, Problem, many
from ltxcore.progress import doing

if TYPE_CHECKING:
    from ltxcore.config.load import LoadedRun

TOO_LARGE = 1
"""The exit status if the run does not fit into memory."""


@click.command()
@click.argument("run_file", type=FilePath())
@click.option("--gpus", type=click.IntRange(min=1), help="Number of GPUs; by default all GPUs of this machine, or one if it has none.")
@click.option(
    "--gpu-memory",
    type=FiniteRange(min=0, min_open=True),
    help="Memory of each GPU in GiB; by default that of this machine's first GPU, or 80 without a GPU.",
)
@click.option(
    "--gpu",
    "gpu_name",
    type=click.Choice(["h100", "h200", "a100", "l40s", "4090", "5090", "3090"]),
    help="GPU for which the time of a step is predicted, and whose memory is used unless --gpu-memory is given; by default the one whose memory is nearest.",
)
@click.option(
    "--nodes", type=click.IntRange(min=1), default=1, show_default=True, help="Number of machines; the GPUs are divided evenly among them."
)
@click.option("--model", metavar="NAME", help="Plan for a released model without its weights: ltx-2-19b, ltx-2.3-22b or ltx-2.5-22b.")
@click.option(
    "--bucket",
    metavar="WxHxF",
    help="Size of the largest clip, used instead of the one in the run file or the data; the data are then not needed.",
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override a value of the run file; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs; sizes are in bytes.")
@click.pass_context
def plan(
    ctx: click.Context,
    run_file: Path,
    gpus: int | None,
    gpu_memory: float | None,
    gpu_name: str | None,
    nodes: int,
    model: str | None,
    bucket: str | None,
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Compute what a run needs on each GPU, in CPU memory and on disk, about how long it takes, and what to change if it does not fit.

    The real model is run on tensors without storage, so neither a GPU nor the weights are needed. The size of the clips is that of the
    encoded data; if there are none, it follows from the headers of the dataset's files. If --bucket or the run file's
    resolution_buckets gives the size, the data are not needed either; the frame rate is then taken to be 24, unless the dataset is
    on this machine. The exit status is 1 if the run does not fit.
    """
    loaded = _loaded(run_file, settings, model)
    from ltxcore.planner.cost_in_json import machine
    from ltxcore.planner.costs import GIB, UNKNOWN, advice, cost, told
    from ltxcore.planner.seconds import GPUS

    gpu = None if gpu_name is None else GPUS[gpu_name]
    count, memory = _here(gpus, gpu.memory if gpu is not None and gpu_memory is None else gpu_memory)
    if nodes > count:
        raise click.UsageError(f"{many(count, 'GPU', 'GPUs')} cannot be divided evenly among {nodes} machines.")
    with doing() as tell:
        found = cost(loaded, count, int(memory * GIB), nodes=nodes, model=model, bucket=bucket, gpu=gpu, tell=tell)
    if as_json:
        click.echo(json.dumps(machine(found), indent=2))
    else:
        for head, rows in told(found):
            click.echo(f"{head}\n{columns([('  ' + name, value) for name, value in rows])}\n")
        for line in advice(found):
            click.echo(line)
        click.echo(UNKNOWN)
    if not found.fits:
        ctx.exit(TOO_LARGE)


def _loaded(run_file: Path, settings: tuple[str, ...], model: str | None) -> LoadedRun:
    """Load the run file. The data and the media of samples may be on another machine, as may the paths of `[model]` if a released
    model is named.
    """
    from ltxcore.config.load import load_run

    try:
        return load_run(run_file, settings, elsewhere=("data", "objectives", "validation", *(() if model is None else ("model",))))
    except ConfigError as error:
        raise ConfigError.of(_with_model(problem) if model is None else problem for problem in error.problems) from error


def _with_model(problem: Problem) -> Problem:
    if not problem.where.endswith(": model.model_path"):
        return problem
    return attrs.evolve(problem, remedy=f"{problem.remedy} If it is on another machine, name it: --model NAME.".strip())


def _here(gpus: int | None, gpu_memory: float | None) -> tuple[int, float]:
    """Return the number of GPUs and the memory of each in GiB, as given by the options or, without them, by this machine."""
    from ltxcore import devices

    there = devices.gpus()
    memory = devices.gpu_memory(0) / 2**30 if there else 80.0
    return gpus or max(1, there), gpu_memory or memory
