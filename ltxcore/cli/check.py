"""`ltx check`, which finds what is wrong with a run without running it, and shows what a dataset holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from ltxcore.api.commands import FilePath
from ltxcore.conditions import ConditionUse
from ltxcore.errors import DataError
from ltxcore.later import uncollected
from ltxcore.progress import bars

if TYPE_CHECKING:
    from ltxcore.config.load import LoadedRun

NOT_HERE = "Not checked: damaged media, NaN in weights, and memory. See `ltx doctor` and `ltx plan`."
"""The sentence at the end of a run file's check, about faults that the check cannot find."""


@click.command()
@click.argument("target", metavar="RUN.TOML|DATASET", type=FilePath())
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override a value of the run file; may be repeated.")
@click.option(
    "--plugins/--no-plugins",
    "runs_plugins",
    default=True,
    help="Whether to execute the Python files named by `plugins` in the run file, as `ltx run` does. Without them, some keys cannot be checked.  [default: plugins]",
)
@uncollected()
def check(target: Path, settings: tuple[str, ...], runs_plugins: bool) -> None:
    """Check a run file without running it, or summarize a dataset: a folder of media or a dataset file.

    Every part of a run file is checked, even if others have mistakes, and all mistakes are printed at once: keys, folders and free space,
    the headers of models and LoRAs, the rows of datasets, the headers of at most 200 media files, and the manifests of encoded samples.
    What the run repairs by itself, such as encoding samples again, is printed as a note. Nothing is written, fully decoded or loaded.

    For a dataset, the media are counted and measured (at most 200 files) and buckets are proposed; --set takes keys of [preprocessing],
    such as --set prefer=video.

    `plugins` in a run file names Python files, and this command executes them. Read those of a stranger's run file first, or use --no-plugins.
    """
    from ltxcore.dataset.sources import endings, is_dataset
    from ltxcore.files import is_folder

    if is_folder(target) or target.suffix.lower() in endings() or is_dataset(target):
        _check_dataset(target, settings)
        return
    from ltxcore.config.load import UnreadPlugins, read_run
    from ltxcore.runs.checks import check_run

    read = read_run(target, settings, runs_plugins=runs_plugins)
    try:
        with bars() as phase:
            checked = check_run(read, phase)
    except UnreadPlugins as unread:
        click.echo(f"{target} is valid, as far as that can be checked without its plugins, which were not loaded.")
        click.echo(str(unread))
        return
    if read.loaded.registry.unread:
        click.echo(f"Not run: {', '.join(map(str, read.loaded.registry.unread))}.")
    click.echo(f"{target} is valid.")
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
            f"This is based on {opened} files spread over the dataset; {found.others:,} more were not opened. `ltx doctor {path}` opens every file."
        )
    for note in found.data.notes:
        click.echo(note)
    if found.data.left_out:
        click.echo(f'{len(found.data.left_out)} left out (on_error = "skip"):')
        for problem in found.data.left_out:
            click.echo(f"  {problem.where}: {problem.what}")
    if found.buckets and options.resolution_buckets is None:
        click.echo(
            "To keep roughly the size of the clips, write under [preprocessing] in a run file (smaller buckets need less memory, see `ltx plan`):"
        )
        click.echo(found.buckets)
        if found.others:
            click.echo("The files that were not opened may need other buckets.")
    if found.problems:
        raise DataError.of(found.problems)


def summary(loaded: LoadedRun) -> list[tuple[str, str]]:
    """Return the run in a few lines: mode, modalities, conditions, steps."""
    from ltxcore.runs.group_settings import group_lines

    config = loaded.config
    mode = f"LoRA of rank {config.lora.ranks}" if config.model.training_mode == "lora" else "full fine-tuning"
    optimization = config.optimization
    batch = f"batch size {optimization.batch_size}"
    if optimization.gradient_accumulation_steps > 1:
        batch += f", {optimization.gradient_accumulation_steps} accumulated"
    lines = [("mode", f"{mode} on {config.model.model_path}"), ("strategy", config.strategy_name)]
    lines += modality_lines(config.training_strategy)
    lines += [("group", f"{name}: {what}") for name, what in group_lines(config)]
    return [*lines, ("steps", f"{optimization.steps}, {batch}")]


def modality_lines(strategy: Any) -> list[tuple[str, str]]:
    """Return a line for each modality of a strategy: generated or frozen, and its conditions."""
    lines = []
    for field in attrs.fields(type(strategy)):
        table = getattr(strategy, field.name)
        if hasattr(table, "is_generated"):
            uses = [_use(use) for use in getattr(table, "conditions", []) if isinstance(use, ConditionUse)]
            lines.append((field.name, ", ".join(["generated" if table.is_generated else "frozen", *uses])))
    return lines


def _use(use: ConditionUse) -> str:
    return use.type if use.probability == 1 else f"{use.type} (probability {use.probability:g})"
