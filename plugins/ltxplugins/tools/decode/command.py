"""`ltx decode`: encoded samples back to files that play."""

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
@click.option("--sources", metavar="FOLDER,...", help="Folders of ROOT, with commas between; by default all.")
@codec_options(model="The model that encoded them; by default the tiny one, if it did.", text=False, device="the GPU", tiling="Decode")
@click.option("--overwrite", is_flag=True, help="Decode also what is there already.")
@click.option("--progress/--no-progress", default=True, show_default=True, help="Show a bar.")
def decode(
    root: Path,
    output: Path,
    sources: str | None,
    codecs: Codecs | None,
    overwrite: bool,
    progress: bool,
) -> None:
    """Decode what `ltx preprocess` wrote to ROOT, to see and hear what a run is trained on.

    Clips become MP4 with their sound, single frames PNG, sounds without pictures WAV, and masks pictures, white where the sample is given. Each folder of ROOT
    has a folder of its name in the output.
    """
    from ltxplugins.tools.decode.decode import decode as decode_samples

    names = [name.strip() for name in (sources or "").split(",") if name.strip()]
    decode_samples(root, output, names, codecs=codecs, overwrite=overwrite, progress=progress).tell(output)
