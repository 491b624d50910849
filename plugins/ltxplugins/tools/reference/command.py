"""The command `ltx reference`, which makes reference clips for a dataset."""

from __future__ import annotations

from pathlib import Path

import click

from ltxcore.api.commands import FilePath


@click.command()
@click.argument("dataset", type=FilePath())
@click.option("-o", "--output", required=True, type=FilePath(), help="Dataset file to write (.jsonl, .json, .csv).")
@click.option("--filter", "name", default="canny", show_default=True, metavar="NAME", help="Filter that makes a reference from a clip.")
@click.option("--plugin", "plugins", multiple=True, type=FilePath(), metavar="FILE", help="A Python file with your own filters.")
@click.option("--video-column", metavar="NAME", help="Column of the clip; by default video or media_path.")
@click.option("--overwrite", is_flag=True, help="Make references again that already exist.")
@click.option("--workers", type=click.IntRange(min=1), help="Number of clips at a time; by default one per processor, at most 8.")
@click.option("--progress/--no-progress", default=True, show_default=True, help="Show a progress bar.")
def reference(
    dataset: Path,
    output: Path,
    name: str,
    plugins: tuple[Path, ...],
    video_column: str | None,
    overwrite: bool,
    workers: int | None,
    progress: bool,
) -> None:
    """Make a reference for every clip of DATASET, for an IC-LoRA: its edges, or the output of a plugin's filter.

    DATASET is a dataset file, or a folder of clips. References go to the folder references/NAME beside the output, with the length and
    frame rate of their clips; the output is the dataset with an added column reference_video. `ltx plugins list --kind reference_filter`
    shows the filters.
    """
    from ltxplugins.tools.reference.reference import filter_named
    from ltxplugins.tools.reference.reference import reference as make

    filter_ = filter_named(name, plugins)
    make(dataset, output, filter_, video_column=video_column, overwrite=overwrite, workers=workers, progress=progress).tell(output)
