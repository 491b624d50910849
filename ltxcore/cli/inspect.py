"""`ltx inspect`, which shows what the model sees in the first steps of a run."""

from __future__ import annotations

from pathlib import Path

import click

from ltxcore.api.commands import FilePath


@click.command()
@click.argument("run_file", type=FilePath())
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override a value of the run file; may be repeated.")
@click.option("--steps", type=click.IntRange(min=1), default=1, show_default=True, help="Number of optimizer steps to show.")
@click.option("--png", type=FilePath(dir_okay=False), help="Draw the tokens of the first samples as a picture, and write it to this file.")
@click.option(
    "--dump",
    type=FilePath(dir_okay=False),
    help="Write every tensor, and the loss of every sample, to this safetensors file.",
)
def inspect(run_file: Path, settings: tuple[str, ...], steps: int, png: Path | None, dump: Path | None) -> None:
    """Show what the model sees in the first steps of a run.

    The tables show how many tokens are generated, given, partly given and appended, which of them count in the loss, and their
    noise levels and positions. The samples and random numbers are those of the run itself. Raw media are encoded on first use.
    Samples of an objective's own dataset are not shown. Nothing is trained, and nothing is written to the run's output_dir.
    """
    from rich.console import Console

    from ltxcore.config.load import load_run

    loaded = load_run(run_file, settings)
    from ltxcore.inspection.first_steps import inspect as look

    look(loaded, Console(), steps=steps, dump=dump, png=png)
