"""`ltx export`: a LoRA for ComfyUI, diffusers or ltx-pipelines."""

from __future__ import annotations

from pathlib import Path

import click

from ltxcore.api.commands import FilePath

PROGRAMS = ("comfyui", "diffusers", "ltx-pipelines")
DTYPES = ("bfloat16", "float16", "float32")


@click.command()
@click.argument("lora", type=FilePath())
@click.option("--for", "program", required=True, type=click.Choice(PROGRAMS), help="The program that is to read it.")
@click.option("-o", "--output", required=True, type=FilePath(), metavar="FILE", help="The file to write.")
@click.option("--dtype", type=click.Choice(DTYPES), help="Of the weights; by default as in LORA.")
@click.option("--overwrite", is_flag=True, help="Write FILE even where there is one.")
def export(lora: Path, program: str, output: Path, dtype: str | None, overwrite: bool) -> None:
    """Write LORA as another program reads it.

    LORA is a run's lora.safetensors, or one of the same kind from elsewhere. Weights, trigger word and reference factors stay what they are; names change, and
    alpha is folded into the weights, since not every program applies it.
    """
    import torch

    from ltxcore.models.lora_export import LAYOUTS, export_lora

    written = export_lora(lora, output, program, dtype=getattr(torch, dtype) if dtype else None, overwrite=overwrite)
    ranks = " and ".join(map(str, written.ranks))
    click.echo(f"{written.path}: {written.modules} modules of rank {ranks}, {written.dtype}")
    if written.metadata.get("trigger"):
        click.echo(f'Begin every prompt with "{written.metadata["trigger"]}".')
    click.echo(LAYOUTS[program].place.replace("FILE", str(written.path)))
