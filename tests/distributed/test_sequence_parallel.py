"""Processes that divide the tokens of a micro-batch train, measure, generate and go on as one process does.

A sample takes about a minute and a half on two free cores; the whole ten more.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from distributed import test_objectives as of_objectives
from helpers.engine_modes import FULL, MODES, OWN, make_set, run_tables, slug, write, zero
from helpers.launches import TESTS, UNCHECKED, environment, run_launches
from helpers.sampling import asked, sampled
from ltxcore.runs import checkpoint

pytestmark = pytest.mark.slow

CLOSE = 1e-5
"""By how much losses may differ, in float32, and gradients as a share of the largest."""

STEPS = 4

ARRANGEMENTS = {"two": (2, 2, 3), "groups of two": (4, 2, 1), "four": (4, 4, 2)}
"""The number of processes, the number of processes in a group, and the stage."""

CASES = sampled([(mode, each) for each in ARRANGEMENTS for mode in MODES], 3, lambda case: {case[1]})


# ---- one model, with whatever an attention may depend on


@pytest.fixture(scope="module")
def differences(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, dict[str, float]]]:
    path = tmp_path_factory.mktemp("divided")
    command = [sys.executable, str(TESTS / "distributed" / "divided.py"), str(path), "2", "4"]
    subprocess.run(command, check=True, env=environment(**UNCHECKED), timeout=1200)
    return {size: json.loads((path / f"{size}.json").read_text()) for size in ("2", "4")}


@pytest.mark.parametrize("size", ["2", "4"])
def test_velocities_and_gradients_are_those_of_one_process(differences: dict[str, dict[str, dict[str, float]]], size: str) -> None:
    found = differences[size]
    assert len(found) == 12
    for case, each in found.items():
        assert each["velocities"] < CLOSE, case
        assert each["gradients"] < CLOSE, case
        assert each["parameters"] > 50, case


# ---- runs


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The modes that are asked for: on one process, and on several. The global batch is the same."""
    path = tmp_path_factory.mktemp("modes")
    make_set(path / "data")
    launches: dict[int, list[dict[str, Any]]] = {1: [], 2: [], 4: []}
    alone = {}
    for mode, arrangement in asked(request, "mode", "arrangement"):
        processes, size, stage = ARRANGEMENTS[arrangement]
        shares = processes // size
        alone[f"{slug(mode)}.{shares}"] = mode, shares, {}
        engine = zero(path, stage, sequence_parallel=size)
        name = f"{slug(mode)}.{slug(arrangement)}"
        launches[processes].append({"run": write(path, name, tables(mode, path / "data", path / name, engine=engine))})
    for name, (mode, shares, more) in alone.items():
        launches[1].append({"run": write(path, name, tables(mode, path / "data", path / name, shares, **more))})
    for launch in run_launches(path, [(count, jobs) for count, jobs in launches.items() if jobs], **UNCHECKED):
        for results in launch:
            assert [result.get("step", result) for result in results] == [STEPS] * len(results)
    return path


def tables(mode: str, root: Path, output: Path, shares: int = 1, **changed: Any) -> dict[str, Any]:
    run = run_tables(mode, root, output, **changed)
    run["checkpoints"]["save_training_state"] = "off"
    run["optimization"]["steps"] = STEPS
    run["optimization"]["gradient_accumulation_steps"] *= shares
    if mode not in OWN:
        run["data"]["held_out"] = 0
    return run


def lines(output: Path) -> list[dict[str, float]]:
    """What was measured, without what depends on the clock or on where it was done."""
    clock = ("step_seconds", "tokens_per_second", "peak_memory_gib")
    found = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in clock} for line in found if "sample" not in line]


@pytest.mark.parametrize(("mode", "arrangement"), CASES)
def test_losses_gradients_and_validation_losses_are_those_of_one_process(folder: Path, mode: str, arrangement: str) -> None:
    processes, size, _ = ARRANGEMENTS[arrangement]
    one, several = lines(folder / f"{slug(mode)}.{processes // size}"), lines(folder / f"{slug(mode)}.{slug(arrangement)}")
    assert len(one) == len(several) == STEPS + 2 * (mode in OWN)
    for expected, found in zip(one, several, strict=True):
        assert found == pytest.approx(expected, rel=CLOSE, abs=CLOSE)


@pytest.mark.parametrize(("mode", "arrangement"), CASES)
def test_saved_weights_are_those_of_one_process(folder: Path, mode: str, arrangement: str) -> None:
    processes, size, _ = ARRANGEMENTS[arrangement]
    name = "model.safetensors" if MODES[mode].get("model") == FULL["model"] else "lora.safetensors"
    one, several = (load_file(folder / f"{slug(mode)}.{end}" / name) for end in (processes // size, slug(arrangement)))
    assert one.keys() == several.keys()
    for key, tensor in one.items():
        assert several[key].shape == tensor.shape
        assert float((several[key] - tensor).abs().max()) < 2e-3, key  # Adam takes a full step along the smallest gradient


# ---- generation, averages, offload, and going on

MODE = "both, reference and suffix, LoRA"
CLIP = str(TESTS.parent / "examples" / "media" / "clips" / "train_0000.mp4")
SAMPLES: list[dict[str, Any]] = [
    {"prompt": "a green square bounces", "conditions": [{"type": "first_frame", "image_or_video": CLIP}]},
    {"prompt": "a glassy tone", "conditions": [{"type": "video_to_audio", "video": CLIP}]},
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs by name: `drawn` and `on` in one process and in two; and those that are stopped and gone on with, with the same size of group or another."""
    path = tmp_path_factory.mktemp("runs")
    make_set(path / "data")
    drawing = {
        "model": {"model_path": "tiny-untrained"},
        "ema": {"decay": 0.9},
        "acceleration": {"mixed_precision_mode": "no", "offload_activations": True},
        "validation": {
            "samples": SAMPLES,
            "video_dims": [64, 64, 17],
            "frame_rate": 16.0,
            "inference_steps": 2,
            "skip_initial_validation": True,
            "stg_blocks": [1],
        },
    }

    def job(name: str, engine: dict[str, Any], steps: int, stop: str = "0:0", **more: Any) -> dict[str, Any]:
        run = run_tables(MODE, path / "data", path / name, engine=engine, **more)
        run["optimization"] |= {"steps": steps, "enable_gradient_checkpointing": True}
        return {"run": write(path, name, run), "environment": {"STOP_AT": stop}}

    two = zero(path, 3, sequence_parallel=2)
    drawn = [
        {**job(f"drawn.{name}", engine, 2, **drawing), "recorded": True}
        for name, engine in (("one", {"name": "single"}), ("two", {**two, "offload": "all"}))
    ]
    whole, same, other = (job(f"on.{name}", two, 4, stop) for name, stop in (("whole", "0:0"), ("same", "2:15"), ("other", "2:15")))
    on = {"environment": {"STOP_AT": "0:0"}}
    launches = [
        (1, [drawn[0]]),
        (2, [drawn[1], whole, same, other, {**same, **on}]),
        (4, [{**other, **on, "settings": ["engine.sequence_parallel=4"]}]),
    ]
    steps = [[each[0].get("step", each) for each in zip(*launch, strict=True)] for launch in run_launches(path, launches, **UNCHECKED)]
    assert steps == [[2], [2, 4, 2, 2, 4], [4]]
    return path


def test_several_processes_generate_what_one_does(runs: Path) -> None:
    """With guidance, the averaged weights, and all weights in host memory."""
    files = [sorted((runs / f"drawn.{name}.latents").iterdir()) for name in ("one", "two")]
    assert len(files[0]) == len(files[1]) == len(SAMPLES)
    for one, two in zip(*map(partial(map, load_file), files), strict=True):
        assert one.keys() == two.keys()
        for name, latents in one.items():
            assert float((latents - two[name]).abs().max()) < 1e-4
            assert float(latents.std()) > 0.1


def test_held_out_losses_of_the_average_are_those_of_one_process(runs: Path) -> None:
    one, two = lines(runs / "drawn.one"), lines(runs / "drawn.two")
    assert any(key.startswith("ema/held_out/") for line in one for key in line)
    for expected, found in zip(one, two, strict=True):
        assert found == pytest.approx(expected, rel=CLOSE, abs=CLOSE)


def test_a_run_goes_on_to_the_last_bit_with_the_same_size_of_group(runs: Path) -> None:
    whole, same = runs / "on.whole", runs / "on.same"
    digests = [checkpoint.digest(next(output.glob("*.safetensors"))) for output in (whole, same)]
    assert digests[0] == digests[1]
    assert lines(same) == lines(whole)


def test_a_run_goes_on_with_another_size_of_group(runs: Path) -> None:
    whole, other = lines(runs / "on.whole"), lines(runs / "on.other")
    assert len(whole) == len(other)
    for expected, found in zip(whole, other, strict=True):
        assert found == pytest.approx(expected, rel=CLOSE, abs=CLOSE)
    assert json.loads((runs / "on.other" / "run.json").read_text())["processes"] == 4


# ---- objectives


@pytest.mark.whole
def test_every_objective_learns_and_measures_what_it_does_on_one_process(tmp_path: Path) -> None:
    """With prompts, guidance, averaged weights, a copy of the base, a dataset of its own, and captions that are dropped."""
    root = make_set(tmp_path / "data")
    names = {mode: [slug(f"{mode}.{who}") for who in ("one", "two")] for mode in (of_objectives.LORA, of_objectives.FULL)}
    engines = {"name": "single"}, zero(tmp_path, 3, sequence_parallel=2)
    launches = [
        (
            index + 1,
            [
                {"run": write(tmp_path, each[index], of_objectives.tables(mode, root, tmp_path / each[index], 1, engine=engine))}
                for mode, each in names.items()
            ],
        )
        for index, engine in enumerate(engines)
    ]
    for launch in run_launches(tmp_path, launches, STOP_AT="0:0", **UNCHECKED):
        assert [[result.get("finished", result) for result in results] for results in launch] == [[True, True]] * len(launch)
    for one, two in names.values():
        whole, divided = lines(tmp_path / one), lines(tmp_path / two)
        assert {key.split("/")[1] for line in whole for key in line if key.startswith("loss/")} > {"preservation", "distill", "slider"}
        for expected, found in zip(whole, divided, strict=True):
            assert found == pytest.approx(expected, rel=CLOSE, abs=CLOSE)
