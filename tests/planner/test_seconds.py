"""The predicted seconds of a step, where they can be computed by hand."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from ltxcore.encode.buckets import Bucket
from ltxcore.planner.advice import remedies
from ltxcore.planner.hollow import Work
from ltxcore.planner.seconds import GPUS, _classes, gpu_for, step_seconds
from planner.test_advice import estimator_of

H100 = GPUS["h100"]


def test_a_class_of_operations_takes_the_larger_of_computing_and_moving() -> None:
    work = Work({"bfloat16": 0.65 * 989e12}, 0.8 * 3.35e12 / 2, 0.4 * 989e12 / 4, 0.8 * 3.35e12, 0.8 * 3.35e12 * 3)
    assert _classes(work, H100) == pytest.approx((1.0, 1.0, 3.0))
    assert _classes(Work(bytes=1.0, kernels=1000.0), H100) == pytest.approx((0.0, 0.0, 0.005)), "the CPU asks for each operation"


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
