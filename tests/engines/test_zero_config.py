"""The configuration of DeepSpeed: filled in from the run file, and refused where it contradicts it or would be ignored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from helpers.optimizers import optimization
from ltxcore.config.acceleration import AccelerationTable
from ltxcore.config.run_file import EngineTable, ModelTable, RunFile
from ltxcore.engines.zero_config import FORGOTTEN_PRINTS, Config, Wanted, read, resolve
from ltxcore.engines.zero_sizes import WeightShapes
from ltxcore.errors import ConfigError

WANTED = Wanted(
    batch_size=2,
    accumulation=3,
    world_size=4,
    max_grad_norm=1.0,
    precision="bf16",
    stage=None,
    offload="none",
    learning_rate=5e-4,
    optimizer="adamw",
    optimizer_params={"betas": [0.9, 0.999], "eps": 1e-8},
    weight_decay=0.01,
    schedule="linear",
)
EQUAL = 'Make the two values equal, or write "auto" in the DeepSpeed configuration.'

FOREIGN: Config = {
    "fp16": {"enabled": "auto", "loss_scale": 0},
    "bf16": {"enabled": "auto"},
    "optimizer": {"type": "AdamW", "params": {"lr": "auto", "betas": "auto", "eps": "auto", "weight_decay": "auto"}},
    "zero_optimization": {
        "stage": 2,
        "overlap_comm": True,
        "reduce_bucket_size": "auto",
        "stage3_prefetch_bucket_size": "auto",
        "stage3_param_persistence_threshold": "auto",
        "stage3_gather_16bit_weights_on_model_save": "auto",
    },
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "steps_per_print": 100,
}
"""As written for other programs that fill "auto" in."""


SHAPES = WeightShapes(100)


def resolved(folder: Path, config: Any, shapes: WeightShapes = SHAPES, **changed: Any) -> Config:
    path = folder / "ds.json"
    path.write_text(json.dumps(config))
    return resolve(attrs.evolve(WANTED, **changed), path, shapes)


def refusal(folder: Path, config: Any, **changed: Any) -> str:
    with pytest.raises(ConfigError) as error:
        resolved(folder, config, **changed)
    return str(error.value).replace(str(folder), "TMP")


def test_without_a_file_the_run_file_says_everything() -> None:
    assert resolve(WANTED) == {
        "train_micro_batch_size_per_gpu": 2,
        "gradient_accumulation_steps": 3,
        "train_batch_size": 24,
        "gradient_clipping": 1.0,
        "bf16": {"enabled": True},
        "fp16": {"enabled": False},
        "zero_optimization": {"stage": 3},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": FORGOTTEN_PRINTS,
    }


def test_every_auto_is_filled_and_the_rest_is_kept(tmp_path: Path) -> None:
    assert resolved(tmp_path, FOREIGN) == {
        "train_micro_batch_size_per_gpu": 2,
        "gradient_accumulation_steps": 3,
        "train_batch_size": 24,
        "gradient_clipping": 1.0,
        "bf16": {"enabled": True},
        "fp16": {"enabled": False, "loss_scale": 0},
        "zero_optimization": {
            "stage": 2,
            "overlap_comm": True,
            "reduce_bucket_size": 10_000,
            "stage3_prefetch_bucket_size": 9_000,
            "stage3_param_persistence_threshold": 1_000,
        },
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 100,
    }


def test_sizes_that_follow_from_the_model_are_filled_in_only_where_the_configuration_has_none(tmp_path: Path) -> None:
    shapes = WeightShapes(100, block=5_000)
    own = {"stage": 3, "stage3_prefetch_bucket_size": 7, "stage3_max_live_parameters": "auto"}
    found = resolved(tmp_path, {"zero_optimization": own}, shapes)["zero_optimization"]
    assert found == {"stage": 3, **shapes.sizes(), "stage3_prefetch_bucket_size": 7}
    assert resolved(tmp_path, {"zero_optimization": {"stage": 2}}, shapes)["zero_optimization"] == {"stage": 2}
    left = {"stage": 3, "stage3_max_live_parameters": "auto"}
    assert resolved(tmp_path, {"zero_optimization": left})["zero_optimization"] == {"stage": 3}, "before the shapes are known"


def test_what_a_run_file_says_is_read_from_its_tables() -> None:
    run = RunFile(
        model=ModelTable(model_path="tiny"),
        training_strategy=None,
        optimization=optimization(batch_size=2, gradient_accumulation_steps=3),
        acceleration=AccelerationTable(mixed_precision_mode="bf16"),
        engine=EngineTable(stage=2, offload="optimizer"),
    )
    assert Wanted.of(run, 4) == attrs.evolve(WANTED, stage=2, offload="optimizer")


def test_micro_batches_of_tokens_have_no_number_of_samples_for_deepspeed(tmp_path: Path) -> None:
    run = RunFile(model=ModelTable(model_path="tiny"), training_strategy=None, optimization=optimization(tokens_per_batch=64))
    wanted = Wanted.of(run, 4)
    assert [resolve(wanted)[key] for key in ("train_micro_batch_size_per_gpu", "train_batch_size")] == [1, 4]
    path = tmp_path / "ds.json"
    path.write_text('{"train_micro_batch_size_per_gpu": 2}')
    with pytest.raises(ConfigError, match=r"is 2, but it must be 1 where optimization\.tokens_per_batch fills micro-batches"):
        resolve(wanted, path)


def test_the_stage_of_the_run_file_counts_then_that_of_the_configuration_then_three(tmp_path: Path) -> None:
    assert resolved(tmp_path, {"zero_optimization": {"stage": "auto"}}, stage=1)["zero_optimization"]["stage"] == 1
    assert resolved(tmp_path, {"zero_optimization": {"stage": 1}})["zero_optimization"]["stage"] == 1
    assert resolved(tmp_path, {})["zero_optimization"]["stage"] == 3


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"train_micro_batch_size_per_gpu": 4}, "train_micro_batch_size_per_gpu is 4, but optimization.batch_size is 2"),
        ({"gradient_accumulation_steps": 1}, "gradient_accumulation_steps is 1, but optimization.gradient_accumulation_steps is 3"),
        ({"train_batch_size": 8}, "train_batch_size is 8, but batch size x accumulation x processes is 2 x 3 x 4 = 24"),
        ({"gradient_clipping": 0.5}, "gradient_clipping is 0.5, but optimization.max_grad_norm is 1.0"),
        ({"bf16": {"enabled": False}}, 'bf16.enabled is false, but acceleration.mixed_precision_mode is "bf16"'),
        ({"fp16": {"enabled": True}}, 'fp16.enabled is true, but acceleration.mixed_precision_mode is "bf16"'),
    ],
)
def test_a_contradiction_names_both(tmp_path: Path, config: Config, what: str) -> None:
    assert refusal(tmp_path, config) == f"TMP/ds.json: {what}\n    {EQUAL}"


def test_a_stage_that_contradicts_the_run_file_names_both(tmp_path: Path) -> None:
    expected = f"TMP/ds.json: zero_optimization.stage is 2, but engine.stage is 3\n    {EQUAL}"
    assert refusal(tmp_path, {"zero_optimization": {"stage": 2}}, stage=3) == expected


def test_another_optimizer_and_another_schedule_are_refused_and_equal_values_are_not(tmp_path: Path) -> None:
    same = {"type": "AdamW", "params": {"lr": 0.0005, "betas": [0.9, 0.999], "weight_decay": 0.01, "eps": 1e-8, "torch_adam": True}}
    assert "optimizer" not in resolved(tmp_path, {"optimizer": same})
    other = {"type": "Lamb", "params": {"lr": 1e-3, "betas": [0.9, 0.95], "max_coeff": 0.3}}
    assert refusal(tmp_path, {"optimizer": other, "scheduler": {"type": "WarmupLR"}}) == (
        'TMP/ds.json: optimizer.type is "Lamb", but optimization.optimizer_type is "adamw"\n    Make the two agree, or remove optimizer.\n'
        "TMP/ds.json: optimizer.params.lr is 0.001, but optimization.learning_rate is 0.0005\n"
        '    Make the two values equal, or write "auto".\n'
        "TMP/ds.json: optimizer.params.betas is [0.9, 0.95], but optimization.optimizer_params.betas is [0.9, 0.999]\n"
        '    Make the two values equal, or write "auto".\n'
        "TMP/ds.json: optimizer.params.max_coeff is not used\n    Remove it.\n"
        'TMP/ds.json: scheduler.type is "WarmupLR", but optimization.scheduler_type is "linear"\n'
        "    Remove scheduler: the run file sets the schedule."
    )


def test_what_deepspeed_would_ignore_is_refused_all_at_once(tmp_path: Path) -> None:
    config = {"gradient_cliping": 1.0, "activation_checkpointing": {}, "zero_optimization": {"offload_param": {"device": "auto"}}}
    assert refusal(tmp_path, config) == (
        "TMP/ds.json: activation_checkpointing is not used\n"
        "    It has no effect here. Use optimization.enable_gradient_checkpointing in the run file.\n"
        'TMP/ds.json: gradient_cliping is not used here\n    Did you mean "gradient_clipping"?\n'
        'TMP/ds.json: zero_optimization.offload_param.device is "auto", but nothing in the run file provides a value for it\n'
        "    Write a value, or remove the key."
    )


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"zero_optimization": {"zenflow": {"topk_ratio": 0.1}}}, "zero_optimization.zenflow"),
        ({"bf16": {"bf16_master_weights_and_grads": True}}, "bf16.bf16_master_weights_and_grads"),
    ],
)
def test_what_the_engine_cannot_do_is_refused(tmp_path: Path, config: Config, key: str) -> None:
    assert refusal(tmp_path, config) == f"TMP/ds.json: {key} is not available\n    Remove it."


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"bf16": True}, "bf16 is true"),
        ({"zero_optimization": 2}, "zero_optimization is 2"),
        ({"scheduler": "WarmupLR"}, 'scheduler is "WarmupLR"'),
        ({"optimizer": ["AdamW"]}, 'optimizer is ["AdamW"]'),
        ({"optimizer": {"type": "AdamW", "params": "auto"}}, 'optimizer.params is "auto"'),
        ({"zero_optimization": {"offload_optimizer": "cpu"}}, 'zero_optimization.offload_optimizer is "cpu"'),
        ({"zero_optimization": {"offload_param": True}}, "zero_optimization.offload_param is true"),
    ],
)
@pytest.mark.parametrize("offload", ["none", "all"])
def test_a_value_in_place_of_a_section_is_refused(tmp_path: Path, config: Config, what: str, offload: str) -> None:
    assert refusal(tmp_path, config, offload=offload) == (
        f"TMP/ds.json: {what}, not a section\n    Write {{...}} with the keys of the section, or remove it."
    )


def test_a_whole_section_may_be_auto(tmp_path: Path) -> None:
    auto: Config = dict.fromkeys(("bf16", "fp16", "optimizer", "scheduler", "zero_optimization"), "auto")
    assert resolved(tmp_path, auto) == resolved(tmp_path, {})


@pytest.mark.parametrize(("offload", "parts"), [("optimizer", ["offload_optimizer"]), ("all", ["offload_optimizer", "offload_param"])])
def test_offload_of_the_run_file_goes_to_host_memory_and_keeps_other_keys(tmp_path: Path, offload: str, parts: list[str]) -> None:
    zero = resolved(tmp_path, {"zero_optimization": {"offload_optimizer": {"pin_memory": False}}}, offload=offload)["zero_optimization"]
    assert [part for part in ("offload_optimizer", "offload_param") if part in zero] == parts
    assert zero["offload_optimizer"] == {"pin_memory": False, "device": "cpu"}


def test_offload_that_the_configuration_turns_off_or_that_needs_stage_three_is_refused(tmp_path: Path) -> None:
    off = {"zero_optimization": {"offload_optimizer": {"device": "none"}}}
    assert refusal(tmp_path, off, offload="optimizer") == (
        'TMP/ds.json: zero_optimization.offload_optimizer.device is "none", but engine.offload is "optimizer"\n    Make the two agree, or remove one.'
    )
    assert refusal(tmp_path, {}, offload="all", stage=2) == (
        'engine.offload = "all" moves weights, which only stage 3 shards, but the stage is 2\n    Use "optimizer", or stage 3.'
    )


def test_before_the_number_of_processes_is_known_a_whole_batch_is_not_judged(tmp_path: Path) -> None:
    assert "train_batch_size" not in resolved(tmp_path, {"train_batch_size": 64}, world_size=None)
    assert "train_batch_size" not in resolved(tmp_path, {"train_batch_size": "auto"}, world_size=None)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"a": 1, "a": 2}', 'sets "a" more than once\n    Keep one of the values.'),
        ("[1]", "is not a JSON object\n    Fix the file."),
        ("[" * 100_000, "is not a DeepSpeed configuration: the values are nested too deeply\n    Fix the file."),
        ("{", "is not JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)\n    Fix the file."),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "ds.json").write_text(text)
    with pytest.raises(ConfigError) as error:
        read(tmp_path / "ds.json")
    assert str(error.value).replace(str(tmp_path), "TMP") == f"TMP/ds.json: {what}"


@pytest.mark.parametrize("part", ["offload_optimizer", "offload_param"])
def test_weights_on_a_disk_are_not_averaged(part: str, tmp_path: Path) -> None:
    path = tmp_path / "ds_config.json"
    path.write_text(json.dumps({"zero_optimization": {"stage": 3, part: {"device": "nvme", "nvme_path": "/nowhere"}}}))
    resolve(WANTED, path)
    with pytest.raises(ConfigError, match=rf'zero_optimization.{part}.device is "nvme", where weights cannot be averaged'):
        resolve(attrs.evolve(WANTED, averages=True), path)
