"""`ltx export`, which writes a LoRA for ComfyUI, diffusers or ltx-pipelines."""

from __future__ import annotations

from pathlib import Path

import click

from ltxcore.api.commands import FilePath

PROGRAMS = ("comfyui", "diffusers", "ltx-pipelines")
DTYPES = ("bfloat16", "float16", "float32")


@click.command()
@click.argument("lora", type=FilePath())
@click.option("--for", "program", required=True, type=click.Choice(PROGRAMS), help="The program to export for.")
@click.option("-o", "--output", required=True, type=FilePath(), metavar="FILE", help="The file to write.")
@click.option("--dtype", type=click.Choice(DTYPES), help="dtype of the weights; by default that of LORA.")
@click.option("--overwrite", is_flag=True, help="Write FILE even if it exists.")
def export(lora: Path, program: str, output: Path, dtype: str | None, overwrite: bool) -> None:
    """Convert LORA to the format of another program.

    LORA is the lora.safetensors of a run, or a compatible file from elsewhere. The weights, trigger word and reference factors stay the
    same; tensor names change, and alpha is folded into the weights, because not every program applies it.
    """
    import torch

    from ltxcore.models.lora_export import LAYOUTS, export_lora

    written = export_lora(lora, output, program, dtype=getattr(torch, dtype) if dtype else None, overwrite=overwrite)
    ranks = " and ".join(map(str, written.ranks))
    click.echo(f"{written.path}: {written.modules} modules of rank {ranks}, {written.dtype}")
    if written.metadata.get("trigger"):
        click.echo(f'Begin every prompt with "{written.metadata["trigger"]}".')
    click.echo(LAYOUTS[program].place.replace("FILE", str(written.path)))
