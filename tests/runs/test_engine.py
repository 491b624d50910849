"""Which engine a run has, and what each engine refuses."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

from helpers.training_runs import loaded_run, sound_set
from ltxcore.config.run_file import RunFile
from ltxcore.models.adapter_types import adapter_of
from ltxcore.registry import load
from ltxcore.runs.engine import engine_problems, head_problems, missing_for_engine, uses_zero
from ltxplugins.optimizers.adamw8bit import AdamW8bit


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunFile:
    folder = tmp_path_factory.mktemp("engine")
    sound_set(folder / "data", count=1)
    return loaded_run(folder).config


def changed(config: RunFile, **tables: dict[str, Any]) -> RunFile:
    return attrs.evolve(config, **{name: attrs.evolve(getattr(config, name), **keys) for name, keys in tables.items()})


@pytest.mark.parametrize(
    ("name", "processes", "expected"), [("auto", 1, False), ("auto", 2, True), ("zero", 1, True), ("zero", 8, True), ("single", 8, False)]
)
def test_auto_is_zero_where_there_is_more_than_one_process(config: RunFile, name: str, processes: int, expected: bool) -> None:
    assert uses_zero(changed(config, engine={"name": name}), processes) is expected


def test_a_plain_run_is_refused_by_no_engine(config: RunFile) -> None:
    assert list(engine_problems(config, 1)) == []
    assert list(engine_problems(config, 2)) == []


def test_one_process_refuses_keys_of_several_only_where_it_was_asked_for_by_name(config: RunFile) -> None:
    table = {"stage": 2, "deepspeed_config": Path("ds.json"), "offload": "all"}
    assert list(engine_problems(changed(config, engine=table), 1)) == []
    what, remedy = 'only works with several processes, but engine.name is "single"', 'Use "zero", or remove the key.'
    assert list(engine_problems(changed(config, engine={**table, "name": "single"}), 1)) == [
        (f"engine.{key}", what, remedy) for key in ("stage", "deepspeed_config", "offload")
    ]


def test_processes_that_do_not_make_whole_groups_are_refused(config: RunFile) -> None:
    two = changed(config, engine={"sequence_parallel": 2})
    assert list(engine_problems(two, 2)) == list(engine_problems(two, 4)) == []
    assert list(engine_problems(two, 1, is_launched=False)) == []
    remedy = "Start the run with `ltx launch --num-gpus 2` or a multiple of it, or change the key."
    for processes, who in ((1, "1 process"), (3, "3 processes")):
        what = f"{who} cannot be divided into groups of 2, each of which divides the tokens of a micro-batch"
        assert list(engine_problems(two, processes)) == [("engine.sequence_parallel", what, remedy)]
    alone = changed(config, engine={"sequence_parallel": 2, "name": "single"})
    assert ("engine.sequence_parallel", 'only works with several processes, but engine.name is "single"') in [
        each[:2] for each in engine_problems(alone, 1)
    ]


def test_heads_that_processes_cannot_share_evenly_are_refused(config: RunFile) -> None:
    heads = {"video": 32, "audio": 12}
    found = {size: list(head_problems(changed(config, engine={"sequence_parallel": size}), heads)) for size in (1, 2, 4, 8)}
    what = "8 processes cannot share the model's 12 heads of audio, because each takes equally many"
    assert found == {1: [], 2: [], 4: [], 8: [("engine.sequence_parallel", what, "Use one of 2, 4.")]}


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        (
            {"optimization": {"optimizer_type": "adamw8bit", "optimizer": AdamW8bit()}},
            (
                "optimization.optimizer_type",
                '"adamw8bit" would train differently with several processes, which give it flat pieces of many weights at a time',
                'Use "adamw", or train in one process.',
            ),
        ),
        (
            {"acceleration": {"quantization": "int8"}},
            ("acceleration.quantization", "quantized weights cannot be sharded among processes", "Remove the key."),
        ),
        (
            {"acceleration": {"offload_blocks": 2}},
            ("acceleration.offload_blocks", "only works in one process", 'Use engine.offload = "all".'),
        ),
        (
            {"acceleration": {"offload_blocks": 2}, "engine": {"name": "auto", "offload": "all"}},
            ("acceleration.offload_blocks", "only works in one process", "Remove the key."),
        ),
        (
            {"acceleration": {"offload_optimizer_during_validation": True}},
            (
                "acceleration.offload_optimizer_during_validation",
                "only works in one process: DeepSpeed moves only the state of its own optimizer",
                'Remove the key. engine.offload = "optimizer" keeps the state in CPU memory all the time.',
            ),
        ),
        (
            {"acceleration": {"offload_optimizer_during_validation": True}, "engine": {"name": "auto", "offload": "optimizer"}},
            (
                "acceleration.offload_optimizer_during_validation",
                "only works in one process: DeepSpeed moves only the state of its own optimizer",
                'Remove the key, since engine.offload = "optimizer" keeps the state in CPU memory all the time.',
            ),
        ),
        (
            {"acceleration": {"chunked_feed_forward": 4}},
            ("acceleration.chunked_feed_forward", "only works in one process", "Remove the key."),
        ),
        (
            {"acceleration": {"activation_budget_gb": 1.0}},
            ("acceleration.activation_budget_gb", "only works in one process", "Remove the key."),
        ),
        (
            {"acceleration": {"compile": True}},
            (
                "acceleration.compile",
                "only works in one process: sharded weights come and go within a block",
                "Remove the key.",
            ),
        ),
        (
            {"lora": {"type": "lokr", "adapter": adapter_of("lokr").adapter}},
            (
                "lora.type",
                '"lokr" only works in one process: several processes divide matrices that it needs whole',
                'Use "lora", or train in one process.',
            ),
        ),
        (
            {"lora": {"type": "dora", "adapter": adapter_of("dora").adapter}},
            (
                "lora.type",
                '"dora" only works in one process: several processes divide matrices that it needs whole',
                'Use "lora", or train in one process.',
            ),
        ),
    ],
)
def test_several_processes_refuse_what_they_cannot_do(config: RunFile, tables: dict[str, Any], expected: tuple[str, str, str]) -> None:
    assert list(engine_problems(changed(config, **tables), 2)) == [expected]
    assert list(engine_problems(changed(config, **tables), 1)) == []


@pytest.mark.parametrize("name", [name for name, named in load().of_kind("optimizer").items() if named.origin.distribution == "ltx"])
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_full_fine_tuning_with_several_processes_is_refused_for_optimizers_that_need_what_they_lack(
    config: RunFile, name: str, stage: int
) -> None:
    optimizer = load().get("optimizer", name).value()
    tables = {
        "model": {"training_mode": "full"},
        "optimization": {"optimizer_type": name, "optimizer": optimizer},
        "engine": {"stage": stage},
    }
    found = [key for key, _, _ in engine_problems(changed(config, **tables), 2)]
    assert found == ([] if name in ("adamw", "lion") else ["optimization.optimizer_type"])


def test_several_processes_need_deepspeed_and_one_does_not(config: RunFile, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(missing_for_engine(config, 2)) == []
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    assert list(missing_for_engine(config, 1)) == []
    remedy = 'Install it (Linux; on Windows, within WSL), or train in one process: engine.name = "auto", without a launcher.'
    what = "needs the package deepspeed, which is not installed"
    assert list(missing_for_engine(config, 2)) == [("engine.name", f"training in several processes {what}", remedy)]
    zero = changed(config, engine={"name": "zero"})
    assert list(missing_for_engine(zero, 1)) == [("engine.name", f'engine.name = "zero" {what}', remedy)]
