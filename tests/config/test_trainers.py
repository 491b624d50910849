"""Configurations of other trainers are recognized by their keys, and refused as run files with the command that converts them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ltxcore.config.load import load_run
from ltxcore.config.trainers import trainer_of
from ltxcore.errors import ConfigError


@pytest.mark.parametrize(
    ("document", "trainer"),
    [
        ({"job": "extension", "config": {"name": "a", "process": []}}, "ai-toolkit"),
        ({"config": {"process": []}}, ""),
        ({"ltx2_checkpoint": "a", "network_dim": 8}, "musubi-tuner"),
        ({"any": {"dataset_config": "a"}, "other": {"learning_rate": 1e-4}}, "musubi-tuner"),
        ({"network_module": "networks.lora"}, ""),
        ({"learning_rate": 1e-4, "network_dim": 8}, ""),
        ({"model": {"type": "ltx2"}, "optimizer": {"type": "adamw"}}, "diffusion-pipe"),
        ({"model": {"type": "ltx2"}}, ""),
        ({"model": {"model_path": "tiny", "type": "ltx2"}, "lora": {"network_dim": 8}, "dataset": "a"}, ""),
        ({"optimization": {"learning_rate": 1e-4, "network_module": "a"}, "dataset_config": "a"}, ""),
        ({}, ""),
    ],
)
def test_a_trainer_is_recognized_by_keys(document: dict[str, Any], trainer: str) -> None:
    assert trainer_of(document) == trainer


def refused(path: Path, text: str) -> str:
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_run(path)
    return str(error.value)


def test_a_configuration_in_toml_is_no_run_file(tmp_path: Path) -> None:
    path = tmp_path / "old.toml"
    assert refused(path, 'dataset = "a"\n[model]\ntype = "ltx2"\n') == (
        f"{path}: is a configuration of diffusion-pipe, not a run file\n"
        f"    To make a run file from a configuration of another trainer: ltx convert {path} -o run.toml"
    )
    assert f"{path}: is a configuration of musubi-tuner" in refused(path, 'dataset_config = "a"\nlearning_rate = 1e-4\n')


@pytest.mark.parametrize("ending", ["yaml", "yml", "json", "sh"])
def test_a_file_of_another_kind_is_to_be_converted(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"old.{ending}"
    said = refused(path, "model: {}\n")
    assert "is not TOML" in said
    assert said.endswith(f"ltx convert {path} -o run.toml")


def test_a_broken_run_file_is_not_taken_for_one(tmp_path: Path) -> None:
    assert "ltx convert" not in refused(tmp_path / "run.toml", "model: {}\n")
