"""A small set that nothing is wrong with, and what the doctor finds in it once a fault is planted."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from helpers.raw_media import FRAMES, RATE, dataset_file, mask_file, pictures
from ltxcore.codecs.source import Codecs
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.media.probe import write_clip, write_sound
from ltxcore.progress import bars
from ltxcore.protocols import Clip, Sound
from ltxplugins.tools.doctor.examine import Options, examine
from ltxplugins.tools.doctor.findings import Checkup, Finding

BUCKET = "64x64x17"
COUNT = 3
COLUMNS = {
    "video": "clips/{}.mp4",
    "video_mask": "masks/{}.png",
    "audio_mask": "masks/{}.wav",
    "reference_video": "references/{}.mp4",
    "reference_audio": "references/{}.mp4",
}


def stereo(seconds: float = FRAMES / RATE, number: int = 0, level: float = 0.4, channels: int = 2) -> Sound:
    """A tone whose pitch is its number's, an octave higher on the right."""
    time = torch.arange(round(seconds * 16_000)) / 16_000
    rows = [level * torch.sin(2 * math.pi * (300 + 70 * number) * 2**side * time) for side in range(channels)]
    return Sound(torch.stack(rows), 16_000)


def put_clip(path: Path, number: int = 0, *, frames: int = FRAMES, sound: Sound | str | None = "whole", **options: Any) -> None:
    """A clip with sound, unless `sound` is None."""
    path.parent.mkdir(parents=True, exist_ok=True)
    clip = pictures(frames=frames, seed=number, **options)
    heard = stereo(frames / clip.rate, number) if isinstance(sound, str) else sound
    write_clip(path, clip, heard)


def put_video_mask(path: Path, left: int = 255, right: int = 0, width: int = 64, height: int = 64) -> None:
    """An image of two halves."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = torch.full((1, height, width, 3), right, dtype=torch.uint8)
    grey[:, :, : width // 2] = left
    write_clip(path, Clip(grey, 1.0))


def put_sound(path: Path, sound: Sound) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_sound(path, sound)


def rows(count: int = COUNT) -> list[dict[str, str]]:
    return [
        {**{column: form.format(number) for column, form in COLUMNS.items()}, "caption": f"clip number {number}"} for number in range(count)
    ]


def write_rows(folder: Path, written: Sequence[dict[str, str]]) -> Path:
    return dataset_file(folder / "set.jsonl", written)


def change_row(folder: Path, line: int, **cells: str) -> None:
    """Write cells of a row over."""
    path = folder / "set.jsonl"
    held = [json.loads(text) for text in path.read_text().splitlines()]
    held[line - 1] |= cells
    write_rows(folder, held)


def healthy_set(folder: Path) -> Path:
    """Clips with stereo sound, masks and references of both, captions: everything that a dataset may have."""
    for number in range(COUNT):
        put_clip(folder / f"clips/{number}.mp4", number)
        put_clip(folder / f"references/{number}.mp4", number + COUNT)
        put_video_mask(folder / f"masks/{number}.png")
        mask_file(folder / f"masks/{number}.wav", [1.0, 0.0, 1.0])
    return write_rows(folder, rows())


def checkup(target: Path, *, deep: bool = False, model: str | None = None, samples: int | None = None, **options: Any) -> Checkup:
    codecs = None if model is None else Codecs(model, device="cpu")
    how = Options(PreprocessingTable(**options), codecs, deep=deep, workers=2, samples=samples)
    with bars(False) as phase:
        return examine(target, how, phase)


def findings(target: Path, **options: Any) -> list[Finding]:
    return checkup(target, **options).findings


def found(folder: Path, target: Path, **options: Any) -> list[tuple[str, str, str, str, str]]:
    """Every finding, with the test's folder spelled TMP."""
    return [
        (each.check, each.severity, *(text.replace(str(folder), "TMP") for text in (each.where, each.what, each.remedy)))
        for each in findings(target, **options)
    ]
