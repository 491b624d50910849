"""docs/how-to/modes/v2v_ic.webp, the README's moving picture: what an IC-LoRA makes of the edges of clips that it never saw.

    python docs/made/moving_picture.py FOLDER        # of a run of examples/v2v_ic.toml; where it is not there, it is made, in about two minutes

Each row is a held-out clip: its reference; what the model generates from its caption and reference before training, and with the run's LoRA, from the same noise;
and the clip itself, as it comes back from the VAE that all of them go through. Nothing else is given, and nothing guides.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import click
from PIL import Image, ImageDraw, ImageFont

from ltxcore.cli.main import main as ltx
from pages import DOCS

PICTURE = DOCS / "how-to" / "modes" / "v2v_ic.webp"
EXAMPLES = DOCS.parent / "examples"
MEDIA = EXAMPLES / "media"
CLIPS = ("clips/train_0001", "clips/train_0002", "clips/train_0008")
COLUMNS = ("reference", "before training", "after training", "the clip itself")
SIDE, GAP, HEAD = 128, 6, 26
PLAIN = ("--video-cfg-scale", "1", "--video-stg-scale", "0", "--video-modality-guidance-scale", "1", "--no-generate-audio")
SIZE = ("--video-dims", "64x64x17", "--frame-rate", "16")
MILLISECONDS = 100
"""That a frame is shown: slower than it is, to be seen."""


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
def main(folder: Path) -> None:
    """Write the moving picture from the run in FOLDER."""
    if not (folder / "lora.safetensors").is_file():
        _ltx("run", EXAMPLES / "v2v_ic.toml", "--set", f"output_dir={folder.absolute()}")
    held_out = json.loads((folder / "run.json").read_text(encoding="utf-8"))["held_out"]
    rows = [row for row in _rows() if row["video"].removesuffix(".mp4") in CLIPS]
    assert {row["video"].removesuffix(".mp4") for row in rows} <= set(held_out), "a clip of the picture was trained on"
    prompts = folder / "picture.jsonl"
    prompts.write_text("".join(json.dumps(_prompt(row)) + "\n" for row in rows), encoding="utf-8")
    for name, lora in (("before", ()), ("after", ("--lora", folder / "lora.safetensors"))):
        _ltx("sample", prompts, "--model", "tiny", *PLAIN, *SIZE, *lora, "--overwrite", "-o", folder / name)
    _ltx("decode", MEDIA / ".precomputed", "--sources", "latents", "--overwrite", "-o", folder / "decoded")
    write(folder, rows)
    click.echo(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes")


def write(folder: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write the picture from what was generated for these rows into a run's folder."""
    clips = []
    for number, row in enumerate(rows, 1):
        generated = [folder / name / f"sample_{number}.mp4" for name in ("before", "after")]
        paths = [MEDIA / row["reference_video"], *generated, folder / "decoded" / "latents" / row["video"]]
        clips.append([_frames(path) for path in paths])
    first, *rest = _sheet(clips)
    first.save(PICTURE, save_all=True, append_images=rest, duration=MILLISECONDS, loop=0, quality=90, method=6)


def _ltx(*words: object) -> None:
    ltx([str(word) for word in words], standalone_mode=False)


def _rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (MEDIA / "clips.jsonl").read_text(encoding="utf-8").splitlines()]


def _prompt(row: dict[str, Any]) -> dict[str, Any]:
    return {"prompt": row["caption"], "seed": 1, "conditions": [{"type": "reference", "video": str(MEDIA / row["reference_video"])}]}


def _frames(path: Path) -> list[Image.Image]:
    with av.open(str(path)) as container:
        return [frame.to_image().resize((SIDE, SIDE), Image.Resampling.NEAREST) for frame in container.decode(video=0)]


def _sheet(clips: list[list[list[Image.Image]]]) -> list[Image.Image]:
    """One picture a frame: a head, and a row of pictures for each clip."""
    width, height = len(COLUMNS) * (SIDE + GAP) + GAP, HEAD + len(clips) * (SIDE + GAP)
    font = ImageFont.load_default(14)
    sheet = []
    for number in range(min(len(frames) for row in clips for frames in row)):
        page = Image.new("RGB", (width, height), "white")
        pen = ImageDraw.Draw(page)
        for column, head in enumerate(COLUMNS):
            left = GAP + column * (SIDE + GAP)
            pen.text((left + SIDE / 2, HEAD / 2), head, fill="black", font=font, anchor="mm")
            for line, row in enumerate(clips):
                page.paste(row[column][number], (left, HEAD + line * (SIDE + GAP)))
        sheet.append(page)
    return sheet


if __name__ == "__main__":
    main()
