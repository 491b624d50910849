"""`ltx check`, which finds the mistakes in a run without running it, and summarizes a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from ltxcore.api.commands import FilePath, plugin_option
from ltxcore.conditions import ConditionUse
from ltxcore.config.render import value_text
from ltxcore.errors import ConfigError, DataError
from ltxcore.later import uncollected
from ltxcore.modality_tables import Choice
from ltxcore.objectives import ObjectiveUse
from ltxcore.progress import bars

if TYPE_CHECKING:
    from ltxcore.config.load import LoadedRun
    from ltxcore.config.preprocessing import PreprocessingTable
    from ltxcore.registry import Registry

NOT_HERE = "Not checked: damaged media, NaN in weights, and memory. See `ltx doctor` and `ltx plan`."
"""The last line that a check prints: the faults that it cannot find."""


@click.command()
@click.argument("target", metavar="RUN.TOML|DATASET", type=FilePath())
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override a value of the run file; may be repeated.")
@click.option(
    "--plugins/--no-plugins",
    "runs_plugins",
    default=True,
    help="Whether to execute the Python files named by `plugins` in the run file, as `ltx run` does. If they are not executed, some keys cannot be checked.  [default: plugins]",
)
@plugin_option("sources that read DATASET")
@uncollected(keep=True)
def check(target: Path, settings: tuple[str, ...], runs_plugins: bool, plugins: tuple[Path, ...]) -> None:
    """Check a run file without running it, or summarize a dataset: a folder of media or a dataset file.

    Every part of a run file is checked, even if other parts have mistakes: keys, folders and free space, the headers of models and LoRAs,
    the rows of datasets, the headers of at most 200 media files, and the manifests of encoded samples. All mistakes are printed at once.
    Faults that the run repairs by itself, for example by encoding samples again, are printed as notes. Nothing is written, fully decoded or
    loaded.

    For a dataset, the media are counted and measured (at most 200 files), and buckets are proposed; --set takes keys of [preprocessing],
    such as --set prefer=video.

    `plugins` in a run file names Python files, and this command executes them. If the run file comes from a stranger, read these files
    first, or use --no-plugins.
    """
    from ltxcore.config.preprocessing import PreprocessingTable
    from ltxcore.dataset.sources import endings, is_dataset
    from ltxcore.files import is_folder
    from ltxcore.registry import load_with

    known = PreprocessingTable(registry=load_with(plugins))
    if is_folder(target) or target.suffix.lower() in endings(known) or is_dataset(target, known):
        _check_dataset(target, settings, known.registry)
        return
    _refuse_other_files(target, known)
    if plugins:
        raise click.UsageError("--plugin is for a dataset; a run file names its Python files itself, in `plugins`.")
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


def _refuse_other_files(path: Path, options: PreprocessingTable) -> None:
    """Refuse a file that is not TOML and whose extension is not that of a run file, since it is a dataset that no source reads.

    Raises:
        DataError: the file is such a file.
    """
    from ltxcore.config.load import text_of
    from ltxcore.config.toml import parsed_toml
    from ltxcore.encode.roots import data_kind
    from ltxcore.files import is_file

    if path.suffix.lower() in ("", ".toml") or not is_file(path):
        return
    try:
        parsed_toml(text_of(path), path)
    except ConfigError:
        data_kind(path, options)


def _check_dataset(path: Path, settings: tuple[str, ...], registry: Registry) -> None:
    """Print a summary of a dataset.

    Raises:
        DataError: the dataset cannot be used without changes.
    """
    from ltxcore.config.load import preprocessing_of
    from ltxcore.encode.overview import lines, overview

    options = preprocessing_of(settings, registry)
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
    if found.chosen is not None:
        click.echo("\n  ".join([f"{found.chosen.told(found.root)}:", *found.chosen.cropping]))
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
    """Return the run in a few lines: mode, modalities, conditions, objectives, steps."""
    from ltxcore.runs.group_settings import group_lines

    config = loaded.config
    mode = config.lora.in_words if config.model.training_mode == "lora" else "full fine-tuning"
    optimization = config.optimization
    batch = optimization.micro_batch
    if optimization.gradient_accumulation_steps > 1:
        batch += f", {optimization.gradient_accumulation_steps} accumulated"
    lines = [("mode", f"{mode} on {config.model.model_path}"), ("strategy", config.strategy_name)]
    lines += modality_lines(config.training_strategy)
    lines += [("objectives", ", ".join(map(_objective, config.objectives)))] if config.objectives else []
    lines += [("group", f"{name}: {what}") for name, what in group_lines(config)]
    return [*lines, ("steps", f"{optimization.steps}, {batch}")]


def modality_lines(strategy: Any) -> list[tuple[str, str]]:
    """Return a line for each modality of a strategy: whether it is generated or frozen, and the conditions on it. Conditions of the same
    type are told apart by their folders.
    """
    lines = []
    for field in attrs.fields(type(strategy)):
        table = getattr(strategy, field.name)
        if hasattr(table, "is_generated"):
            own = [use for use in getattr(table, "conditions", []) if isinstance(use, ConditionUse)]
            types = [use.type for use in own]
            uses = [_use(use, with_folders=types.count(use.type) > 1) for use in own]
            uses += [_choice(choice) for choice in getattr(table, "choices", []) if isinstance(choice, Choice)]
            lines.append((field.name, ", ".join(["generated" if table.is_generated else "frozen", *uses])))
    return lines


def _choice(choice: Choice) -> str:
    """Describe the lists of a choice in words, as in "prefix or suffix or no condition"."""
    return " or ".join(" and ".join(map(_use, uses)) or "no condition" for uses in choice.one_of)


def _objective(use: ObjectiveUse) -> str:
    about = [] if use.weight == 1 else [f"weight {value_text(use.weight)}"]
    about += [] if use.probability == 1 else [f"probability {use.probability:g}"]
    return f"{use.type} ({', '.join(about)})" if about else use.type


def _use(use: ConditionUse, *, with_folders: bool = False) -> str:
    about = [f"from {' and '.join(use.sources.values())}"] if with_folders and use.sources else []
    about += [] if use.probability == 1 else [f"probability {use.probability:g}"]
    about += [f"{key} {drawn}" for key, drawn in use.drawn.items()]
    return f"{use.type} ({', '.join(about)})" if about else use.type
