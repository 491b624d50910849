"""A run learns to go through keyframes: near them, its loss is below that of a run without them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers.training_runs import put, tables, write_run
from ltxcore.codecs.load_codecs import text_encoder, video_codec
from ltxcore.config.load import load_run
from ltxcore.inspection.first_steps import inspect
from ltxcore.new.tiny_world import FPS, FRAMES, scenes
from ltxcore.protocols import Clip
from ltxcore.train.start_run import run

CELLS = 4
"""The tokens of a latent frame of these clips."""

CONDITION = {"type": "keyframes", "keyframes_dir": "keyframes", "candidates": [0, -1]}


def clips(root: Path, split: str, count: int) -> Path:
    """Clips of the tiny world with their first and last frame as pictures, encoded without media files between."""
    video, text = video_codec("tiny"), text_encoder("tiny")
    for scene in scenes(split, count):
        clip = scene.clip()
        stills = [video.encode(Clip(clip.frames[frame : frame + 1], clip.rate)) for frame in (0, FRAMES - 1)]
        told = {"fingerprint": scene.name, "origin": scene.name}
        put(root, "latents", scene.name, {"latents": video.encode(clip)}, rate=float(FPS), **told)
        put(root, "keyframes", scene.name, {"pictures": torch.stack(stills), "frames": torch.tensor([0.0, FRAMES - 1])}, **told)
        (features,) = text.encode([scene.caption])
        put(root, "conditions", scene.name, features, shape=(text.length,), encoder=text.fingerprint, **told)
    return root


def error_by_frame(folder: Path, conditions: list[dict[str, Any]]) -> Tensor:
    """The squared error of clips that the run has not seen, by latent frame, after a run with these conditions."""

    def settings(name: str, root: str, steps: int, **model: str) -> Path:
        own = {
            "model": {"model_path": "tiny", **model},
            "lora": {
                "rank": 16,
                "target_modules": ["attn1.to_k", "attn1.to_q", "attn1.to_v", "attn1.to_out.0", "ff.net.0.proj", "ff.net.2"],
            },
            "training_strategy": {
                "name": "flexible",
                "video": {"is_generated": True, "latents_dir": "latents", "conditions": conditions},
            },
            "flow_matching": {"timestep_sampling_mode": "uniform", "timestep_sampling_params": {"min_value": 0.85, "max_value": 0.95}},
            "optimization": {"steps": steps, "batch_size": 12, "learning_rate": 8e-3},
            "data": {"held_out": 0},
            "validation": {"interval": 0, "skip_initial_validation": True, "inference_steps": 2},
        }
        table = tables(folder / root, folder / name, **own)
        del table["training_strategy"]["audio"]
        return write_run(folder, table, f"{name}.toml")

    name = f"with_{len(conditions)}"
    weights = run(load_run(settings(name, "train", 60))).weights
    looked = load_run(settings(f"{name}_seen", "held_out", 2, load_checkpoint=str(weights)))
    errors = []
    for seen in inspect(looked, steps=2, dump=folder / f"{name}.safetensors"):
        video = seen.inputs["video"]
        assert video.velocity is not None
        predicted = seen.predicted["video"][:, : video.velocity.shape[1]]
        errors.append((predicted - video.velocity).square().unflatten(1, (-1, CELLS)).mean(dim=(0, 2, 3)))
    return torch.stack(errors).mean(dim=0)


@pytest.mark.slow
def test_the_loss_near_keyframes_falls_below_that_of_a_run_without_them(tmp_path: Path) -> None:
    clips(tmp_path / "train", "train", 72)
    clips(tmp_path / "held_out", "held_out", 24)
    without, given = error_by_frame(tmp_path, []), error_by_frame(tmp_path, [CONDITION])
    assert given[0] < 0.9 * without[0], "the first latent frame is the first keyframe itself"
    assert given[-1] < 0.97 * without[-1], "the last keyframe is the last of the eight frames of the last latent frame"
