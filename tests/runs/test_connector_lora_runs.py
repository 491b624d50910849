"""A run on top of a LoRA of the text connectors, from clips to a sample, and one on text that did not pass through the LoRA."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cli.test_cli_real_models import dataset, ltx, run_file
from helpers.whole_models import unified
from ltxcore.config.load import load_run
from ltxcore.errors import LtxError
from ltxcore.runs.checks import check_run
from ltxcore.train.start_run import run

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    dataset(tmp_path)
    name = "diffusion_model.video_embeddings_connector.transformer_1d_blocks.0.attn1.to_q"
    save_file({f"{name}.lora_A.weight": torch.ones(2, 64), f"{name}.lora_B.weight": torch.ones(64, 2)}, tmp_path / "under.safetensors")
    return tmp_path


def test_a_run_trains_and_generates_on_top_of_it(folder: Path) -> None:
    model = unified(folder / "models")
    path = run_file(folder, model)
    path.write_text(path.read_text().replace("[model]\n", f'[model]\nloras = ["{folder / "under.safetensors"}"]\n'))
    ltx("run", str(path))
    lora = folder / "out" / "lora.safetensors"
    assert "under.safetensors" in ltx("model", str(lora))
    ltx("sample", str(path), "--lora", str(folder / "under.safetensors"), "--lora", str(lora), "-o", str(folder / "with.mp4"))


def weights(path: Path, *more: str) -> int:
    """The bytes that the plan counts for the weights of each GPU."""
    said = ltx("plan", str(path), "--json", *more)
    return int(json.JSONDecoder().raw_decode(said[said.index("{\n") :])[0]["gpu"]["weights"])


@pytest.mark.parametrize("more", [(), ("--gpus=4", "--set=engine.stage=2"), ("--gpus=4", "--set=engine.stage=3")])
def test_a_plan_counts_it_whole_and_in_float32_on_every_gpu(more: tuple[str, ...], folder: Path) -> None:
    path = run_file(folder, unified(folder / "models"))
    bare = weights(path, *more)
    path.write_text(path.read_text().replace("[model]\n", f'[model]\nloras = ["{folder / "under.safetensors"}"]\n'))
    assert weights(path, *more) - bare == 4 * (2 * 64 + 64 * 2)


def test_text_that_was_stored_after_the_connectors_is_refused(folder: Path) -> None:
    model = unified(folder / "models")
    keys = [f"--{key.replace('_', '-')}={path}" for key, path in model.items()]
    ltx(
        "preprocess", str(folder / "clips.jsonl"), *keys, "--connector-outputs",
        "--resolution-buckets=64x64x17", f"--output-dir={folder / 'encoded'}", "--no-progress",
    )  # fmt: skip
    path = run_file(folder, model, data={"preprocessed_data_root": str(folder / "encoded")})
    text = path.read_text().replace(f'dataset = "{folder / "clips.jsonl"}"\n', "")
    path.write_text(text)
    check_run(load_run(path))
    path.write_text(text.replace("[model]\n", f'[model]\nloras = ["{folder / "under.safetensors"}"]\n'))
    said = []
    for carry_out in (check_run, run):
        with pytest.raises(LtxError) as error:
            carry_out(load_run(path))
        said.append(str(error.value))
    assert said[0] == said[1]
    assert f"passed through the text connectors without the changes of {folder / 'under.safetensors'}" in said[0]
