"""`ltx check`: what can be found wrong with a run without running it, and what a dataset holds."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from ltxcore.api.commands import FilePath
from ltxcore.conditions import ConditionUse
from ltxcore.errors import DataError
from ltxcore.progress import bars

if TYPE_CHECKING:
    from ltxcore.config.load import LoadedRun

NOT_HERE = "Only decoding, loading and running show damaged media, weights that are no numbers, and memory: `ltx doctor`, `ltx plan`."
"""What a check of a run file ends with."""


@contextmanager
def uncollected() -> Iterator[None]:
    """No search for garbage in the block, which is over before there is much: importing torch and reading many rows would start dozens of them."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@click.command()
@click.argument("target", metavar="RUN.TOML|DATASET", type=FilePath())
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override a value of the run file; may be repeated.")
@click.option(
    "--plugins/--no-plugins",
    "runs_plugins",
    default=True,
    help="Run the Python files that `plugins` of the run file names, as `ltx run` does; or do not, and leave out what they would add. By default they are run.",
)
@uncollected()
def check(target: Path, settings: tuple[str, ...], runs_plugins: bool) -> None:
    """Check a run file without running it; or show a dataset, a folder of media or a dataset file, as it is understood.

    Of a run file, every part is looked at, whatever is wrong with the others, and all mistakes are printed in one go: keys, folders and free space, the headers of
    models and LoRAs, rows of datasets, headers of at most 200 media files, manifests of what is encoded. What the run does about them by itself, such as encoding
    samples anew, is told and is no mistake. Nothing is written, decoded in full or loaded.

    Of a dataset, its media are counted and measured, those of at most 200 files, and buckets are proposed for it; --set takes keys of [preprocessing], such as
    --set prefer=video.

    `plugins` of a run file names Python files, which are run, here too. Read a stranger's run file for it before you check it, or check it with --no-plugins.
    """
    from ltxcore.dataset.table import FORMATS
    from ltxcore.files import is_folder

    if is_folder(target) or target.suffix.lower() in FORMATS:
        _check_dataset(target, settings)
        return
    from ltxcore.config.load import UnreadPlugins, read_run
    from ltxcore.runs.checks import check_run

    read = read_run(target, settings, runs_plugins=runs_plugins)
    try:
        with bars() as phase:
            checked = check_run(read, phase)
    except UnreadPlugins as unread:
        click.echo(f"{target} is in order, as far as it can be read without its plugins, which were not run.")
        click.echo(str(unread))
        return
    if read.loaded.registry.unread:
        click.echo(f"Not run: {', '.join(map(str, read.loaded.registry.unread))}.")
    click.echo(f"{target} is in order.")
    for name, value in [*summary(read.loaded), ("samples", checked.samples)]:
        click.echo(f"  {name:<11} {value}")
    for note in checked.notes:
        click.echo(note)
    click.echo(NOT_HERE)


def _check_dataset(path: Path, settings: tuple[str, ...]) -> None:
    """Print what a dataset holds.

    Raises:
        DataError: it cannot be used as it is.
    """
    from ltxcore.config.load import preprocessing_of
    from ltxcore.encode.overview import lines, overview

    options = preprocessing_of(settings)
    with bars() as phase:
        found = overview(path, options, phase)
    count = len(found.data.samples)
    click.echo(f"{path} is a dataset of {count} sample{'' if count == 1 else 's'}.")
    for name, value in lines(found):
        click.echo(f"  {name:<11} {value}")
    if found.others:
        opened = len(found.infos)
        click.echo(
            f"What the files hold is told of {opened} of them, spread over all; {found.others:,} more were not opened: `ltx doctor {path}` opens every one."
        )
    for note in found.data.notes:
        click.echo(note)
    if found.data.left_out:
        click.echo(f"{len(found.data.left_out)} left out, as on_error says:")
        for problem in found.data.left_out:
            click.echo(f"  {problem.where}: {problem.what}")
    if found.buckets and options.resolution_buckets is None:
        click.echo(
            "For the [preprocessing] of a run file, if the clips are to keep about their size (smaller ones take less memory, see `ltx plan`):"
        )
        click.echo(found.buckets)
        if found.others:
            click.echo("The files that were not opened may need others.")
    if found.problems:
        raise DataError.of(found.problems)


def summary(loaded: LoadedRun) -> list[tuple[str, str]]:
    """What the run is, in a few lines: mode, modalities, conditions, steps."""
    config = loaded.config
    mode = f"LoRA of rank {config.lora.rank}" if config.model.training_mode == "lora" else "full fine-tuning"
    optimization = config.optimization
    batch = f"batch size {optimization.batch_size}"
    if optimization.gradient_accumulation_steps > 1:
        batch += f", {optimization.gradient_accumulation_steps} accumulated"
    lines = [("mode", f"{mode} on {config.model.model_path}"), ("strategy", config.strategy_name)]
    lines += modality_lines(config.training_strategy)
    return [*lines, ("steps", f"{optimization.steps}, {batch}")]


def modality_lines(strategy: Any) -> list[tuple[str, str]]:
    """For each modality of a strategy: generated or frozen, and its conditions."""
    lines = []
    for field in attrs.fields(type(strategy)):
        table = getattr(strategy, field.name)
        if hasattr(table, "is_generated"):
            uses = [_use(use) for use in getattr(table, "conditions", []) if isinstance(use, ConditionUse)]
            lines.append((field.name, ", ".join(["generated" if table.is_generated else "frozen", *uses])))
    return lines


def _use(use: ConditionUse) -> str:
    return use.type if use.probability == 1 else f"{use.type} (probability {use.probability:g})"
