"""The command `ltx split`, which cuts films into their scenes."""

from __future__ import annotations

from pathlib import Path

import click

from ltxcore.api.commands import FilePath, FiniteRange


@click.command()
@click.argument("videos", nargs=-1, required=True, type=FilePath())
@click.option("-o", "--output", required=True, type=FilePath(), help="Folder to write to.")
@click.option(
    "--threshold",
    type=FiniteRange(min=0),
    default=27.0,
    show_default=True,
    help="How much a frame must change to count as a cut; a lower value finds more cuts.",
)
@click.option("--min-seconds", type=FiniteRange(min=0), default=1.0, show_default=True, help="Leave out scenes that are shorter than this.")
@click.option("--overwrite", is_flag=True, help="Cut all films, including those already cut.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Number of films cut at a time.")
@click.option("--progress/--no-progress", default=True, show_default=True, help="Show a progress bar.")
def split(
    videos: tuple[Path, ...], output: Path, threshold: float, min_seconds: float, overwrite: bool, workers: int, progress: bool
) -> None:
    """Cut VIDEOS, files or folders of them, into scenes, and list the scenes in dataset.jsonl in the output folder.

    PySceneDetect finds the scenes. Each is written as MP4 with the frames, the exact frame rate and the audio of its film.
    """
    from ltxplugins.tools.split.split import Cutting
    from ltxplugins.tools.split.split import split as cut

    cutting = Cutting(threshold, min_seconds)
    cut(videos, output, cutting, overwrite=overwrite, workers=workers, progress=progress).tell(output)
