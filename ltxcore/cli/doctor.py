"""`ltx doctor`: raw media and encoded sets, checked before training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from ltxcore.api.commands import FilePath
from ltxcore.cli.preprocess import flag, with_options
from ltxcore.config.run_file import PreprocessingTable

_OF_A_DATASET = ("model_path", "text_encoder_path", "video_vae_path", "audio_vae_path", "output_dir")


@click.command()
@click.argument("target", metavar="DATASET|ROOT|RUN.TOML", type=FilePath())
@click.option("--deep", is_flag=True, help="Decode every frame that is used, and look at every value of every encoded file.")
@click.option("--strict", is_flag=True, help="Exit with 1 for warnings too.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.option("--all", "all_of_them", is_flag=True, help="List every finding, not the first few of each kind.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override a value of the run file; may be repeated.")
@click.option("--model-path", metavar="MODEL", help='The model that a dataset is encoded for: "tiny", or a model file.')
@click.option("--text-encoder-path", type=FilePath(), help="The text encoder, where the model file does not hold it.")
@click.option("--video-vae-path", type=FilePath(), help="The video codec, where the model file does not hold it.")
@click.option("--audio-vae-path", type=FilePath(), help="The audio codec, where the model file does not hold it.")
@click.option("--output-dir", type=FilePath(), help="Where a dataset is encoded; by default beside it.")
@click.option("--workers", type=click.IntRange(min=1), help="Samples examined at a time; by default one a processor, at most 8.")
@click.option("--progress/--no-progress", default=None, help="Show bars; by default on a terminal.")
@click.pass_context
def doctor(
    context: click.Context,
    /,
    target: Path,
    deep: bool,
    strict: bool,
    as_json: bool,
    all_of_them: bool,
    settings: tuple[str, ...],
    model_path: str | None,
    text_encoder_path: Path | None,
    video_vae_path: Path | None,
    audio_vae_path: Path | None,
    output_dir: Path | None,
    workers: int | None,
    progress: bool | None,
    **options: Any,
) -> None:
    """Check a dataset (a file, or a folder of media), an encoded set, or the data of a run file, before any training.

    Every finding is listed with its place and what to do about it. An error is what preprocessing or a run refuses, or what would train on wrong numbers; a
    warning is taken as it is, but is hardly meant. Nothing is written. A dataset takes the options that `ltx preprocess` takes; a run file has its own.

    Exit status: 0 without errors, 1 with errors (with --strict: or warnings), 2 for a mistake in the command or the run file.
    """
    _refuse_options_of_others(context, target)
    from rich.console import Console

    from ltxcore.codecs.source import Model
    from ltxcore.doctor import table
    from ltxcore.doctor.examine import Options, examine
    from ltxcore.progress import bars

    model = None if model_path is None else Model(model_path, text_encoder_path, video_vae_path, audio_vae_path, device="cpu")
    given = PreprocessingTable(**{name: value for name, value in options.items() if value is not None})
    how = Options(given, model, output_dir, flag, settings, deep, workers)
    with bars(progress) as phase:
        checkup = examine(target, how, phase)
    if as_json:
        click.echo(json.dumps(table.as_json(str(target), checkup), indent=2))
    else:
        table.show(checkup, Console(), all_of_them=all_of_them)
    context.exit(1 if checkup.count("error") or (strict and checkup.findings) else 0)


def _refuse_options_of_others(context: click.Context, target: Path) -> None:
    """Options that would have no effect on what is examined."""
    given = {name for name in context.params if context.get_parameter_source(name) == ParameterSource.COMMANDLINE}
    of_dataset = given & {*_OF_A_DATASET, *PreprocessingTable.__annotations__}
    kind = "a run file" if target.suffix.lower() == ".toml" and not target.is_dir() else ""
    if target.is_dir() and (of_dataset or "settings" in given):
        from ltxcore.dataset.folder import is_media_folder

        kind = "" if is_media_folder(target) else "an encoded set"
    if kind and of_dataset:
        raise click.UsageError(f"{flag(min(of_dataset))} is for a dataset, and {target} is {kind}.")
    if "settings" in given and kind != "a run file":
        raise click.UsageError(f"--set is for a run file, and {target} is {kind or 'a dataset'}.")


doctor = with_options(doctor)
