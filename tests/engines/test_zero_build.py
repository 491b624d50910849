"""What is found wrong with a DeepSpeed configuration before any process is connected: what DeepSpeed refuses, and what cannot be compiled here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from helpers.optimizers import optimization
from ltxcore.config.acceleration import AccelerationTable
from ltxcore.config.run_file import EngineTable, ModelTable, RunFile
from ltxcore.engines.zero_build import compiled, settled
from ltxcore.engines.zero_config import Config
from ltxcore.errors import ConfigError
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.load_base import load_backbone


@pytest.fixture(scope="module")
def backbone() -> LTXBackbone:
    return load_backbone("tiny-untrained", frozenset({"audio"}), dtype=torch.float32)


def settle(folder: Path, backbone: LTXBackbone, config: Config) -> Config:
    path = folder / "ds.json"
    path.write_text(json.dumps(config))
    run = RunFile(
        model=ModelTable(model_path="tiny-untrained"),
        training_strategy=None,
        optimization=optimization(batch_size=1),
        acceleration=AccelerationTable(mixed_precision_mode="no"),
        engine=EngineTable(deepspeed_config=path),
    )
    return settled(run, 2, backbone)


def refusal(folder: Path, backbone: LTXBackbone, config: Config) -> str:
    with pytest.raises(ConfigError) as error:
        settle(folder, backbone, config)
    return str(error.value).replace(str(folder), "TMP")


def test_sizes_are_filled_from_the_width_of_the_model(tmp_path: Path, backbone: LTXBackbone) -> None:
    zero = settle(tmp_path, backbone, {"zero_optimization": {"reduce_bucket_size": "auto"}})["zero_optimization"]
    assert zero["reduce_bucket_size"] == 128 * 128


def test_what_deepspeed_refuses_is_told_in_its_words_for_every_key(tmp_path: Path, backbone: LTXBackbone) -> None:
    config = {"zero_optimization": {"stage": 3, "reduce_bucket_size": -1, "overlap_com": True}}
    assert refusal(tmp_path, backbone, config) == (
        "TMP/ds.json: DeepSpeed does not accept zero_optimization.reduce_bucket_size: Input should be greater than 0\n    Fix or remove the value.\n"
        "TMP/ds.json: DeepSpeed does not accept zero_optimization.overlap_com: Extra inputs are not permitted\n    Fix or remove the value."
    )


def test_what_is_compiled_on_first_use_is_named() -> None:
    nvme = {"offload_param": {"device": "nvme"}}
    assert compiled({"zero_force_ds_cpu_optimizer": False, "zero_optimization": {"offload_param": {"device": "cpu"}}}) == []
    assert compiled({"zero_force_ds_cpu_optimizer": True, "zero_optimization": nvme}) == ["DeepSpeed's Adam for the CPU", "offload to NVMe"]


REMEDY = "    Install what is missing (Debian, Ubuntu: `apt-get install g++ ninja-build libaio-dev`), or set {} to {}."


@pytest.mark.parametrize(
    ("config", "what", "instead"),
    [
        ({"zero_force_ds_cpu_optimizer": True}, "DeepSpeed's Adam for the CPU (zero_force_ds_cpu_optimizer)", "false"),
        (
            {"zero_optimization": {"offload_optimizer": {"device": "nvme", "nvme_path": "/tmp"}}},
            "offload to NVMe (zero_optimization.offload_*.device)",
            '"cpu"',
        ),
    ],
)
def test_what_would_be_compiled_is_refused_where_there_is_no_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbone: LTXBackbone, config: Config, what: str, instead: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert refusal(tmp_path, backbone, config) == (
        f"{what} is compiled on first use, but this machine lacks `ninja` and `c++`\n{REMEDY.format(what[what.index('(') + 1 : -1], instead)}"
    )
