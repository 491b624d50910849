"""Runs on top of frozen LoRAs end on two processes where they end on one, at every stage of ZeRO."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.engine_modes import make_set, run_tables, write, zero
from helpers.launches import UNCHECKED, run_jobs

pytestmark = pytest.mark.slow

MODES = {"LoRA": "a stranger's condition, LoRA", "full": "sound, prefix, full"}
STAGES = (1, 2, 3)
STEPS = 4
UNDER = ("transformer_blocks.0.audio_attn1.to_q", "transformer_blocks.0.audio_attn2.to_out.0")


def tables(root: Path, output: Path, kind: str, loras: bool, **changed: Any) -> dict[str, Any]:
    run = run_tables(MODES[kind], root, output, **changed)
    run["model"] = {**run["model"], **({"loras": [f"{root.parent / 'under.safetensors'}:0.5"]} if loras else {})}
    run["optimization"] = {**run["optimization"], "steps": STEPS, "learning_rate": 1e-4}
    run["data"] = {**run["data"], "held_out": 0}
    if kind == "LoRA":
        run["lora"] = {**run["lora"], "dropout": 0.0}
    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("frozen")
    root = make_set(path / "data")
    draws = torch.Generator().manual_seed(0)
    pairs = {f"diffusion_model.{name}.lora_{end}.weight": shape for name in UNDER for end, shape in (("A", (2, 128)), ("B", (128, 2)))}
    save_file({name: 0.3 * torch.randn(shape, generator=draws) for name, shape in pairs.items()}, path / "under.safetensors")
    alone, together = [], []
    for kind in MODES:
        for label, loras in ((f"{kind}.one", True), (f"{kind}.bare", False)):
            one = tables(root, path / label, kind, loras)
            one["optimization"]["gradient_accumulation_steps"] = 2
            alone.append({"run": write(path, label, one)})
        for stage in STAGES:
            label = f"{kind}.{stage}"
            together.append({"run": write(path, label, tables(root, path / label, kind, True, engine=zero(path, stage)))})
    for processes, jobs in ((1, alone), (2, together)):
        for results in run_jobs(path, [{"environment": {"STOP_AT": "99:15"}, **job} for job in jobs], processes, **UNCHECKED):
            assert [result.get("step", result) for result in results] == [STEPS] * len(jobs)
    return path


def furthest(folder: Path, one: str, other: str) -> float:
    name = "lora.safetensors" if one.startswith("LoRA") else "model.safetensors"
    ours, theirs = load_file(folder / one / name), load_file(folder / other / name)
    assert ours.keys() == theirs.keys()
    return max(float((ours[key].float() - theirs[key].float()).abs().max()) for key in ours)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("kind", MODES)
def test_two_processes_end_where_one_ends(kind: str, stage: int, folder: Path) -> None:
    assert furthest(folder, f"{kind}.{stage}", f"{kind}.one") <= 2e-5
    assert furthest(folder, f"{kind}.one", f"{kind}.bare") > 2e-5, "the frozen LoRAs change what is learned"
