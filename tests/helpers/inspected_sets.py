"""A set with pictures, sound, references and masks, and runs on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from helpers.training_runs import put, tables, write_run
from ltxcore.codecs.load_codecs import text_encoder
from ltxcore.config.load import LoadedRun, load_run
from ltxcore.engines.process import Processes
from ltxcore.inspection.seen import Seen, first_seen
from ltxcore.runs.first_encoding import encoded
from ltxcore.runs.run_plan import RunPlan, draft, plan
from ltxcore.train.feed import Samples

FRAMES, ROWS, COLUMNS, STEPS = 3, 2, 4, 8

VIDEO: dict[str, Any] = {
    "is_generated": True,
    "latents_dir": "latents",
    "conditions": [
        {"type": "reference", "latents_dir": "reference_latents", "probability": 0.5},
        {"type": "first_frame", "probability": 0.5},
    ],
}
AUDIO: dict[str, Any] = {
    "is_generated": True,
    "latents_dir": "audio_latents",
    "conditions": [{"type": "mask", "mask_dir": "audio_masks", "probability": 0.75}],
}


def av_set(root: Path, count: int = 6) -> Path:
    """Clips of 3 x 2 x 4 cells at 16 frames a second, with half as large references; sounds of 8 steps, with masks that rise from 0 to 1."""
    for number in range(count):
        name = f"clips/clip{number}"
        draw = torch.Generator().manual_seed(number)
        told = {"fingerprint": name, "origin": name}
        put(root, "latents", name, {"latents": torch.randn(128, FRAMES, ROWS, COLUMNS, generator=draw)}, rate=16.0, **told)
        put(root, "reference_latents", name, {"latents": torch.randn(128, FRAMES, 1, 2, generator=draw)}, rate=16.0, **told)
        put(root, "audio_latents", name, {"latents": torch.randn(8, STEPS, 16, generator=draw)}, **told)
        put(root, "audio_masks", name, {"mask": torch.linspace(-0.5, 1.5, STEPS).clamp(0, 1)}, **told)
        words = torch.randn(3, 128, generator=draw)
        put(root, "conditions", name, {"video": words, "audio": words}, shape=(4,), encoder=text_encoder("tiny").fingerprint, **told)
    return root


def av_run(folder: Path, **changed: Any) -> LoadedRun:
    """A run of `folder/data` into `folder/out`; `changed` replaces keys of tables, and `video` and `audio` the blocks of the strategy."""
    blocks = {"video": changed.pop("video", VIDEO), "audio": changed.pop("audio", AUDIO)}
    run = tables(
        folder / "data",
        folder / "out",
        lora={"target_modules": ["attn1.to_q", "audio_attn1.to_q"]},
        training_strategy={"name": "flexible", **{name: block for name, block in blocks.items() if block is not None}},
        optimization={"steps": 3, "batch_size": 2},
        data={"held_out": 0},
    )
    if blocks["audio"] is None:
        del run["training_strategy"]["audio"]
    for name, keys in changed.items():
        run[name] = {**run.get(name, {}), **keys} if isinstance(keys, dict) else keys
    return load_run(write_run(folder, run))


def planned(loaded: LoadedRun) -> RunPlan:
    found = draft(loaded, 1, writes=False).checked()
    return plan(found, encoded(found, loaded.config.data.dataset, found.root, Processes())[1])


def seen_of(loaded: LoadedRun, steps: int = 1) -> list[Seen]:
    """What the model would see, without the model."""
    found = planned(loaded)
    samples = Samples(found.outline.root, found.outline.strategy.sources(), found.manifest)
    return list(first_seen(found, samples, steps))
