"""`ltx new`, which writes a run file to start from, for a mode, a model and the user's clips."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import click

from ltxcore.api.commands import FilePath, FiniteRange, columns, plugin_option
from ltxcore.errors import ConfigError, LtxError, many, suggestion
from ltxcore.files import is_folder, making, not_written, replacing
from ltxcore.new.models import MODELS, TINY
from ltxcore.new.modes import MODES, Mode
from ltxcore.new.purposes import PURPOSES, WORDS, suits
from ltxcore.progress import bars, doing

if TYPE_CHECKING:
    from ltxcore.encode.overview import Overview
    from ltxcore.new.clips import Clips
    from ltxcore.new.text import Request

GIB = 2**30

USUAL = "2.3"
"""The model of a run file, unless the run file is for the demo or the user names another model."""


@click.command("new")
@click.argument("mode", required=False)
@click.option("-o", "--output", type=FilePath(dir_okay=False), help="Where to write the run file; by default MODE.toml.")
@click.option(
    "--model",
    type=click.Choice([TINY, *MODELS]),
    help=f'The model to train; by default {USUAL}, or, for a demo, "{TINY}", which comes with ltx.',
)
@click.option("--data", type=FilePath(), help="A folder of media, or a file that lists them; the run file is adapted to them.")
@plugin_option("sources and conditions, which the run file then names")
@click.option("--for", "purpose", type=click.Choice(WORDS), help="What the LoRA should learn; by default what the mode is mostly used for.")
@click.option(
    "--demo",
    type=FilePath(file_okay=False),
    help="A folder to write a demo to: 120 small clips for all modes, and the run file that trains on them.",
)
@click.option(
    "--memory",
    type=FiniteRange(min=0, min_open=True),
    help="Memory of each of your GPUs in GiB, such as 24; the settings are the fastest with which the run fits.",
)
@click.option("--force", is_flag=True, help="Overwrite an existing run file.")
def command(
    mode: str | None,
    output: Path | None,
    model: str | None,
    data: Path | None,
    plugins: tuple[Path, ...],
    purpose: str | None,
    demo: Path | None,
    memory: float | None,
    force: bool,
) -> None:
    """Write a run file for MODE to start from, in which a comment on each value gives the reason for it. Without MODE, list the modes.

    With --data, the number of steps, the batch size, the sizes and the held-out clips are chosen to suit your clips, and the command prints
    what the clips lack for the mode. With --memory, gradient checkpointing, quantization, block swap and the like are chosen with the
    estimates of `ltx plan`; this takes some seconds. The paths of a released model are placeholders: the comment beside each says which
    file to download, and you fill in its path.

    With --demo, the run file trains without changes, on clips that are written to the same folder:
    `ltx new audio_inpainting --demo .`, then `ltx run audio_inpainting.toml`.
    """
    if mode is None:
        click.echo(
            f"{columns(list(_listed()))}\n\n  ltx new MODE --demo .          a run that needs nothing else\n  ltx new MODE --data clips/     one for your own clips"
        )
        return
    chosen = _mode(mode)
    if demo is not None and (data is not None or model not in (None, TINY)):
        raise click.UsageError("--demo trains the tiny model on its own clips; leave out either --demo, or --data and --model.")
    model = model or (TINY if demo else USUAL)
    if memory is not None and model == TINY:
        raise click.UsageError("--memory is for released models; the tiny model fits every GPU.")
    word = _purpose(chosen, purpose)
    path = output or (demo or Path()) / f"{mode}.toml"
    if path.exists() and not force:
        raise ConfigError(f"{path} already exists", remedy="Name another file with -o, or overwrite it with --force.")
    _write(chosen, model, word, path, data, demo, plugins, memory)


def _listed() -> Iterator[tuple[str, str]]:
    for mode in MODES.values():
        yield mode.name, mode.about


def _mode(name: str) -> Mode:
    if name in MODES:
        return MODES[name]
    modes = "\n".join(f"    {row}" for row in columns(list(_listed())).splitlines())
    raise ConfigError(f'there is no mode "{name}"', remedy=f"{suggestion(name, list(MODES))}\n{modes}")


def _purpose(mode: Mode, word: str | None) -> str:
    """Return the purpose of the training: the purpose that the user names, or else the usual purpose of the mode."""
    if word is None or suits(word, mode):
        return word or mode.purpose
    others = [each for each in WORDS if suits(each, mode)]
    remedy = f"This mode works with: {', '.join(others)}." if others else "Leave --for out: it only applies to LoRAs."
    raise ConfigError(f"{mode.name} does not train {PURPOSES[word].trained}", where="--for", remedy=remedy)


def _write(
    mode: Mode, model: str, purpose: str, path: Path, data: Path | None, demo: Path | None, plugins: Sequence[Path], memory: float | None
) -> None:
    from ltxcore.new.text import Request, text
    from ltxcore.registry import load_with

    registry = load_with(plugins)
    clips, found, dataset = None, None, ""
    if demo is not None:
        dataset = _said(_demo_clips(demo), path)
    elif data is not None:
        from ltxcore.new.clips import look

        with bars() as phase:
            clips, found = look(data, mode, registry, phase)
        dataset = _said(data, path)
    request = Request(mode, model, purpose, path.as_posix(), dataset, clips, [_said(plugin, path) for plugin in plugins])
    try:
        with replacing(path) as part:
            part.write_text(text(request), encoding="utf-8", newline="\n")
            if memory is not None:
                request = _fitted(request, part, int(memory * GIB))
                part.write_text(text(request), encoding="utf-8", newline="\n")
    except OSError as error:
        raise ConfigError.of([not_written(error, str(path), "nothing was overwritten")]) from error
    click.echo(f"Wrote {path}.")
    if request.fitted is not None:
        click.echo(f"  {'fits':<11} {request.fitted.on_gpu}, and {request.fitted.on_host}, for {request.fitted.described}")
    if clips is not None and found is not None:
        _tell_of(clips, found, purpose, mode)
    if demo is None:
        _tell_what_lacks(path)
    click.echo(f"Start it: {start(mode, model, path)}")


def _fitted(request: Request, part: Path, memory: int) -> Request:
    """Return the request with the fastest settings with which the run fits.

    Args:
        request: the request.
        part: a file with the text of the request; messages name the run file instead.
        memory: the memory of each GPU in bytes.
    """
    from ltxcore.new.memory import fitted_to

    try:
        with doing() as tell:
            fitted = fitted_to(part, memory, request.mode.processes, MODELS[request.model].planned, tell)
    except LtxError as error:
        problems = [attrs.evolve(each, where=each.where.replace(str(part), request.path)) for each in error.problems]
        raise type(error).of(problems) from error
    return attrs.evolve(request, fitted=fitted)


def _said(named: Path, path: Path) -> str:
    """Return the path of a dataset or a plugin as a run file names it, relative to the run file's folder."""
    try:
        said = Path(os.path.relpath(named.absolute(), path.absolute().parent)).as_posix()
    except ValueError:  # on another drive
        said = named.absolute().as_posix()
    return f"{said}/" if is_folder(named) else said


def _demo_clips(folder: Path) -> Path:
    """Return the dataset file of the demo's clips, after writing the clips unless they exist already."""
    from ltxcore.new.tiny_world import DEMO_CLIPS, listing, write_world

    media = folder / "media"
    dataset = media / "clips.jsonl"
    if media.exists():
        if not dataset.is_file() or dataset.read_bytes() != listing("train", DEMO_CLIPS).encode():
            raise ConfigError(f"{media} already exists, and its content is not that of the demo", remedy="Name another folder with --demo.")
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


def _tell_of(clips: Clips, found: Overview, purpose: str, mode: Mode) -> None:
    """Print what was found in the data and what the run file does about odd clips, and warn if there are not enough data."""
    from ltxcore.encode.overview import lines

    for name, value in lines(found):
        click.echo(f"  {name:<11} {value}")
    for note in found.data.notes:
        click.echo(note)
    silent = 'trained on without it: missing = "train_without".' if mode.takes_silent_clips else 'left out: on_error = "skip".'
    for number, has, done in (
        (clips.silent, "no audio", silent),
        (clips.uneven, "a variable frame rate", 'resampled to a constant one: variable_rate = "resample".'),
        (
            clips.uncaptioned,
            "no caption",
            'captioned with the name of the folder: caption_from = "folder". '
            f"`ltx caption {shlex.quote(str(found.data.path))}` writes captions, which are then used instead.",
        ),
    ):
        if number:
            click.echo(f"{many(number, 'file has', 'files have')} {has}, and {'is' if number == 1 else 'are'} {done}")
    means = PURPOSES[purpose]
    few, enough = means.clips
    if clips.count < few:
        click.echo(
            f"{many(clips.count, 'clip is', 'clips are')} few for {means.about}: we recommend {few} to {enough:,}. "
            "Look at the samples early, and use an earlier checkpoint if they begin to repeat the clips."
        )


def _tell_what_lacks(path: Path) -> None:
    """Print what `ltx check` finds, which is what the user still has to fill in."""
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
