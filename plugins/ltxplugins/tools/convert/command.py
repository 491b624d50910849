"""The command `ltx convert`, which makes a run file from a configuration of another trainer."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from ltxcore.api import ConfigError
from ltxcore.api.commands import FilePath, write_whole

LOGGER = logging.getLogger("ltx.convert")

PRINTED = Path("run.toml")
"""The name to assume for a run file that is printed instead of written."""

TRAINERS = ("ai-toolkit", "musubi", "diffusion-pipe", "ltx-trainer")
"""The names that `--from` takes."""

ANYWHERE = "`ltx check` will refuse this until it is corrected:"
HERE = "`ltx check` refuses this on this machine, and on any other with the same problem:"


@click.command()
@click.argument("old", type=FilePath())
@click.option("-o", "--output", type=FilePath(), help="Where to write the run file; by default it is printed.")
@click.option(
    "--from",
    "trainer",
    type=click.Choice(TRAINERS),
    help="The trainer that OLD is for; by default it is recognized by the content of OLD.",
)
def convert(old: Path, output: Path | None, trainer: str | None) -> None:
    """Make a run file from OLD, a configuration of another trainer.

    The known trainers are ltx-trainer (YAML), ai-toolkit (YAML or JSON), musubi-tuner (the arguments of its LTX-2 training as TOML, or its
    command line in a shell script or text file) and diffusion-pipe (TOML); the dataset's TOML that OLD names is read too.

    Settings become the equivalent keys. What has no counterpart becomes a comment and is reported, as is everything in the run file that
    `ltx check` will refuse. Relative paths in OLD are relative to the working directory, so start this command where the trainer was
    started.
    """
    from ltxcore.api.config import text_of
    from ltxplugins.tools.convert.recognize import NAMES
    from ltxplugins.tools.convert.recognize import convert as converted

    if output is not None and output.exists():
        raise ConfigError(f"{output} already exists", remedy="Name another file with -o.")
    done = converted(
        text_of(old, "Name a configuration of another trainer."),
        str(old),
        start=Path.cwd(),
        folder=output.parent if output is not None else Path.cwd(),
        trainer=NAMES[trainer] if trainer else "",
    )
    if output is None:
        click.echo(done.text, nl=False)
    else:
        try:
            write_whole(output, done.text.encode())
        except OSError as error:
            remedy = "Make room, or name another file with -o."
            raise ConfigError(f"cannot be written: {error.strerror}", where=str(output), remedy=remedy) from error
        click.echo(f"Wrote {output}.")
    for remark in done.remarks:
        LOGGER.info(remark)
    _foresee(done.text, output)


def _foresee(text: str, output: Path | None) -> None:
    """Say what is still to be done before the run file can be used. A path that does not exist on this machine may
    exist on the machine that will train.
    """
    from ltxcore.api.config import refusals

    found = refusals(text, output or PRINTED)
    for heading, problems in ((ANYWHERE, found.anywhere), (HERE, found.here)):
        if problems:
            LOGGER.warning("\n".join(["", heading, *map(str, problems)]))
    if output is not None and not found.anywhere:
        click.echo(f"Read it, then run: ltx check {output}")
