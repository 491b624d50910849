"""The commands `ltx reference` and `ltx mask`, which make references and masks for a dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click

from ltxcore.api.commands import FilePath, plugin_option

COLUMNS: Mapping[str, str] = MappingProxyType({"reference": "reference_video", "mask": "video_mask"})
"""The column of each thing that a filter makes, unless a user names another."""


def _options(thing: str, default: str | None) -> Callable[[Any], Any]:
    """Return a decorator that adds the arguments and options of both commands.

    Args:
        thing: the kind of thing that the command makes from a clip.
        default: the filter that is used if none is named; None if one must be named.
    """
    options = (
        click.argument("dataset", type=FilePath()),
        click.option("-o", "--output", required=True, type=FilePath(), help="Dataset file to write (.jsonl, .json, .csv)."),
        click.option(
            "--filter",
            "name",
            # Click takes a default of None, too, for a value.
            **({"required": True} if default is None else {"default": default, "show_default": True}),
            metavar="NAME[,KEY=VALUE,...]",
            help=f"Filter that makes a {thing} from a clip, and its keys.",
        ),
        plugin_option("filters and sources"),
        click.option("--video-column", metavar="NAME", help="Column of the clip; by default video or media_path."),
        click.option(
            "--column", default=COLUMNS[thing], show_default=True, metavar="NAME", help=f"Column of the output that names the {thing}s."
        ),
        click.option("--overwrite", is_flag=True, help=f"Make existing {thing}s again."),
        click.option(
            "--workers", type=click.IntRange(min=1), help="Number of clips processed at a time; by default one per processor, at most 8."
        ),
        click.option("--progress/--no-progress", default=True, show_default=True, help="Show a progress bar."),
    )

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@click.command()
@_options("reference", "canny")
def reference(**options: Any) -> None:
    """Make a reference for every clip of DATASET, for an IC-LoRA: the clip's edges, its depth, a blurred clip, or the output of a plugin's filter.

    DATASET is a dataset file, or a folder of clips. References go to the folder references/NAME beside the output, with the length and
    frame rate of their clips; the output is the dataset with an added column for them, so a second run can add the references of another
    filter in another column. `ltx plugins list --kind reference_filter` lists the filters, and `ltx plugins show NAME` shows the keys of
    one.
    """
    _make("reference", **options)


@click.command()
@_options("mask", None)
def mask(**options: Any) -> None:
    """Make a mask for every clip of DATASET, for inpainting: a box, a color, what moves, what a model finds, or the output of a plugin's filter.

    DATASET is a dataset file, or a folder of clips. Masks go to the folder masks/NAME beside the output, with the length and frame rate of
    their clips; the output is the dataset with an added column for them. White is given, and black is generated: by default, the region
    that the filter finds. `ltx plugins list --kind reference_filter` lists the filters, and `ltx plugins show NAME` shows the keys of one.
    """
    _make("mask", **options)


def _make(
    makes: str,
    dataset: Path,
    output: Path,
    name: str,
    plugins: tuple[Path, ...],
    video_column: str | None,
    column: str,
    overwrite: bool,
    workers: int | None,
    progress: bool,
) -> None:
    from ltxplugins.tools.reference.filters import filter_named
    from ltxplugins.tools.reference.reference import reference as make

    filter_ = filter_named(name, plugins, makes)
    done = make(
        *(dataset, output, filter_, column),
        local=plugins,
        video_column=video_column,
        overwrite=overwrite,
        workers=workers,
        progress=progress,
    )
    done.tell(output)
