"""The command `ltx convert`, which makes a run file from an ltx-trainer configuration."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from ltxcore.api import ConfigError
from ltxcore.api.commands import FilePath, write_whole

LOGGER = logging.getLogger("ltx.convert")

PRINTED = Path("run.toml")
"""The name to use for a run file that is printed and redirected somewhere."""

ANYWHERE = "`ltx check` will refuse this until it is corrected:"
HERE = "`ltx check` refuses this on this machine, and on any other with the same problem:"


@click.command()
@click.argument("old", type=FilePath())
@click.option("-o", "--output", type=FilePath(), help="Where to write the run file; by default it is printed.")
def convert(old: Path, output: Path | None) -> None:
    """Make a run file from OLD, a configuration of ltx-trainer in YAML.

    Older strategies and older validation keys become their equivalents. What has no counterpart becomes a comment and is reported, as is
    everything in the run file that `ltx check` will refuse. Relative paths in OLD start at the working directory, where ltx-trainer was
    started.
    """
    from ltxcore.api.config import text_of
    from ltxplugins.tools.convert.old import convert as converted

    if output is not None and output.exists():
        raise ConfigError(f"{output} already exists", remedy="Name another file with -o.")
    done = converted(
        text_of(old, "Name a configuration of ltx-trainer."),
        str(old),
        start=Path.cwd(),
        folder=output.parent if output is not None else Path.cwd(),
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
    """Say what is still to be done before the run file can run. A path that does not exist here may well exist on the
    machine where it will run.
    """
    from ltxcore.api.config import refusals

    found = refusals(text, output or PRINTED)
    for heading, problems in ((ANYWHERE, found.anywhere), (HERE, found.here)):
        if problems:
            LOGGER.warning("\n".join(["", heading, *map(str, problems)]))
    if output is not None and not found.anywhere:
        click.echo(f"Read it, then run: ltx check {output}")
