"""The command `ltx doctor`, which checks raw media and encoded sets before training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from ltxcore.api.commands import FilePath, bars
from ltxcore.api.dataset import PreprocessingTable
from ltxcore.api.options import codec_options, option_of, preprocessing_options

if TYPE_CHECKING:
    from ltxcore.api.models import Codecs

ARTICLES = {"dataset": "a", "encoded set": "an", "run file": "a"}
OF_A_DATASET = frozenset(
    option_of(name)
    for name in (
        *("model_path", "text_encoder_path", "video_vae_path", "audio_vae_path", "output_dir", "plugin", "missing"),
        *PreprocessingTable.__annotations__,
    )
)


@click.command()
@click.argument("target", metavar="DATASET|ROOT|RUN.TOML", type=FilePath(reads_sets=True))
@click.option("--deep", is_flag=True, help="Decode every frame that is used, and check every value of every encoded file.")
@click.option(
    "--samples",
    type=click.IntRange(min=1),
    metavar="N",
    help="Read the encoded files of N samples only, spread over the set; by default, those of all samples.",
)
@click.option("--strict", is_flag=True, help="Exit with status 1 for warnings too.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.option("--all", "all_of_them", is_flag=True, help="List every finding, not only the first few of each kind.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override a value of the run file; may be repeated.")
@codec_options(model='The model that a dataset is encoded for: "tiny", or a model file.')
@click.option("--output-dir", type=FilePath(), help="Folder of the encoded samples of a dataset; by default the one beside the dataset.")
@click.option(
    "--workers", type=click.IntRange(min=1), help="Number of samples examined at a time; by default one per processor, at most 8."
)
@click.option("--progress/--no-progress", default=None, help="Show progress bars; by default on a terminal.")
@preprocessing_options
@click.pass_context
def doctor(
    context: click.Context,
    /,
    target: Path,
    deep: bool,
    samples: int | None,
    strict: bool,
    as_json: bool,
    all_of_them: bool,
    settings: tuple[str, ...],
    codecs: Codecs | None,
    output_dir: Path | None,
    workers: int | None,
    progress: bool | None,
    options: PreprocessingTable,
) -> None:
    """Check a dataset (a file, or a folder of media), an encoded set, or the data of a run file, before any training.

    Every finding is listed with its place and what to do about it. An error is something that preprocessing or a run would refuse, or that
    would make a run train on wrong numbers; a warning is about something that works, but is probably not what you want. Nothing is written.
    For a dataset, the options of `ltx preprocess` apply (--missing also for an encoded set); a run file has its own.

    Exit status: 0 without errors, 1 with errors (with --strict: or warnings), 2 for a mistake in the command or the run file.
    """
    _refuse_options_of_others(context, target, options)
    from rich.console import Console

    from ltxplugins.tools.doctor import table
    from ltxplugins.tools.doctor.examine import Options, examine

    how = Options(options, codecs, output_dir, option_of, settings, deep, workers, samples)
    with bars(progress) as phase:
        checkup = examine(target, how, phase)
    if as_json:
        click.echo(json.dumps(table.as_json(str(target), checkup), indent=2))
    else:
        table.show(checkup, Console(), all_of_them=all_of_them)
    context.exit(1 if checkup.count("error") or (strict and checkup.findings) else 0)


def _refuse_options_of_others(context: click.Context, target: Path, options: PreprocessingTable) -> None:
    """Refuse options that would have no effect on this target."""
    given = {
        each.opts[0]
        for each in context.command.params
        if each.name is not None and context.get_parameter_source(each.name) == ParameterSource.COMMANDLINE
    }
    of_dataset = given & OF_A_DATASET
    if not of_dataset and "--set" not in given:
        return
    from ltxcore.api.dataset import data_kind

    kind = "run file" if target.suffix.lower() == ".toml" and not target.is_dir() else data_kind(target, options)
    if kind == "encoded set":
        of_dataset -= {"--missing"}
    if kind != "dataset" and of_dataset:
        raise click.UsageError(f"{min(of_dataset)} is for a dataset, but {target} is {ARTICLES[kind]} {kind}.")
    if "--set" in given and kind != "run file":
        raise click.UsageError(f"--set is for a run file, but {target} is {ARTICLES[kind]} {kind}.")
