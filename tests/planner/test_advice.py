"""What is advised for a run that does not fit: on a small model, by the arithmetic of the real ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from helpers.training_runs import write_run
from ltxcore.config.load import load_run
from ltxcore.models.base import base_of, released
from ltxcore.planner.advice import INSTALL, KINDS, Change, Remedy, Variant, _connectors, remedies
from ltxcore.planner.estimate import CONTEXT, Estimator, Need
from ltxcore.planner.largest_batch import shapes_of
from ltxcore.runs.run_plan import draft

LORA: dict[str, Any] = {
    "model": {"model_path": "tiny-untrained", "training_mode": "lora"},
    "lora": {"rank": 16, "target_modules": ["to_k"]},
    "optimization": {"steps": 2, "batch_size": 2},
}


def estimator_of(folder: Path, *, processes: int = 1, bucket: str = "64x64x33", **tables: Any) -> Estimator:
    (folder / "media.jsonl").touch()
    run = {
        "output_dir": str(folder / "out"),
        "training_strategy": {"name": "flexible", "video": {"is_generated": True, "latents_dir": "latents"}},
        "data": {"dataset": str(folder / "media.jsonl")},
        **LORA,
    }
    run |= {name: {**run.get(name, {}), **keys} for name, keys in tables.items()}
    loaded, base = load_run(write_run(folder, run)), base_of("tiny-untrained")
    found = draft(loaded, processes, writes=False, base=base).checked()
    return Estimator(found, base, shapes_of(found, base, bucket))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Estimator:
    """A run that one process alone may have; what was traced for one test is there for the next."""
    return estimator_of(tmp_path_factory.mktemp("alone"), engine={"name": "single"})


def tried(estimator: Estimator, processes: int = 1) -> list[str]:
    start = Variant(estimator.found.loaded.config, processes)
    return [change.said for kind in KINDS for change in kind(start, estimator)]


def advised(estimator: Estimator, memory: int, processes: int = 1) -> list[Remedy]:
    return remedies(estimator, estimator.found.loaded.config, processes, memory)


ON_ONE = [
    "optimization.enable_gradient_checkpointing = true",
    'acceleration.quantization = "int8"',
    f'acceleration.quantization = "nf4", {INSTALL}',
    "acceleration.offload_blocks = 4",
    "optimization.batch_size = 1, and gradient_accumulation_steps = 2 for the same global batch",
    f'optimization.optimizer_type = "adamw8bit", {INSTALL}',
    *(f"--gpus {count}" for count in (2, 4, 8, 16, 32, 64)),
    "lora.rank = 8",
    'preprocessing.resolution_buckets = "64x64x17"',
    'preprocessing.resolution_buckets = "64x64x9"',
    'preprocessing.resolution_buckets = "64x64x1"',
]


def test_these_changes_of_a_run_on_one_gpu_are_tried(tmp_path: Path) -> None:
    assert tried(estimator_of(tmp_path)) == ON_ONE


def test_weights_in_bfloat16_and_steps_in_backward_are_tried_in_full_fine_tuning(tmp_path: Path) -> None:
    said = tried(estimator_of(tmp_path, model={"training_mode": "full"}))
    assert {"acceleration.stochastic_rounding = true", "acceleration.step_in_backward = true"} <= set(said)
    acceleration = {"mixed_precision_mode": "bf16", "stochastic_rounding": True, "step_in_backward": True}
    said = tried(estimator_of(tmp_path, model={"training_mode": "full"}, acceleration=acceleration))
    assert not any("rounding" in each or "in_backward" in each for each in said)


@pytest.mark.parametrize(
    ("engine", "offloads"),
    [
        ({"stage": 3}, ['engine.offload = "optimizer"', 'engine.offload = "all"']),
        ({"stage": 2}, ["engine.stage = 3", 'engine.offload = "optimizer"', 'engine.stage = 3, and engine.offload = "all"']),
        ({"stage": 2, "offload": "optimizer"}, ["engine.stage = 3", 'engine.stage = 3, and engine.offload = "all"']),
        ({"stage": 3, "offload": "all"}, []),
    ],
)
def test_stages_and_offload_are_tried_with_deepspeed(engine: dict[str, Any], offloads: list[str], tmp_path: Path) -> None:
    said = tried(estimator_of(tmp_path, processes=2, engine={"name": "zero", **engine}), 2)
    assert [each for each in said if each.startswith("engine.")] == offloads


def test_an_average_beside_the_weights_may_go_to_cpu_memory(tmp_path: Path) -> None:
    said = 'ema.device = "cpu"'
    assert said in tried(estimator_of(tmp_path, ema={"decay": 0.999}))
    assert said not in tried(estimator_of(tmp_path, ema={"decay": 0.999, "device": "cpu"}))


def without_activations(folder: Path, processes: int = 1, **tables: Any) -> Need:
    estimator = estimator_of(folder, processes=processes, **tables)
    return estimator.without_activations(estimator.found.loaded.config, processes)


def test_the_best_weights_are_counted_with_those_that_take_their_place(tmp_path: Path) -> None:
    plain, kept = (without_activations(tmp_path, checkpoints={"keep_best": best}, data={"held_out": 2}) for best in (False, True))
    assert (plain.best, kept.best) == (0, 2 * kept.exported)


@pytest.mark.parametrize(("offload", "away"), [(None, False), ({"device": "none"}, False), ({"device": "cpu"}, True)])
def test_an_average_goes_where_deepspeed_has_the_optimizer(offload: dict[str, str] | None, away: bool, tmp_path: Path) -> None:
    (tmp_path / "ds.json").write_text(json.dumps({"zero_optimization": {"stage": 2, "offload_optimizer": offload}}))
    engine = {"name": "zero", "deepspeed_config": str(tmp_path / "ds.json")}
    states = without_activations(tmp_path, 2, engine=engine, ema={"decay": 0.9}).states
    assert (states.average == 0) == away


def test_captions_may_be_stored_after_the_connectors_if_the_run_encodes_them_and_the_model_has_any(tmp_path: Path) -> None:
    said = "preprocessing.connector_outputs = true"
    estimator = estimator_of(tmp_path)
    assert said not in tried(estimator)
    real = attrs.evolve(estimator, base=released("ltx-2.3-22b"))
    assert said in tried(real)
    config = real.found.loaded.config
    for table, changed in (("preprocessing", {"connector_outputs": True}), ("data", {"dataset": None})):
        other = attrs.evolve(config, **{table: attrs.evolve(getattr(config, table), **changed)})
        assert not list(_connectors(Variant(other, 1), real))


def test_what_checkpointing_keeps_may_go_to_cpu_memory(tmp_path: Path) -> None:
    assert "acceleration.offload_activations = true" in tried(estimator_of(tmp_path, optimization={"enable_gradient_checkpointing": True}))


def test_what_is_set_already_is_not_tried(tmp_path: Path) -> None:
    estimator = estimator_of(
        tmp_path,
        bucket="64x64x1",
        lora={"rank": 8},
        optimization={"steps": 2, "batch_size": 1, "enable_gradient_checkpointing": True},
        acceleration={"quantization": "int8", "offload_blocks": 4, "offload_activations": True, "mixed_precision_mode": "no"},
    )
    assert tried(estimator, 64) == [
        'acceleration.mixed_precision_mode = "bf16"',
        f'acceleration.quantization = "nf4", {INSTALL}',
        *(['engine.offload = "optimizer"', 'engine.offload = "all"']),
        f'optimization.optimizer_type = "adamw8bit", {INSTALL}',
    ]


@pytest.mark.slow
def test_a_change_that_is_enough_alone_is_advised_alone_and_no_further_than_it_must_go(alone: Estimator) -> None:
    estimator = alone
    config = estimator.found.loaded.config
    memory = estimator.need(config, 1).with_margin - 2**10
    found = advised(estimator, memory)
    assert [len(remedy.said) for remedy in found] == [1] * len(found)
    said = [remedy.said[0] for remedy in found]
    assert {"optimization.enable_gradient_checkpointing = true", 'acceleration.quantization = "int8"'} <= set(said)
    assert 'preprocessing.resolution_buckets = "64x64x17"' in said
    assert 'preprocessing.resolution_buckets = "64x64x9"' not in said
    assert "acceleration.offload_blocks = 4" not in said  # refused without computing activations again
    assert all(remedy.need.fits(memory) for remedy in found)


@pytest.mark.slow
def test_where_no_change_is_enough_several_are_that_fit_and_are_all_needed(alone: Estimator) -> None:
    estimator = alone
    config = estimator.found.loaded.config
    start = Variant(config, 1)
    once = [start.changed(change) for kind in KINDS for change in kind(start, estimator)]
    least = min(estimator.need(each.config, each.processes, each.size).with_margin for each in once if each.processes == 1)
    memory = least - 2**10
    found = advised(estimator, memory)
    order = [(each.is_other, each.seconds) for each in found]
    assert order == sorted(order)
    for remedy in found:
        _is_needed_wholly(estimator, remedy, memory)
    said = [set(remedy.said) for remedy in found]
    assert len({frozenset(each) for each in said}) == len(said)
    assert any(each.startswith("acceleration.offload_blocks") for set_ in said for each in set_)


def _is_needed_wholly(estimator: Estimator, remedy: Remedy, memory: int) -> None:
    assert len(remedy.said) > 1
    assert remedy.need.fits(memory)
    config = estimator.found.loaded.config
    changes = _changes(estimator, remedy)
    made = _made(Variant(config, 1), changes)
    assert estimator.need(made.config, made.processes, made.size) == remedy.need
    for left in range(len(changes)):
        fewer = _made(Variant(config, 1), [change for index, change in enumerate(changes) if index != left])
        needs_it = fewer.config.acceleration.offload_blocks or fewer.config.acceleration.offload_activations
        is_had = fewer.config.optimization.enable_gradient_checkpointing or not needs_it
        assert not (is_had and estimator.need(fewer.config, fewer.processes, fewer.size).fits(memory)), changes[left].said


def _changes(estimator: Estimator, remedy: Remedy) -> list[Change]:
    """The changes that are said, found again one by one."""
    variant, found = Variant(estimator.found.loaded.config, 1), []
    for said in remedy.said:  # of the kinds that are tried together
        (change,) = (each for kind in KINDS for each in kind(variant, estimator) if each.said == said)
        variant, found = variant.changed(change), [*found, change]
    return found


def _made(variant: Variant, changes: list[Change]) -> Variant:
    for change in changes:
        variant = variant.changed(change)
    return variant


def test_where_nothing_fits_nothing_is_advised(alone: Estimator) -> None:
    assert advised(alone, CONTEXT) == []


@pytest.mark.slow
def test_clips_are_not_made_too_short_for_a_condition(tmp_path: Path) -> None:
    prefix = {"type": "prefix", "temporal_boundary": 3}
    video = {"is_generated": True, "latents_dir": "latents", "conditions": [prefix]}
    estimator = estimator_of(tmp_path, training_strategy={"name": "flexible", "video": video}, engine={"name": "single"})
    assert 'preprocessing.resolution_buckets = "64x64x17"' in tried(estimator)
    memory = estimator.need(estimator.found.loaded.config, 1).with_margin - 2**10
    assert [remedy.said for remedy in advised(estimator, memory) if "buckets" in remedy.said[0]] == []


def test_micro_batches_of_tokens_are_made_smaller_by_a_smaller_number_of_tokens(alone: Estimator) -> None:
    """A clip of 20 tokens, three of which are a micro-batch."""
    config = alone.found.loaded.config
    config = attrs.evolve(config, optimization=attrs.evolve(config.optimization, batch_size=None, tokens_per_batch=64))
    start = Variant(config, 1)
    (change,) = (change for kind in KINDS for change in kind(start, alone) if "tokens_per_batch" in change.said)
    assert change.said == "optimization.tokens_per_batch = 20, and gradient_accumulation_steps = 3 for about as many samples in a step"
    assert alone.need(start.changed(change).config, 1).activations.peak < alone.need(config, 1).activations.peak
