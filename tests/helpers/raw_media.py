"""Tiny raw media, made again by the tests: a square that moves, a tone, masks; and dataset files that list them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ltxcore.codecs.source import Codecs
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.encode.ledger import Summary
from ltxcore.encode.preprocess import preprocess
from ltxcore.media.probe import write_clip, write_sound
from ltxcore.protocols import Clip, Sound

RATE = 16
FRAMES = 17
SECONDS = FRAMES / RATE


def pictures(frames: int = FRAMES, height: int = 64, width: int = 64, seed: int = 0, rate: float = RATE) -> Clip:
    """A soft gradient with a bright square that moves with time; other seeds, other colours."""
    colour = torch.tensor([40.0 + 37 * seed % 200, 120.0, 200.0 - 31 * seed % 150])
    rows = torch.linspace(0, 60, height)[None, :, None, None]
    pixels = (colour + rows).expand(frames, height, width, 3).clone()
    for frame in range(frames):
        left = (frame * 2 + seed * 5) % max(1, width - 8)
        pixels[frame, height // 4 : height // 4 + 8, left : left + 8] = 250.0
    return Clip(pixels.round().clamp(0, 255).to(torch.uint8), rate)


def tone(seconds: float = SECONDS, rate: int = 16_000, channels: int = 1, hertz: float = 440.0) -> Sound:
    time = torch.arange(round(seconds * rate)) / rate
    return Sound((0.5 * torch.sin(2 * math.pi * hertz * time)).expand(channels, -1).contiguous(), rate)


def clip_file(path: Path, sound: bool = True, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    clip = pictures(**options)
    seconds = clip.frames.shape[0] / clip.rate
    write_clip(path, clip, tone(seconds, hertz=300.0 + 50 * options.get("seed", 0)) if sound else None)
    return path


def sound_file(path: Path, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_sound(path, tone(**options))
    return path


def mask_file(path: Path, values: Sequence[float], seconds: float = SECONDS) -> Path:
    """An audio mask of equal spans of these values, at 1000 samples a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = round(seconds * 1000)
    place = (torch.arange(count) * len(values) // count).clamp(max=len(values) - 1)
    write_sound(path, Sound(torch.tensor(values)[place][None], 1000))
    return path


def dataset_file(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def small_set(folder: Path, count: int = 3) -> Path:
    """Clips with sound, audio masks and captions."""
    rows = []
    for index in range(count):
        clip_file(folder / f"clips/{index}.mp4", seed=index)
        mask_file(folder / f"masks/{index}.wav", [1.0, 0.0, 1.0])
        rows.append({"video": f"clips/{index}.mp4", "audio_mask": f"masks/{index}.wav", "caption": f"clip number {index}"})
    return dataset_file(folder / "set.jsonl", rows)


def encode(dataset: Path, root: Path | None = None, *, folders: Sequence[str] | None = None, **options: Any) -> Summary:
    """`preprocess` with the tiny model, without bars."""
    return preprocess(dataset, root, PreprocessingTable(**options), Codecs("tiny"), folders=folders, progress=False, workers=2)


def message(error: Any) -> str:
    return str(error.value)
