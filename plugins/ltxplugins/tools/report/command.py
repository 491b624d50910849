"""The command `ltx report`, which writes a page about a run."""

from __future__ import annotations

from pathlib import Path

import click

from ltxcore.api.commands import FilePath, FiniteRange


@click.command()
@click.argument("output_dir", type=FilePath())
@click.option("-o", "--output", type=FilePath(dir_okay=False), metavar="FILE", help="The file to write; by default OUTPUT_DIR/report.html.")
@click.option(
    "--embed",
    type=FiniteRange(min=0),
    metavar="MB",
    help="Number of megabytes of media to embed in the report; the rest is linked. By default 64.",
)
def report(output_dir: Path, output: Path | None, embed: float | None) -> None:
    """Write a report about the run in OUTPUT_DIR, finished or not.

    It says whether the run learned, whether it is still learning, what it generates and how to use it, with all curves, samples that play,
    the data and the run file. It opens in a browser without a server or a network. Every run writes one at its end.
    """
    from ltxplugins.tools.report.write import EMBED, write_report

    click.echo(write_report(output_dir, output, EMBED if embed is None else embed))
