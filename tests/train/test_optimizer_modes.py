"""An optimizer that trains on other weights than those to keep: what is saved is what it keeps, and a checkpoint is what it goes on with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from helpers.training_runs import loaded_run, sound_set
from ltxcore.train.start_run import run

pytest.importorskip("schedulefree")
STEPS = 4


def lora(name: str) -> str:
    """The name of a weight in a file, without what its place in the model is called there."""
    return name.rpartition("audio_attn1.")[2].replace(".default", "")


def test_a_run_saves_the_mean_of_its_weights_and_resumes_from_those_it_trains_on(tmp_path: Path) -> None:
    sound_set(tmp_path / "data", 6)
    loaded = loaded_run(
        tmp_path,
        optimization={"steps": STEPS, "optimizer_type": "adamw_schedule_free", "learning_rate": 0.01},
        checkpoints={"interval": 2, "keep_last_n": -1, "precision": "float32"},
        lora={"rank": 2, "target_modules": ["transformer_blocks.0.audio_attn1.to_q"]},
        data={"held_out": 2},
        validation={"interval": 1},
    )
    first = run(loaded)
    folder = first.output_dir / "checkpoints" / "step_000002"
    kept, state = load_file(folder / "lora.safetensors"), load_file(folder / "state.safetensors")
    trained = {name.removeprefix("parameter/"): value for name, value in state.items() if name.startswith("parameter/")}
    means = {lora(name): torch.lerp(value, state[f"z/{name}"], 1 - 1 / 0.9) for name, value in trained.items()}
    found = {lora(name): value for name, value in kept.items()}
    assert found.keys() == means.keys()
    assert all(torch.equal(found[name], mean) for name, mean in means.items())
    assert not any(torch.equal(found[lora(name)], value) for name, value in trained.items())

    end = load_file(first.weights)
    (first.output_dir / "run.json").write_text((first.output_dir / "run.json").read_text().replace('"finished"', '"stopped"'))
    for path in (first.output_dir / "checkpoints").glob(f"*{STEPS}"):
        shutil.rmtree(path)
    again = load_file(run(loaded).weights)
    assert all(torch.equal(value, again[name]) for name, value in end.items())
