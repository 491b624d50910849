"""Small runs for the tests: an encoded set of sounds, and a run file for it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ltxcore.codecs.load_codecs import text_encoder
from ltxcore.config.load import LoadedRun, load_run
from ltxcore.config.render import document
from ltxcore.encoded.manifest import append_entry
from ltxcore.encoded.store import write_sample
from ltxcore.errors import LtxError
from ltxcore.protocols import Entry

STEPS = 8
"""Latent steps of a sound."""

ONLY_TINY = "The tiny model is only for trying ltx: `ltx new MODE --data DATA` writes a run file for a real model.\n"
"""What `ltx sample` says after a sample of the tiny model with a LoRA."""

STOPPER = '''
"""A tracker that interrupts the run, as a user would."""
import os
import signal
import attrs
from ltxcore.api import hookimpl

@attrs.define
class Stopper:
    at: int

    def start(self, output_dir, run, total_steps, first_step):
        pass

    def log(self, step, metrics):
        if step == self.at and "loss" in metrics:
            os.kill(os.getpid(), signal.SIGTERM)

    def sample(self, step, name, path):
        pass

    def finish(self):
        pass

@hookimpl
def ltx_trackers():
    return {"stopper": Stopper}
'''


def put(root: Path, folder: str, name: str, tensors: Mapping[str, Tensor], **told: Any) -> None:
    append_entry(root, folder, name, write_sample(root, folder, name, tensors, Entry(**{"shape": (), **told})))


def put_sound(root: Path, number: int, steps: int = STEPS, given: int = 4) -> str:
    """A wave whose pitch is its number's; `given` of its first steps are given."""
    name = f"sound{number:02d}"
    time = torch.arange(steps) / steps
    latents = torch.sin(2 * math.pi * (time[None, :, None] * (1 + number % 3) + torch.arange(8)[:, None, None] / 8)).expand(8, steps, 16)
    mask = (torch.arange(steps) < given).float()
    put(root, "audio_latents", name, {"latents": latents.contiguous()}, fingerprint=name, origin=f"{name}.wav")
    put(root, "audio_masks", name, {"mask": mask}, fingerprint=name, origin=f"{name}.wav")
    words = torch.randn(3, 128, generator=torch.Generator().manual_seed(number))
    put(root, "conditions", name, {"video": words, "audio": words}, shape=(4,), fingerprint=name, encoder=text_encoder("tiny").fingerprint)
    return name


def sound_set(root: Path, count: int = 24) -> Path:
    for number in range(count):
        put_sound(root, number)
    return root


def tables(root: Path, output: Path, **changed: Mapping[str, Any]) -> dict[str, Any]:
    """A LoRA for audio inpainting, in four steps; `changed` replaces keys of tables."""
    run: dict[str, Any] = {
        "output_dir": str(output),
        "model": {"model_path": "tiny-untrained"},
        "lora": {"rank": 2, "target_modules": ["audio_attn1.to_q", "audio_attn1.to_v"]},
        "training_strategy": {
            "name": "flexible",
            "audio": {"is_generated": True, "latents_dir": "audio_latents", "conditions": [{"type": "mask", "mask_dir": "audio_masks"}]},
        },
        "optimization": {"steps": 4, "batch_size": 4, "learning_rate": 1e-3},
        "acceleration": {"mixed_precision_mode": "no"},
        "validation": {"inference_steps": 2},
        "data": {"preprocessed_data_root": str(root), "held_out": 4, "num_dataloader_workers": 0},
    }
    for name, keys in changed.items():
        run[name] = {**run[name], **keys} if isinstance(keys, Mapping) and name in run else keys
    return run


def write_run(folder: Path, run: Mapping[str, Any], name: str = "run.toml") -> Path:
    path = folder / name
    path.write_text(document(run))
    return path


def loaded_run(folder: Path, **changed: Any) -> LoadedRun:
    """A run of `folder/data` into `folder/out`."""
    return load_run(write_run(folder, tables(folder / "data", folder / "out", **changed)))


def message(error: LtxError, folder: Path) -> str:
    """The whole message, with the temporary folder spelled TMP."""
    return str(error).replace(str(folder), "TMP")
