"""Full fine-tuning by two processes, beside what is said of it: of a model of 30M parameters and of a tiny one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from helpers.launches import finish, start, torchrun
from helpers.sampling import sampled
from helpers.training_runs import put, sound_set, tables, write_run
from ltxcore.models.backbone import ModelInfo
from ltxcore.models.base import Base
from ltxcore.models.parameter_names import to_original
from ltxcore.models.tiny_model import TINY
from planner.test_estimate import predicted

pytestmark = pytest.mark.slow

WORKER = Path(__file__).with_name("zero_worker.py")
LARGE: dict[str, Any] = {
    **TINY,
    "num_layers": 4,
    "num_attention_heads": 8,
    "attention_head_dim": 64,
    "cross_attention_dim": 512,
    "audio_num_attention_heads": 8,
    "audio_attention_head_dim": 32,
    "audio_cross_attention_dim": 256,
}
LENGTH = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base of 30M parameters with random weights, and two clips with sound."""
    path = tmp_path_factory.mktemp("large")
    backbone = Base(ModelInfo("large", "2.3", "", LARGE["num_layers"]), LARGE).sketch(frozenset({"video", "audio"}))
    shapes = {name.removeprefix("transformer."): tuple(each.shape) for name, each in backbone.named_parameters()}
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) >= 25e6
    tensors = {
        f"model.diffusion_model.{to_original(name)}": (torch.rand(shape, dtype=torch.bfloat16) - 0.5) / 16 for name, shape in shapes.items()
    }
    save_file(tensors, path / "large.safetensors", metadata={"config": json.dumps({"transformer": LARGE})})
    for number in range(2):
        told = {"fingerprint": f"{number}", "origin": f"{number}.mp4"}
        put(path / "data", "latents", f"clip{number}", {"latents": torch.randn(128, 4, 4, 4)}, rate=16.0, **told)
        put(path / "data", "audio_latents", f"clip{number}", {"latents": torch.randn(8, 64, 16)}, **told)
        text = {"video": torch.randn(3, 512), "audio": torch.randn(3, 256)}
        put(path / "data", "conditions", f"clip{number}", text, shape=(LENGTH,), **told)
    return path


def run_file(folder: Path, stage: int, checkpointing: bool) -> Path:
    deepspeed = folder / f"ds_{stage}.json"
    deepspeed.write_text(json.dumps({"zero_optimization": {"stage": stage, "reduce_bucket_size": 5_000_000}}))
    generated = {"is_generated": True}
    tables: dict[str, Any] = {
        "output_dir": str(folder / f"out{stage}"),
        "model": {"model_path": str(folder / "large.safetensors"), "training_mode": "full"},
        "training_strategy": {
            "name": "flexible",
            "video": {**generated, "latents_dir": "latents"},
            "audio": {**generated, "latents_dir": "audio_latents"},
        },
        "optimization": {"steps": 3, "batch_size": 1, "enable_gradient_checkpointing": checkpointing},
        "engine": {"name": "zero", "deepspeed_config": str(deepspeed)},
        "data": {"preprocessed_data_root": str(folder / "data"), "held_out": 0, "num_dataloader_workers": 0},
        "validation": {"skip_initial_validation": True},
    }
    return write_run(folder, tables, f"zero{stage}.toml")


@pytest.mark.parametrize(("stage", "checkpointing"), sampled([(2, False), (3, True)], 1))
def test_two_processes_hold_what_is_said(
    stage: int, checkpointing: bool, folder: Path, record_property: Callable[[str, object], None]
) -> None:
    path = run_file(folder, stage, checkpointing)
    _, need = predicted(path, processes=2)
    assert need.engine == f"ZeRO stage {stage}"
    process = start(torchrun(2, str(WORKER), str(path), str(folder / "held")))
    said = finish(process, limit=1800)
    assert process.returncode == 0, said
    for rank in (0, 1):
        held = json.loads((folder / f"held.{rank}").read_text())
        for name in ("weights", "gradients", "optimizer"):
            assert held[name] == pytest.approx(getattr(need.states, name), rel=0.1), (name, rank, held, need)
        assert held["saved"] == pytest.approx(need.activations.saved, rel=0.1), (rank, held, need)
        record_property(f"resident bytes of process {rank}, its libraries included", held["rss"])


def test_two_processes_hold_masters_beside_weights_of_float32(tmp_path: Path) -> None:
    sound_set(tmp_path / "data")
    full = {"model": {"training_mode": "full"}, "engine": {"name": "zero", "stage": 3}, "validation": {"skip_initial_validation": True}}
    path = write_run(tmp_path, tables(tmp_path / "data", tmp_path / "out", **full))
    _, need = predicted(path, processes=2)
    process = start(torchrun(2, str(WORKER), str(path), str(tmp_path / "held")))
    said = finish(process, limit=600)
    assert process.returncode == 0, said
    for rank in (0, 1):
        held = json.loads((tmp_path / f"held.{rank}").read_text())
        for name in ("weights", "gradients", "optimizer"):
            assert held[name] == pytest.approx(getattr(need.states, name), rel=0.02), (name, rank, held, need)
