"""An encoded set in which some samples have no sound and others no pictures, with a mask over the sound; and runs on it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from helpers.training_runs import put, tables
from ltxcore.codecs.load_codecs import text_encoder

CELLS, STEPS = (3, 2, 2), 8

SAMPLES = {
    **{f"clip{number}": ("video", "audio") for number in range(4)},
    **{f"silent{number}": ("video",) for number in range(4)},
    **{f"sound{number}": ("audio",) for number in range(2)},
}
"""The modalities of each sample."""

VIDEO: Mapping[str, Any] = {
    "is_generated": True,
    "latents_dir": "latents",
    "conditions": [{"type": "first_frame", "probability": 0.5}],
}
AUDIO: Mapping[str, Any] = {
    "is_generated": True,
    "latents_dir": "audio_latents",
    "conditions": [{"type": "mask", "mask_dir": "audio_masks", "probability": 0.5}],
}


def mixed_set(root: Path, samples: Mapping[str, tuple[str, ...]] = SAMPLES) -> Path:
    for name, modalities in samples.items():
        draw = torch.Generator().manual_seed(sum(name.encode()))
        told = {"fingerprint": name, "origin": f"{name}.mp4"}
        clip, sound, words = (torch.randn(shape, generator=draw) for shape in ((128, *CELLS), (8, STEPS, 16), (3, 128)))
        if "video" in modalities:
            put(root, "latents", name, {"latents": clip}, rate=16.0, **told)
        if "audio" in modalities:
            put(root, "audio_latents", name, {"latents": sound}, **told)
            put(root, "audio_masks", name, {"mask": (torch.arange(STEPS) < 3).float()}, **told)
        encoder = text_encoder("tiny").fingerprint
        put(root, "conditions", name, {"video": words, "audio": words}, shape=(4,), encoder=encoder, **told)
    return root


def mixed_tables(root: Path, output: Path, **changed: Any) -> dict[str, Any]:
    """A LoRA of both modalities and of the attention between them, in six steps of two samples."""
    blocks = {"video": changed.pop("video", VIDEO), "audio": changed.pop("audio", AUDIO)}
    run = tables(
        root,
        output,
        lora={"target_modules": ["attn1.to_q", "audio_attn1.to_q", "audio_to_video_attn.to_v", "video_to_audio_attn.to_v"]},
        optimization={"steps": 6, "batch_size": 2, "learning_rate": 1e-2},
        data={"held_out": 0, "missing": "train_without"},
    )
    run["training_strategy"] = {"name": "flexible", **{name: block for name, block in blocks.items() if block is not None}}
    for name, keys in changed.items():
        run[name] = {**run.get(name, {}), **keys} if isinstance(keys, dict) else keys
    return run
