"""Runs with adapters of every type: they resume to the last bit, and what is saved makes the model that was trained."""

from __future__ import annotations

import filecmp
import shutil
from pathlib import Path

import pytest
import torch

from helpers.heard import heard
from helpers.training_runs import loaded_run, sound_set
from ltxcore.models.lora_file import read_lora, shapes_of
from ltxcore.train.start_run import run

STEPS = 4
TARGETS = ["transformer_blocks.0.audio_attn1.to_q", "transformer_blocks.3.audio_ff.net.2"]


@pytest.mark.parametrize("kind", ["lokr", "loha", "pissa"])
def test_a_run_with_groups_and_an_average_resumes_to_the_last_bit(kind: str, tmp_path: Path) -> None:
    sound_set(tmp_path / "data", 6)
    loaded = loaded_run(
        tmp_path,
        optimization={"steps": STEPS, "learning_rate": 0.01, **({"lora_plus_ratio": 4} if kind == "pissa" else {})},
        checkpoints={"interval": 2, "keep_last_n": -1, "precision": "float32"},
        lora={"type": kind, "rank": 3, "target_modules": TARGETS, "groups": [{"modules": ["audio_ff"], "rank": 2}]},
        ema={"decay": 0.5},
        data={"held_out": 2},
    )
    with heard() as said:
        first = run(loaded)
    programs = f'lora.safetensors of this run will be of the type "{kind}": comfyui can load it as it is; diffusers, ltx-pipelines cannot\n'
    assert (programs in said.getvalue()) == (kind != "pissa")  # which is saved as a plain LoRA
    assert ("lora.safetensors of this run" in said.getvalue()) == (kind != "pissa")
    assert first.weights is not None
    assert first.averaged is not None
    assert ('"learning_rate/lora_B"' in first.metrics.read_text()) == (kind == "pissa")
    last, average = read_lora(first.weights, ""), read_lora(first.averaged, "")
    twice = 2 if kind == "pissa" else 1  # its file is the difference to its start
    assert [last.shape(module).rank for module in TARGETS] == [3 * twice, 2 * twice]
    assert {name: shapes_of(tensors) for name, tensors in average.modules.items()} == {
        name: shapes_of(tensors) for name, tensors in last.modules.items()
    }
    assert not all(torch.equal(last.modules[TARGETS[0]][name], tensor) for name, tensor in average.modules[TARGETS[0]].items())
    whole = first.weights.rename(tmp_path / "whole.safetensors")
    (first.output_dir / "run.json").write_text((first.output_dir / "run.json").read_text().replace('"finished"', '"stopped"'))
    for path in (first.output_dir / "checkpoints").glob(f"*{STEPS}"):
        shutil.rmtree(path)
    assert filecmp.cmp(run(loaded).weights, whole, shallow=False)
