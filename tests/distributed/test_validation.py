"""Samples of `[validation]` while training: two processes under ZeRO-3 draw in step with each other, and draw what one process does.

Takes about a minute and a half on two free cores.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from helpers.engine_modes import make_set, run_tables, write, zero
from helpers.launches import UNCHECKED, run_launches

pytestmark = pytest.mark.slow

MEDIA = Path(__file__).parents[2] / "examples" / "media"
CLIP = str(MEDIA / "clips" / "train_0000.mp4")
MODE = "both, reference and suffix, LoRA"

SAMPLES: list[dict[str, Any]] = [
    {"prompt": "a green square bounces"},
    {"prompt": "a disc sways", "conditions": [{"type": "first_frame", "image_or_video": CLIP}]},
    {"prompt": "a glassy tone", "conditions": [{"type": "video_to_audio", "video": CLIP}]},
]
"""Both from text; both, with an image and so with more to encode; and sound alone, for a given picture."""


def table(samples: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "samples": samples,
        "video_dims": [64, 64, 17],
        "frame_rate": 16.0,
        "inference_steps": 2,
        "interval": 2,
        "skip_initial_validation": True,
        "stg_blocks": [1],
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("validation")
    root = make_set(path / "data")
    jobs = {}
    for name, accumulation, engine in (("one", 2, {"name": "single"}), ("two", 1, zero(path, 3))):
        steps = {"steps": 3, "batch_size": 2, "learning_rate": 2e-3, "gradient_accumulation_steps": accumulation}
        tables = run_tables(
            MODE,
            root,
            path / name,
            model={"model_path": "tiny-untrained"},
            optimization=steps,
            engine=engine,
            validation=table(SAMPLES),
            data={"preprocessed_data_root": str(root), "held_out": 0, "num_dataloader_workers": 0},
        )
        jobs[name] = {"run": write(path, name, tables), "recorded": True}
    for launch in run_launches(path, [(1, [jobs["one"]]), (2, [jobs["two"]])], **UNCHECKED):
        for (result,) in launch:
            assert result.get("finished"), result
    return path


def drawn(output: Path) -> list[tuple[int, str, str]]:
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["sample"], Path(line["path"]).name) for line in lines if "sample" in line]


def test_every_sample_is_drawn_at_the_same_steps_under_the_same_name(folder: Path) -> None:
    one, two = drawn(folder / "one"), drawn(folder / "two")
    assert one == two
    assert [(step, name) for step, name, _ in one] == [(step, sample["prompt"]) for step in (2, 3) for sample in SAMPLES]


def test_what_two_processes_draw_is_what_one_draws(folder: Path) -> None:
    """Latents: codecs would lose the last digits, and the media are made of these by the first process alone."""
    files = [sorted((folder / f"{name}.latents").iterdir()) for name in ("one", "two")]
    assert len(files[0]) == len(files[1]) == 2 * len(SAMPLES)
    for one, two in zip(*map(partial(map, load_file), files), strict=True):
        assert one.keys() == two.keys()
        for name, latents in one.items():
            assert latents.shape == two[name].shape
            assert float((latents - two[name]).abs().max()) < 1e-4
            assert float(latents.std()) > 0.1
