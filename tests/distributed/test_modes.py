"""Every kind of mode gives the same losses on two processes as on one: the same samples, the same draws, the same learning rates.

A sample, with every plugin and both stages, takes about a minute and a half on two free cores; the whole five more.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from helpers.engine_modes import FULL, MODES, OWN, STEPS, make_set, plugins_of, run_tables, slug, write, zero
from helpers.launches import UNCHECKED, run_launches
from helpers.sampling import asked, sampled

pytestmark = pytest.mark.slow

LOSS = 1e-4
"""By how much losses may differ, in float32."""

TWO = ("zero_3", "zero_2")


def shown(mode: str, engine: str) -> set[str]:
    training = MODES[mode].get("model", {}).get("training_mode", "lora")
    return plugins_of(mode) | {f"{training} under {engine}"} | ({mode} if mode in OWN else set())


CASES = sampled([(mode, engine) for mode in MODES for engine in TWO], 9, lambda case: shown(*case))
OWN_CASES = [case for case in CASES if case.values[0] in OWN]


@pytest.fixture(scope="module")
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The modes that are asked for: on one process, and on two. The global batch is the same."""
    path = tmp_path_factory.mktemp("modes")
    root = make_set(path / "data")
    one, two = {}, []
    for mode, engine in asked(request, "mode", "engine"):
        whole = tables(mode, root, path / f"{slug(mode)}.single")
        accumulation = 2 * whole["optimization"]["gradient_accumulation_steps"]
        alone = {**whole, "optimization": {**whole["optimization"], "gradient_accumulation_steps": accumulation}}
        one[mode] = {"run": write(path, f"{slug(mode)}.single", alone)}
        run = tables(mode, root, path / f"{slug(mode)}.{engine}", engine=zero(path, int(engine[-1])))
        two.append({"run": write(path, f"{slug(mode)}.{engine}", run)})
    for launch in run_launches(path, [(1, list(one.values())), (2, two)], **UNCHECKED):
        for results in launch:
            assert [result.get("step", result) for result in results] == [STEPS] * len(results)
    return path


def tables(mode: str, root: Path, output: Path, **changed: Any) -> dict[str, Any]:
    """Saves weights alone. Passes over held-out clips are the same whatever is trained: they are compared in the modes that no run file has."""
    run = run_tables(mode, root, output, **changed)
    run["checkpoints"]["save_training_state"] = "off"
    if mode not in OWN:
        run["data"]["held_out"] = 0
    return run


def metrics(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def losses(path: Path) -> list[dict[str, float]]:
    """Losses of each step, in all and by modality and condition."""
    return [{key: value for key, value in line.items() if key.startswith("loss")} for line in metrics(path) if "loss" in line]


def draws(path: Path) -> list[list[object]]:
    """What was drawn in training for each sample in each epoch, by whichever process."""
    files = path.parent.glob(f"{path.name}.draws.*")
    return sorted(json.loads(line) for file in files for line in file.read_text().splitlines())


@pytest.mark.parametrize(("mode", "engine"), CASES)
def test_losses_agree_with_those_of_one_process(folder: Path, mode: str, engine: str) -> None:
    one, two = losses(folder / f"{slug(mode)}.single"), losses(folder / f"{slug(mode)}.{engine}")
    assert len(one) == len(two) == STEPS
    for step, (expected, found) in enumerate(zip(one, two, strict=True), 1):
        assert found == pytest.approx(expected, abs=LOSS), step


@pytest.mark.parametrize(("mode", "engine"), CASES)
def test_learning_rates_are_identical(folder: Path, mode: str, engine: str) -> None:
    rates = [[line["learning_rate"] for line in metrics(folder / f"{slug(mode)}.{name}") if "loss" in line] for name in ("single", engine)]
    assert rates[0] == rates[1]
    assert len(set(rates[0])) == STEPS


@pytest.mark.parametrize(("mode", "engine"), CASES)
def test_draws_are_identical_for_each_sample(folder: Path, mode: str, engine: str) -> None:
    one, two = draws(folder / f"{slug(mode)}.single"), draws(folder / f"{slug(mode)}.{engine}")
    # Each process looks at the first sample once before training.
    assert [json.dumps(line) for line in one if line not in two] == []
    assert [json.dumps(line) for line in two if line not in one] == []


@pytest.mark.parametrize(("mode", "engine"), OWN_CASES)
def test_held_out_losses_agree(folder: Path, mode: str, engine: str) -> None:
    paths = [folder / f"{slug(mode)}.{name}" for name in ("single", engine)]
    before, after = ([{k: v for k, v in line.items() if k.startswith("held_out")} for line in metrics(path)] for path in paths)
    kept = [line for line in before if line], [line for line in after if line]
    assert len(kept[0]) == len(kept[1]) == 2
    for expected, found in zip(*kept, strict=True):
        assert found == pytest.approx(expected, abs=LOSS)


@pytest.mark.parametrize(("mode", "engine"), CASES)
def test_saved_weights_agree(folder: Path, mode: str, engine: str) -> None:
    name = "model.safetensors" if MODES[mode].get("model") == FULL["model"] else "lora.safetensors"
    one, two = (load_file(folder / f"{slug(mode)}.{engine}" / name) for engine in ("single", engine))
    assert one.keys() == two.keys()
    for key, tensor in one.items():
        assert two[key].shape == tensor.shape
        assert float((two[key] - tensor).abs().max()) < 2e-3, key
