"""The predicted seconds of a step, where they can be computed by hand."""

from __future__ import annotations

from pathlib import Path

import attrs
import click
import pytest

from ltxcore.cli.plan import plan
from ltxcore.encode.buckets import Bucket
from ltxcore.errors import ConfigError
from ltxcore.planner.advice import remedies
from ltxcore.planner.hollow import Work
from ltxcore.planner.seconds import GPUS, _classes, gpu_for, step_seconds, time_rows
from planner.test_advice import estimator_of

H100 = GPUS["h100"]


def test_a_class_of_operations_takes_the_larger_of_computing_and_moving() -> None:
    work = Work({"bfloat16": 0.65 * 989e12}, 0.8 * 3.35e12 / 2, 0.4 * 989e12 / 4, 0.8 * 3.35e12, 0.8 * 3.35e12 * 3)
    assert _classes(work, H100) == pytest.approx((1.0, 1.0, 3.0))
    assert _classes(Work(bytes=1.0, kernels=1000.0), H100) == pytest.approx((0.0, 0.0, 0.005)), "the CPU asks for each operation"


def test_products_of_8_bit_integers_and_of_8_bit_floating_point_numbers_have_rates_of_their_own() -> None:
    work = {dtype: Work({dtype: 0.65 * 330.3e12}) for dtype in ("int8", "float8_e4m3fn")}
    assert {dtype: _classes(each, GPUS["4090"])[0] for dtype, each in work.items()} == pytest.approx({"int8": 0.5, "float8_e4m3fn": 1.0})
    assert {name for name, gpu in GPUS.items() if gpu.fp8 is None} == {"a100", "3090"}


@pytest.mark.parametrize(("name", "dtype"), [("int8-matmul", "int8"), ("fp8-matmul", "float8_e4m3fn")])
def test_a_run_that_multiplies_in_8_bits_is_predicted_by_that_rate(name: str, dtype: str, tmp_path: Path) -> None:
    estimator = estimator_of(tmp_path, engine={"name": "single"}, acceleration={"quantization": name})
    config = estimator.found.loaded.config
    need = estimator.need(config, 1)
    assert need.traced is not None
    assert all(dtype in each.forward.products for each in need.traced.blocks)
    if dtype == "int8":
        assert dict(time_rows(step_seconds(need, config, GPUS["4090"]), GPUS["4090"], 2, need))["assumed"].startswith(
            "65% of 165.2 TFLOP/s in bf16 and 660.6 TFLOP/s in int8, 40% in attention; "
        )
        assert step_seconds(need, config, GPUS["3090"]).total > 0
    else:
        with pytest.raises(ConfigError, match="Ada, Hopper or later, but the RTX 3090 is older"):
            step_seconds(need, config, GPUS["3090"])


def test_every_gpu_can_be_named() -> None:
    (option,) = (each for each in plan.params if each.name == "gpu_name")
    assert isinstance(option.type, click.Choice)
    assert list(option.type.choices) == list(GPUS)


def test_a_gpu_of_a_memory_is_found() -> None:
    assert [gpu_for(size * 2**30).name for size in (24, 32, 48, 80, 141)] == ["RTX 4090", "RTX 5090", "L40S", "H100 SXM", "H200 SXM"]


def test_recomputing_accumulating_and_quantizing_take_longer(tmp_path: Path) -> None:
    estimator = estimator_of(tmp_path, engine={"name": "single"})
    config = estimator.found.loaded.config

    def seconds(**tables: dict[str, object]) -> float:
        changed = attrs.evolve(config, **{name: attrs.evolve(getattr(config, name), **keys) for name, keys in tables.items()})
        return step_seconds(estimator.need(changed, 1), changed, H100).total

    plain = seconds()
    again = seconds(optimization={"enable_gradient_checkpointing": True})
    assert 1.2 * plain < again < 1.5 * plain
    assert seconds(optimization={"gradient_accumulation_steps": 2}) == pytest.approx(2 * plain, rel=0.05), "but for the update"
    int8 = estimator.found.loaded.registry.of_kind("quantizer")["int8"].value()
    assert seconds(acceleration={"quantization": "int8", "quantizer": int8}) > plain
    need = estimator.need(config, 1)
    assert step_seconds(need, config, GPUS["3090"]).products > 2 * step_seconds(need, config, H100).products


def test_an_average_of_the_weights_in_host_memory_is_not_copied_with_the_blocks(tmp_path: Path) -> None:
    again = {"enable_gradient_checkpointing": True}
    estimator = estimator_of(tmp_path, engine={"name": "single"}, acceleration={"offload_blocks": 4}, optimization=again)
    config = estimator.found.loaded.config
    away = attrs.evolve(config, ema=attrs.evolve(config.ema, decay=0.9, device="cpu"))
    plain, averaged = (estimator.need(each, 1) for each in (config, away))
    assert averaged.states.host > plain.states.host > 0
    slow = attrs.evolve(H100, pcie=1e6)
    waiting = [step_seconds(need, each, slow).waiting for need, each in ((plain, config), (averaged, away))]
    assert waiting[0] == waiting[1] == pytest.approx(2 * plain.states.host / 0.8e6, rel=0.01), (
        "the forward and the backward copy all blocks"
    )


def test_settings_and_numbers_of_gpus_follow_from_few_traces(tmp_path: Path) -> None:
    estimator = estimator_of(tmp_path, optimization={"steps": 2, "batch_size": 1}, bucket="64x64x1")
    config = estimator.found.loaded.config
    memory = estimator.need(config, 1).with_margin - 2**10
    assert len(estimator._traces) == 1
    found = remedies(estimator, config, 1, memory)
    assert {'acceleration.quantization = "int8"', "optimization.enable_gradient_checkpointing = true"} <= {each.said[0] for each in found}
    assert len(estimator._traces) <= 4, "of float32, of bf16, of ZeRO in float32, and of rank 8"


def test_the_input_of_a_clip_of_another_size_is_another_trace(tmp_path: Path) -> None:
    estimator = estimator_of(tmp_path)
    config = estimator.found.loaded.config
    sizes = [estimator.need(config, 1, Bucket(64, 64, frames)).activations.peak for frames in (9, 33)]
    assert sizes[0] < sizes[1]
    assert len(estimator._traces) == 2


def test_a_micro_batch_of_tokens_has_more_of_smaller_clips(tmp_path: Path) -> None:
    estimator = estimator_of(tmp_path)
    config = estimator.found.loaded.config
    table = attrs.evolve(config.optimization, batch_size=None, tokens_per_batch=2 * estimator.shapes.tokens)
    config = attrs.evolve(config, optimization=table)
    assert [estimator.need(config, 1, size).batch_size for size in (None, Bucket(64, 64, 9))] == [2, 5], "of 20 and of 8 tokens"
