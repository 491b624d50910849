"""Micro-batches of tokens, which hold different numbers of samples, give the same losses on two processes as on one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers.engine_modes import make_set, run_tables, write, zero
from helpers.launches import UNCHECKED, run_launches
from helpers.training_runs import put, put_sound

pytestmark = pytest.mark.slow

MODE, STEPS = "both, full, accumulation", 4


def tables(root: Path, output: Path, accumulation: int, **changed: Any) -> dict[str, Any]:
    """Room for three short clips, or for a long one."""
    run = run_tables(MODE, root, output, **changed)
    del run["optimization"]["batch_size"]
    run["optimization"] |= {"steps": STEPS, "tokens_per_batch": 3 * (12 + 16), "gradient_accumulation_steps": accumulation}
    run["checkpoints"]["save_training_state"] = "off"
    return run


def losses(path: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key.startswith("loss") or "/loss" in key} for line in lines]


def test_losses_agree_with_those_of_one_process(tmp_path: Path) -> None:
    root = make_set(tmp_path / "data")
    for number in range(20, 25):
        name = put_sound(root, number, steps=24)
        latents = torch.randn(128, 7, 2, 2, generator=torch.Generator().manual_seed(number))
        put(root, "latents", name, {"latents": latents}, rate=16.0, fingerprint=name, origin=f"{name}.wav")
    one = write(tmp_path, "one", tables(root, tmp_path / "one", 4))
    two = write(tmp_path, "two", tables(root, tmp_path / "two", 2, engine=zero(tmp_path, 3)))
    for launch in run_launches(tmp_path, [(1, [{"run": one}]), (2, [{"run": two}])], **UNCHECKED):
        assert {result.get("step", str(result)) for results in launch for result in results} == {STEPS}
    alone, divided = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(alone) == len(divided) >= STEPS
    for one_step, two_step in zip(alone, divided, strict=True):
        assert one_step == pytest.approx(two_step, abs=1e-4)
