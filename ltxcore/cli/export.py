"""`ltx export`, which writes a LoRA for another program."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from ltxcore.api.commands import FilePath, plugin_option
from ltxcore.condition_metadata import references_in
from ltxcore.config.exporters import exporter_of
from ltxcore.config.loras import FROZEN, MERGE, Strength, frozen_in
from ltxcore.config.quantizers import quantizer_of
from ltxcore.drawn import spoken
from ltxcore.errors import listed
from ltxcore.exporters import FILE
from ltxcore.registry import load_with

DTYPES = ("bfloat16", "float16", "float32")


@click.command()
@click.argument("lora", type=FilePath())
@click.option(
    "--for",
    "program",
    required=True,
    metavar="NAME[,KEY=VALUE,...]",
    help="The program to export for, and its keys: comfyui, diffusers, ltx-pipelines, or another that `ltx plugins list --kind exporter` shows.",
)
@click.option("-o", "--output", required=True, type=FilePath(), metavar="FILE", help="The file to write.")
@click.option("--model", metavar="MODEL", help='The base model that LORA was trained on ("tiny", a file or a folder), if NAME needs it.')
@click.option(
    "--quantization",
    metavar="NAME[,KEY=VALUE,...]",
    help="The quantizer of the run (acceleration.quantization), to print how far the weights are from those of the run, whose base was quantized.",
)
@click.option(
    "--with-frozen",
    multiple=True,
    type=FilePath(),
    metavar="FILE",
    help="A LoRA that LORA was trained on top of (model.loras); repeat the option for each. The output is then one LoRA, the sum of all.",
)
@click.option("--dtype", type=click.Choice(DTYPES), help="dtype of the weights; by default that of LORA.")
@click.option("--overwrite", is_flag=True, help="Write FILE even if it exists.")
@plugin_option("exporters and types of adapters")
def export(
    lora: Path,
    program: str,
    output: Path,
    model: str | None,
    quantization: str | None,
    with_frozen: tuple[Path, ...],
    dtype: str | None,
    overwrite: bool,
    plugins: tuple[Path, ...],
) -> None:
    """Convert LORA to the format of another program.

    LORA is the lora.safetensors of a run, or a compatible file from elsewhere. The weights, trigger word and reference factors stay the
    same; tensor names change, and alpha is folded into the weights, because not every program applies it. The result is read back as the
    program would read it, and FILE is written only if that gives the weights that were trained.
    """
    registry = load_with(plugins)
    exporter = exporter_of(program, registry)

    import torch

    from ltxcore.models.lora_export import export_lora

    quantizer = None if quantization is None else quantizer_of(quantization, registry)
    own = getattr(torch, dtype) if dtype else None
    written = export_lora(
        lora, output, exporter, model=model, quantizer=quantizer, frozen=with_frozen, dtype=own, overwrite=overwrite, registry=registry
    )
    ranks = " and ".join(map(str, written.ranks))
    click.echo(f"{written.path}: {written.modules} modules of rank {ranks}, {written.dtype}")
    if written.differences is not None:
        click.echo(f"The weights differ from the trained ones by at most {written.differences.largest:.1e} of the largest weight.")
        if written.differences.over_quantized is not None:
            apart = written.differences.over_quantized
            click.echo(f"They differ from the weights of the run, whose base was quantized, by at most {apart:.1e}.")
    elif quantization is not None:
        click.echo("The exported tensors do not depend on the base, quantized or not.")
    if FROZEN in written.metadata:
        under = listed(map(str, frozen_in(Strength(written.path))))
        use = "use them together, or export again with --with-frozen" if written.adds else f"merge these into the model first, with {MERGE}"
        click.echo(f"It was trained on top of {under}: {use}.")
    if written.metadata.get("trigger"):
        click.echo(f'Begin every prompt with "{written.metadata["trigger"]}".')
    with suppress(ValueError):
        for reference in references_in(written.metadata):
            click.echo(f"Trained with several references, one of which has {spoken(reference)}.")
    click.echo(exporter.exporter.use.replace(FILE, str(written.path)))
