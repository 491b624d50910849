"""LoRAs and models that 0.1.0 trained, and ltx-checkerboard as it came with it: drawn with, trained further, written again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from helpers.lora_files import load_lora
from helpers.older_runs import brought, ltx
from ltxcore.media.probe import probe
from ltxcore.models.load_base import load_backbone
from ltxcore.models.lora import save_lora

QUICK = (
    "--video-dims",
    "64x64x9",
    "--frame-rate",
    16,
    "--inference-steps",
    2,
    "--device",
    "cpu",
    "--video-cfg-scale",
    1,
    "--audio-cfg-scale",
    1,
)
PLAIN = ("--video-stg-scale", 0, "--audio-stg-scale", 0, "--video-modality-guidance-scale", 1, "--audio-modality-guidance-scale", 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return brought(tmp_path_factory.mktemp("films") / "films")


def test_a_lora_draws(folder: Path) -> None:
    lora = folder / "weights/single.safetensors"
    for name, more in (("with", ["--lora", lora]), ("stronger", ["--lora", f"{lora}:3"]), ("without", [])):
        ltx(folder, "sample", "a square", "--model", "tiny", *more, "-o", f"{name}.mp4", *QUICK, *PLAIN)
    assert (probe(folder / "with.mp4").frames, probe(folder / "with.mp4").sound_rate) == (9, 16_000)
    assert len({(folder / f"{name}.mp4").read_bytes() for name in ("with", "stronger", "without")}) == 3


@pytest.mark.parametrize("name", ["single", "two_processes", "finished", "rslora", "dora", "trigger"])
def test_a_lora_that_is_loaded_and_saved_anew_does_the_same(folder: Path, tmp_path: Path, name: str) -> None:
    old, new = folder / f"weights/{name}.safetensors", tmp_path / "new.safetensors"
    said = metadata(old)
    model = "small.safetensors" if name == "two_processes" else "tiny"
    backbone = load_backbone(model if model == "tiny" else str(folder / model), frozenset({"video", "audio"}), dtype=torch.float32)
    load_lora(backbone, old)
    save_lora(backbone, new, metadata={key: value for key, value in said.items() if key == "trigger"}, dtype=torch.float32)
    before, after = effect(old), effect(new)
    assert before.keys() == after.keys()
    for module in before:
        torch.testing.assert_close(after[module], before[module], rtol=1e-5, atol=1e-8)
    assert metadata(new).get("trigger") == said.get("trigger") == ("TRIG" if name == "trigger" else None)


@pytest.mark.parametrize("program", ["comfyui", "diffusers", "ltx-pipelines"])
def test_a_lora_is_exported(folder: Path, tmp_path: Path, program: str) -> None:
    old, new = folder / "weights/trigger.safetensors", tmp_path / "new.safetensors"
    assert 'Begin every prompt with "TRIG".' in ltx(folder, "export", old, "--for", program, "-o", new)
    before, after = effect(old), effect(new)
    assert len(before) == len(after) == 4
    for one, other in zip(before.values(), after.values(), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("run_file", "start"),
    [("single", "weights/single.safetensors"), ("single", "out/single/checkpoints"), ("dora", "weights/dora.safetensors"),
     ("whole_model", "weights/whole_model.safetensors")],
)  # fmt: skip
def test_another_run_starts_from_what_was_trained(folder: Path, tmp_path: Path, run_file: str, start: str) -> None:
    settings = [
        f"output_dir={tmp_path / 'out'}",
        f"model.load_checkpoint={folder / start}",
        "optimization.steps=1",
        "validation.samples=[]",
    ]
    said = ltx(folder, "run", f"{run_file}.toml", *(f"--set={each}" for each in settings))
    assert "Done, 1 step." in said


def test_a_trained_model_draws_and_is_a_base_for_other_runs(folder: Path, tmp_path: Path) -> None:
    model = folder / "weights/whole_model.safetensors"
    ltx(folder, "sample", "a square", "--model", model, "-o", "model.mp4", *QUICK, *PLAIN)
    assert probe(folder / "model.mp4").frames == 9
    settings = [f"output_dir={tmp_path / 'out'}", f"model.model_path={model}", "optimization.steps=1"]
    assert "Done, 1 step." in ltx(folder, "run", "two_processes.toml", *(f"--set={each}" for each in settings))


# ---------------------------------------------------------------- ltx-checkerboard


def test_the_tests_of_ltx_checkerboard_pass(folder: Path) -> None:
    there = folder / "ltx-checkerboard"
    paths = os.pathsep.join([str(there / "src"), *sys.path])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", there / "pyproject.toml", there / "tests"],
        env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_run_file_trains_and_its_lora_draws_with_its_condition(folder: Path, tmp_path: Path) -> None:
    assert "checkerboard" in ltx(folder, "check", "finished.toml", f"--set=output_dir={tmp_path / 'out'}")
    settings = [f"output_dir={tmp_path / 'out'}", "optimization.steps=1"]
    assert "Done, 1 step." in ltx(folder, "run", "finished.toml", *(f"--set={each}" for each in settings))
    plugin = ["--plugin", folder / "ltx-checkerboard/src/ltx_checkerboard/__init__.py"]
    condition = ["--condition", f"type=checkerboard,size=1,video={folder / 'plain/clips/0.mp4'}"]
    lora = ["--lora", folder / "weights/finished.safetensors"]
    ltx(folder, "sample", "a square", "--model", "tiny", *plugin, *condition, *lora, "-o", "board.mp4", *QUICK, *PLAIN)
    assert probe(folder / "board.mp4").frames == 9


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return dict(file.metadata())


def effect(path: Path) -> dict[str, torch.Tensor]:
    """What a LoRA file adds to each module's weight; or, of DoRA, the lengths that it has learnt too."""
    found: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in load_file(path).items():
        module, _, role = name.removeprefix("transformer.").removeprefix("diffusion_model.").rpartition(".lora_")
        found.setdefault(module or name, {})[role or name] = tensor.float()
    return {
        module: roles["B.weight"] @ roles["A.weight"] if "B.weight" in roles else next(iter(roles.values()))
        for module, roles in found.items()
    }
