"""The example run files: short, in order, and they run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ltxcore.config.load import load_run
from ltxcore.train.conditioning_swap import OTHER, OWN
from ltxcore.train.start_run import run

EXAMPLES = Path(__file__).parents[2] / "examples"
FILES = sorted(EXAMPLES.rglob("*.toml"))


def write_world(folder: Path, split: str, count: int) -> None:
    made = [sys.executable, EXAMPLES / "make_world.py", "--split", split, "--count", str(count), "--out", folder]
    subprocess.run(made, check=True, capture_output=True)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_example_is_short(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert len(lines) < 40


def test_the_first_example_is_under_thirty_lines_and_in_order() -> None:
    path = EXAMPLES / "audio_inpainting.toml"
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert len(lines) < 30
    loaded = load_run(path)
    assert loaded.config.data.dataset == EXAMPLES / "media" / "clips.jsonl"


def test_audio_inpainting_runs_from_raw_clips_and_a_held_out_dataset_to_a_lora_and_sounds(tmp_path: Path) -> None:
    write_world(tmp_path / "media", "train", 9)
    write_world(tmp_path / "apart", "held_out", 3)
    settings = [
        f"output_dir={tmp_path / 'out'}",
        f"data.dataset={tmp_path / 'media' / 'clips.jsonl'}",
        f"data.held_out={tmp_path / 'apart' / 'held_out.jsonl'}",
        "optimization.steps=2",
        "optimization.batch_size=4",
        "validation.inference_steps=2",
        "model.model_path=tiny-untrained",
    ]
    loaded = load_run(EXAMPLES / "audio_inpainting.toml", settings)
    outcome = run(loaded)
    assert {path.name for path in (tmp_path / "media" / ".precomputed").iterdir() if path.is_dir()} == {
        "audio_latents",
        "audio_masks",
        "conditions",
    }
    assert outcome.weights.name == "lora.safetensors"
    assert outcome.before[f"held_out/{OWN}/clips"] == 3
    assert [path.suffix for clip in outcome.generations for path in (clip.before, clip.path, clip.original)] == [".wav"] * 6


@pytest.mark.slow
def test_the_base_is_made_by_a_full_run_of_sound_and_picture(tmp_path: Path) -> None:
    write_world(tmp_path, "base", 6)
    settings = [
        f"output_dir={tmp_path / 'out'}",
        f"data.dataset={tmp_path / 'base.jsonl'}",
        "data.held_out=2",
        "optimization.steps=2",
        "optimization.batch_size=2",
        "validation.inference_steps=2",
    ]
    outcome = run(load_run(EXAMPLES / "base" / "tiny_base.toml", settings))
    assert outcome.weights.name == "model.safetensors"
    assert [path.suffix for clip in outcome.generations for path in (clip.before, clip.path, clip.original)] == [".mp4"] * 6
    again = ["model.model_path=" + str(outcome.weights), f"output_dir={tmp_path / 'again'}", *settings[1:]]
    assert run(load_run(EXAMPLES / "base" / "tiny_base.toml", again)).finished


@pytest.mark.slow
def test_the_example_learns_and_listens_to_its_context(tmp_path: Path) -> None:
    """The claim of the README: better than before, and better than with the context of another clip. CI names the folder of the README's own run of it."""
    done = os.environ.get("LTX_RUN_OF_THE_README")
    output = Path(done) if done else run(load_run(EXAMPLES / "audio_inpainting.toml", [f"output_dir={tmp_path / 'out'}"])).output_dir
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    own, other = (f"held_out/{whose}/audio/sigma_0.90" for whose in (OWN, OTHER))
    before, after = (next(line for line in lines if line["step"] == step and own in line) for step in (0, 300))
    assert after[own] < 0.9 * before[own]
    assert after[own] < 0.7 * after[other]
    assert len([line for line in lines if "loss" in line]) == 300
