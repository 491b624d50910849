"""Clips of the tiny world (`ltxcore.new.tiny_world`) as files, and the dataset file that lists them:

python examples/make_world.py --out examples/media
"""

from __future__ import annotations

from pathlib import Path

import click

from ltxcore.new.tiny_world import DEMO_CLIPS, PARTS, SPLITS, write_world


@click.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write to.")
@click.option(
    "--split", type=click.Choice(list(SPLITS)), default="train", show_default=True, help="Which people of clips, and which of its seeds."
)
@click.option("--count", type=click.IntRange(min=1), default=DEMO_CLIPS, show_default=True, help="How many clips.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--only",
    "parts",
    type=click.Choice(sorted(PARTS)),
    multiple=True,
    default=sorted(PARTS),
    show_default=True,
    help="What to write beside the clips; may be repeated.",
)
@click.option("--dataset", help="Name of the dataset file.  [default: clips for train, else the split's name]")
def main(out: Path, split: str, count: int, seed: int, parts: tuple[str, ...], dataset: str | None) -> None:
    """Write clips of the tiny world, and the dataset file that lists them."""
    path = write_world(out, split, count, seed, frozenset(parts), f"{dataset or ('clips' if split == 'train' else split)}.jsonl")
    print(f"{count} clips in {path}")


if __name__ == "__main__":
    main()
