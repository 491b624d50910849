"""The command `ltx decode`, which turns encoded samples back into files that can be played."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ltxcore.api.commands import FilePath
from ltxcore.api.options import codec_options

if TYPE_CHECKING:
    from ltxcore.api.models import Codecs


@click.command()
@click.argument("root", type=FilePath())
@click.option("-o", "--output", required=True, type=FilePath(), help="Folder to write to.")
@click.option("--sources", metavar="FOLDER,...", help="Folders of ROOT to decode, separated by commas; by default all.")
@codec_options(
    model="The model that encoded the samples; by default the tiny model, if it encoded them.",
    text=False,
    device="the GPU",
    tiling="Decode",
)
@click.option("--overwrite", is_flag=True, help="Decode again what was already decoded.")
@click.option("--progress/--no-progress", default=True, show_default=True, help="Show a progress bar.")
def decode(
    root: Path,
    output: Path,
    sources: str | None,
    codecs: Codecs | None,
    overwrite: bool,
    progress: bool,
) -> None:
    """Decode what `ltx preprocess` wrote to ROOT, to see and hear what a run trains on.

    Clips become MP4 with their audio, single frames PNG, audio without video WAV, and masks images in which white is given. The output has
    a folder for each folder of ROOT.
    """
    from ltxplugins.tools.decode.decode import decode as decode_samples

    names = [name.strip() for name in (sources or "").split(",") if name.strip()]
    decode_samples(root, output, names, codecs=codecs, overwrite=overwrite, progress=progress).tell(output)
