"""The moving average of the weights in a run: measured and generated with, saved beside the weights, resumed, and judged by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from helpers.heard import heard
from helpers.training_runs import STOPPER, sound_set, tables, write_run
from ltxcore.config.load import load_run
from ltxcore.engines.saved import AVERAGE, PARAMETER, average_in
from ltxcore.errors import CheckpointError, ConfigError
from ltxcore.runs import checkpoint
from ltxcore.runs.fits import newest
from ltxcore.runs.run_plan import draft
from ltxcore.train.best import HELD_OUT, Best
from ltxcore.train.conditioning_swap import OWN
from ltxcore.train.outcome import Outcome
from ltxcore.train.start_run import run

DECAY = 0.8
STEPS = 6
OPTIMIZATION = {"steps": STEPS, "batch_size": 4, "learning_rate": 1e-2, "scheduler_type": "constant"}
CHECKPOINTS = {"interval": 1, "keep_last_n": -1, "precision": "float32"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sound_set(tmp_path_factory.mktemp("data") / "data", 8)


def run_file(root: Path, folder: Path, **changed: Any) -> Path:
    folder.mkdir(exist_ok=True)
    given = {
        "optimization": OPTIMIZATION,
        "ema": {"decay": DECAY},
        "checkpoints": CHECKPOINTS,
        "data": {"held_out": 2},
        "validation": {"interval": 2, "skip_initial_validation": True, "samples": []},
    }
    return write_run(folder, tables(root, folder / "out", **{**given, **changed}))


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return run(load_run(run_file(data, tmp_path_factory.mktemp("whole"))))


def states(outcome: Outcome) -> dict[int, dict[str, Tensor]]:
    return {saved.step: checkpoint.load_state(saved)[0] for saved in checkpoint.found(outcome.output_dir / "checkpoints")}


def lines(outcome: Outcome) -> dict[int, dict[str, float]]:
    """What was measured with held-out clips, by step."""
    found = [json.loads(line) for line in outcome.metrics.read_text().splitlines()]
    return {line["step"]: line for line in found if any(name.startswith(f"{HELD_OUT}{OWN}/") for name in line)}


def test_what_is_saved_is_the_average_of_the_weights_that_were_saved_after_each_step(whole: Outcome) -> None:
    found = states(whole)
    assert list(found) == list(range(1, STEPS))
    average = {name: tensor.double() for name, tensor in (average_in(found[1]) or {}).items()}
    assert average
    for n in range(2, STEPS):
        kept = min(DECAY, (1 + n) / (10 + n))
        for name in average:
            average[name] = kept * average[name] + (1 - kept) * found[n][f"{PARAMETER}{name}"].double()
            torch.testing.assert_close(found[n][f"{AVERAGE}{name}"].double(), average[name], rtol=1e-5, atol=1e-9)


def test_each_checkpoint_and_the_end_have_a_file_of_their_own_with_the_averaged_weights(whole: Outcome) -> None:
    assert whole.weights == whole.output_dir / "lora.safetensors"
    assert whole.averaged == whole.output_dir / "lora_ema.safetensors"
    saved = checkpoint.found(whole.output_dir / "checkpoints")[-1]
    assert [path.name for path in checkpoint.weights_in(saved)] == ["lora.safetensors", "lora_ema.safetensors"]
    mine, live = (load_file(saved.path / name) for name in ("lora_ema.safetensors", "lora.safetensors"))
    state = states(whole)[saved.step]
    for kind, file in ((AVERAGE, mine), (PARAMETER, live)):
        trained = sorted((tensor for key, tensor in state.items() if key.startswith(kind)), key=lambda tensor: float(tensor.sum()))
        written = sorted(file.values(), key=lambda tensor: float(tensor.sum()))
        assert all(torch.equal(one, other) for one, other in zip(trained, written, strict=True)), kind
    with safe_open(whole.averaged, "pt") as file:
        assert file.metadata()["ema_decay"] == str(DECAY)
        assert file.metadata()["rank"] == "2"


def test_weights_and_average_are_measured_side_by_side(whole: Outcome) -> None:
    found = lines(whole)
    assert list(found) == [0, 2, 4, STEPS]
    for step, line in found.items():
        live, mean = ({name for name in line if name.startswith(f"{kind}{HELD_OUT}{OWN}/")} for kind in ("", "ema/"))
        assert mean == ({f"ema/{name}" for name in live} if step else set())
        assert not step or any(line[name] != line[f"ema/{name}"] for name in live)
    assert any(name.startswith("ema/half_width_95/held_out/") for name in found[2])
    assert not any(name.startswith("ema/") and "other" in name for line in found.values() for name in line)


def test_a_run_without_an_average_measures_trains_and_saves_what_it_did(data: Path, whole: Outcome, tmp_path: Path) -> None:
    without = run(load_run(run_file(data, tmp_path, ema={})))
    assert without.averaged is None
    assert without.weights is not None
    assert whole.weights is not None
    assert without.weights.read_bytes() == whole.weights.read_bytes()
    clock = ("step_seconds", "tokens_per_second", "peak_memory_gib")
    one, other = (
        [
            {name: value for name, value in json.loads(line).items() if name not in clock and not name.startswith("ema/")}
            for line in each.metrics.read_text().splitlines()
        ]
        for each in (without, whole)
    )
    assert one == other


def stopped(data: Path, folder: Path, at: int, **changed: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "stopper.py").write_text(STOPPER)
    path = run_file(data, folder, plugins=[str(folder / "stopper.py")], trackers={"stopper": {"at": at}}, **changed)
    assert run(load_run(path)).step == at
    return path


def test_an_interrupted_run_ends_with_the_same_average_and_the_same_measurements(data: Path, whole: Outcome, tmp_path: Path) -> None:
    again = run(load_run(stopped(data, tmp_path, 3)))
    assert again.averaged is not None
    assert whole.averaged is not None
    assert again.averaged.read_bytes() == whole.averaged.read_bytes()
    one, other = ({step: line for step, line in lines(each).items() if step} for each in (whole, again))
    assert one == other


def test_from_a_checkpoint_without_an_average_it_begins_at_the_weights(data: Path, tmp_path: Path) -> None:
    stopped(data, tmp_path, 3, ema={})
    with heard() as said:
        again = run(load_run(run_file(data, tmp_path)), allow_changes=True)
    path = again.output_dir / "checkpoints" / "step_000003"
    assert f"there is no average of the weights in {path}: the average begins now, with the weights of step 3" in said.getvalue()
    found = states(again)
    kept = min(DECAY, 2 / 11)  # the first step since it began
    for name, tensor in (average_in(found[4]) or {}).items():
        before, after = (found[step][f"{PARAMETER}{name}"] for step in (3, 4))
        torch.testing.assert_close(tensor, kept * before + (1 - kept) * after, rtol=1e-5, atol=1e-9)


def test_an_average_that_is_no_longer_asked_for_is_dropped_with_a_line(data: Path, tmp_path: Path) -> None:
    stopped(data, tmp_path, 3)
    with heard() as said:
        again = run(load_run(run_file(data, tmp_path, ema={})), allow_changes=True)
    assert "is dropped, since ema.decay is no longer set" in said.getvalue()
    assert average_in(states(again)[STEPS - 1]) is None


def test_the_best_checkpoint_can_go_by_the_averaged_weights_and_holds_them(data: Path, tmp_path: Path) -> None:
    outcome = run(load_run(run_file(data, tmp_path, checkpoints={**CHECKPOINTS, "keep_best": True, "best_by": "ema/audio"})))
    found = {step: Best("ema/audio").loss(line) for step, line in lines(outcome).items() if step}
    best = min(found, key=lambda step: found[step])
    assert outcome.best == outcome.output_dir / "best" / f"step_{best:06d}" / "lora_ema.safetensors"
    with safe_open(outcome.best, "pt") as file:
        assert float(file.metadata()["validation_loss"]) == pytest.approx(found[best], abs=1e-6)
    beside = outcome.averaged if best == STEPS else outcome.output_dir / "checkpoints" / f"step_{best:06d}" / "lora_ema.safetensors"
    assert beside is not None
    one, other = load_file(outcome.best), load_file(beside)
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_a_folder_of_weights_to_start_from_means_those_that_were_trained(whole: Outcome, tmp_path: Path) -> None:
    assert newest(whole.output_dir) == whole.weights
    only = tmp_path / "lora_ema.safetensors"
    assert whole.averaged is not None
    only.write_bytes(whole.averaged.read_bytes())
    assert newest(tmp_path) == only
    only.unlink()
    with pytest.raises(CheckpointError, match="holds no weights"):
        newest(tmp_path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"checkpoints": {"keep_best": True, "best_by": "ema"}, "ema": {}},
            "uses the averaged weights, but the run does not average weights",
        ),
        ({"ema": {"every": 10}}, "is not set, so there is no average"),
        ({"ema": {"decay": 1.0}}, "must be below 1"),
    ],
)
def test_what_goes_against_itself_is_refused(data: Path, tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        draft(load_run(run_file(data, tmp_path, **changed)), 1).checked()


def test_an_optimizer_that_averages_the_weights_itself_is_refused(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("schedulefree")
    table = {"steps": STEPS, "optimizer_type": "adamw_schedule_free"}
    with pytest.raises(ConfigError, match='the optimizer "adamw_schedule_free" averages the weights itself'):
        draft(load_run(run_file(data, tmp_path, optimization=table)), 1).checked()
