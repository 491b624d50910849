"""`ltx new`, which writes a run file to begin with, for a mode, a model and the user's clips."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ltxcore.api.commands import FilePath, columns
from ltxcore.errors import ConfigError, LtxError, suggestion
from ltxcore.files import is_folder, making, not_written, write_whole
from ltxcore.new.models import MODELS, TINY
from ltxcore.new.modes import MODES, Mode
from ltxcore.new.purposes import PURPOSES, WORDS, suits
from ltxcore.progress import bars

if TYPE_CHECKING:
    from ltxcore.encode.overview import Overview
    from ltxcore.new.clips import Clips

USUAL = "2.3"
"""The model of a run file that is not for the demo, unless the user names another."""


@click.command("new")
@click.argument("mode", required=False)
@click.option("-o", "--output", type=FilePath(dir_okay=False), help="Where to write the run file; by default MODE.toml.")
@click.option(
    "--model",
    type=click.Choice([TINY, *MODELS]),
    help=f'The model to train; by default {USUAL}, or, for a demo, "{TINY}", which comes with ltx.',
)
@click.option("--data", type=FilePath(), help="A folder of media, or a file that lists them; the run file is adapted to them.")
@click.option("--for", "purpose", type=click.Choice(WORDS), help="What the LoRA should learn; by default what the mode is mostly used for.")
@click.option(
    "--demo",
    type=FilePath(file_okay=False),
    help="A folder to write a demo to: 120 small clips for all modes, and the run file that trains on them.",
)
@click.option("--force", is_flag=True, help="Overwrite an existing run file.")
def command(
    mode: str | None, output: Path | None, model: str | None, data: Path | None, purpose: str | None, demo: Path | None, force: bool
) -> None:
    """Write a run file for MODE to start from, with a comment on each value that gives the reason for it. Without MODE, list the modes.

    With --data, the number of steps, the batch size, the sizes and the held-out clips are chosen to suit your clips, and the command prints what they
    lack for the mode. The paths of a released model are placeholders: the comment beside each says which file to download, and you fill in its path.

    With --demo, the run file trains without changes, on clips that are written beside it: `ltx new audio_inpainting --demo .`, then
    `ltx run audio_inpainting.toml`.
    """
    if mode is None:
        click.echo(
            f"{columns(list(_listed()))}\n\n  ltx new MODE --demo .          a run that needs nothing else\n  ltx new MODE --data clips/     one for your own clips"
        )
        return
    chosen = _mode(mode)
    if demo is not None and (data is not None or model not in (None, TINY)):
        raise click.UsageError("--demo trains the tiny model on its own clips; leave out either --demo, or --data and --model.")
    word = _purpose(chosen, purpose)
    path = output or (demo or Path()) / f"{mode}.toml"
    if path.exists() and not force:
        raise ConfigError(f"{path} already exists", remedy="Name another file with -o, or overwrite it with --force.")
    _write(chosen, model or (TINY if demo else USUAL), word, path, data, demo)


def _listed() -> Iterator[tuple[str, str]]:
    for mode in MODES.values():
        yield mode.name, mode.about


def _mode(name: str) -> Mode:
    if name in MODES:
        return MODES[name]
    modes = "\n".join(f"    {row}" for row in columns(list(_listed())).splitlines())
    raise ConfigError(f'there is no mode "{name}"', remedy=f"{suggestion(name, list(MODES))}\n{modes}")


def _purpose(mode: Mode, word: str | None) -> str:
    """Return the purpose of the training: the one that the user names, or else the usual one of the mode."""
    if word is None or suits(word, mode):
        return word or mode.purpose
    others = [each for each in WORDS if suits(each, mode)]
    remedy = f"This mode works with: {', '.join(others)}." if others else "Leave --for out: it only applies to LoRAs."
    raise ConfigError(f"{mode.name} does not train {PURPOSES[word].trained}", where="--for", remedy=remedy)


def _write(mode: Mode, model: str, purpose: str, path: Path, data: Path | None, demo: Path | None) -> None:
    from ltxcore.new.text import Request, text

    clips, found, dataset = None, None, ""
    if demo is not None:
        dataset = _said(_demo_clips(demo), path)
    elif data is not None:
        from ltxcore.new.clips import look

        with bars() as phase:
            clips, found = look(data, mode, phase)
        dataset = _said(data, path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text(Request(mode, model, purpose, path.as_posix(), dataset, clips)).encode())
    except OSError as error:
        raise ConfigError.of([not_written(error, str(path), "nothing was overwritten")]) from error
    click.echo(f"Wrote {path}.")
    if clips is not None and found is not None:
        _tell_of(clips, found, purpose)
    if demo is None:
        _tell_what_lacks(path)
    click.echo(f"Start it: {start(mode, model, path)}")


def _said(dataset: Path, path: Path) -> str:
    """Return the path of a dataset as a run file names it, relative to the run file's folder."""
    try:
        said = Path(os.path.relpath(dataset.absolute(), path.absolute().parent)).as_posix()
    except ValueError:  # on another drive
        said = dataset.absolute().as_posix()
    return f"{said}/" if is_folder(dataset) else said


def _demo_clips(folder: Path) -> Path:
    """Return the dataset file of the demo's clips, which are written now unless they are there already."""
    from ltxcore.new.tiny_world import DEMO_CLIPS, listing, write_world

    media = folder / "media"
    dataset = media / "clips.jsonl"
    if media.exists():
        if not dataset.is_file() or dataset.read_bytes() != listing("train", DEMO_CLIPS).encode():
            raise ConfigError(f"{media} already exists, and is not from the demo", remedy="Name another folder with --demo.")
        return dataset
    try:
        with bars() as phase, making(media) as beside:
            write_world(beside, "train", DEMO_CLIPS, step=phase("clips", DEMO_CLIPS))
    except OSError as error:
        raise ConfigError.of([not_written(error, str(media), "no incomplete folder is left behind")]) from error
    click.echo(f"Wrote {DEMO_CLIPS} clips to {media}.")
    return dataset


def start(mode: Mode, model: str, path: Path) -> str:
    """Return the command that starts a run."""
    if mode.processes == 1:
        return f"ltx run {shlex.quote(str(path))}"
    return f"ltx launch --num-gpus {2 if model == TINY else mode.processes} {shlex.quote(str(path))}"


def _tell_of(clips: Clips, found: Overview, purpose: str) -> None:
    """Print what was found in the data, and warn if there is not enough of it."""
    from ltxcore.encode.overview import lines

    for name, value in lines(found):
        click.echo(f"  {name:<11} {value}")
    for note in found.data.notes:
        click.echo(note)
    means = PURPOSES[purpose]
    few, many = means.clips
    if clips.count < few:
        click.echo(
            f"{clips.count} {'clip is' if clips.count == 1 else 'clips are'} few for {means.about}: we recommend {few} to {many:,}. Look at the samples early, and use an earlier "
            "checkpoint if they begin to repeat the clips."
        )


def _tell_what_lacks(path: Path) -> None:
    """Print what `ltx check` finds, which is what the user has still to fill in."""
    from ltxcore.config.load import read_run
    from ltxcore.runs.checks import check_run

    try:
        checked = check_run(read_run(path, ()))
    except LtxError as error:
        click.echo(f"Still to be filled in or corrected (`ltx check {path}` lists it again):")
        for problem in error.problems:
            click.echo("\n".join(f"  {row}" for row in str(problem).splitlines()))
        return
    for note in checked.notes:
        click.echo(note)
    click.echo(f"{path} is valid.")
