"""The commands `ltx lora ...`, which make a LoRA from others."""

from __future__ import annotations

from pathlib import Path

import click

from ltxcore.api.commands import FilePath


@click.group()
def lora() -> None:
    """Make a LoRA from others."""


@lora.command()
@click.argument("files", nargs=-1, required=True, type=FilePath(), metavar="LORA LORA...")
@click.option("-o", "--output", required=True, type=FilePath(), metavar="FILE", help="The file to write.")
@click.option(
    "--decay",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Share of the average that is kept when the next LORA is added, so that later ones count more; by default all count equally.",
)
@click.option("--overwrite", is_flag=True, help="Write FILE even if it exists.")
def average(files: tuple[Path, ...], output: Path, decay: float | None, overwrite: bool) -> None:
    """Average checkpoints of one run, LoRAs or DoRAs, tensor by tensor.

    They must have the same tensors, of the same shapes, and the same metadata, apart from the step. Checkpoints that are kept with
    keep_last_n are such files: checkpoints/step_*/lora.safetensors.
    """
    from ltxplugins.tools.lora.average import average as write

    done = write(files, output, decay=decay, overwrite=overwrite)
    click.echo(f"{done.path}: the average of {done.count} LoRAs of {done.modules} modules")
