"""The command `ltx decode`, which turns encoded samples back into files that can be played."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ltxcore.api import DataError
from ltxcore.api.commands import FilePath
from ltxcore.api.options import codec_options

if TYPE_CHECKING:
    from ltxcore.api.models import Codecs


@click.command()
@click.argument("root", type=FilePath())
@click.option("-o", "--output", type=FilePath(), help="Folder to write to.")
@click.option(
    "--sheet",
    type=FilePath(dir_okay=False),
    metavar="FILE",
    help="Instead, write a contact sheet to this HTML file: samples of each size with the used part of their clips, "
    "decoded frames, waveform and caption.",
)
@click.option(
    "--data",
    type=FilePath(exists=True),
    help="The dataset that the samples were encoded from, for the sheet; by default the one beside ROOT.",
)
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
    output: Path | None,
    sheet: Path | None,
    data: Path | None,
    sources: str | None,
    codecs: Codecs | None,
    overwrite: bool,
    progress: bool,
) -> None:
    """Decode what `ltx preprocess` wrote to ROOT, to see and hear what a run trains on.

    Clips become MP4 with their audio, single frames become PNG, audio without video becomes WAV, masks become images in which white
    means given, and the keyframes of a clip become one image. The output has a folder for each folder of ROOT. With --sheet, only the
    samples on the sheet are decoded.
    """
    if (output is None) == (sheet is None):
        raise click.UsageError("Name either a folder for the decoded files (-o FOLDER) or a file for a contact sheet (--sheet FILE.html).")
    if sheet is not None:
        from ltxplugins.tools.decode.sheet import write_sheet

        if sheet.suffix.lower() not in (".html", ".htm"):
            raise click.BadParameter(f'the sheet is a page, so its name must end with .html, unlike "{sheet}".', param_hint="--sheet")
        if sources is not None or overwrite:
            raise click.UsageError(
                "--sources and --overwrite are for decoded files, not for a contact sheet, which is always written anew."
            )
        count, problems = write_sheet(sheet, root, data, codecs, progress=progress)
        click.echo(f"{sheet}: {count} sample{'' if count == 1 else 's'}")
        if problems:
            raise DataError.of(problems)
        return
    if data is not None:
        raise click.UsageError("--data is for a contact sheet: name a file for it with --sheet.")
    from ltxplugins.tools.decode.decode import decode as decode_samples

    assert output is not None
    names = [name.strip() for name in (sources or "").split(",") if name.strip()]
    decode_samples(root, output, names, codecs=codecs, overwrite=overwrite, progress=progress).tell(output)
