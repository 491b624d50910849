"""Full fine-tuning on one GPU: weights in bfloat16, updates in the backward pass, and both together through a whole run."""

from __future__ import annotations

import filecmp
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from helpers.training_runs import STOPPER, loaded_run, sound_set, tables, write_run
from ltxcore.config.load import load_run
from ltxcore.engines.process import Processes
from ltxcore.errors import ConfigError, DataError
from ltxcore.runs.engine import build_engine
from ltxcore.runs.run_plan import draft, plan
from ltxcore.train.feed import Samples
from ltxcore.train.loop import Loop
from ltxcore.train.outcome import Outcome
from ltxcore.train.start_run import run
from ltxcore.train.trained_model import load_model

FULL = {"model_path": "tiny-untrained", "training_mode": "full"}
STEPS = {"steps": 4, "batch_size": 4, "learning_rate": 1e-3}
BOTH = {"mixed_precision_mode": "bf16", "stochastic_rounding": True, "step_in_backward": True}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sound_set(tmp_path_factory.mktemp("data") / "data")


def run_file(data: Path, folder: Path, acceleration: dict[str, Any], **changed: Any) -> Path:
    folder.mkdir(exist_ok=True)
    given = {"model": FULL, "optimization": STEPS, **changed}
    return write_run(folder, tables(data, folder / "out", acceleration=acceleration, **given))


def losses(outcome: Outcome) -> list[float]:
    return [line["loss"] for line in map(json.loads, outcome.metrics.read_text().splitlines()) if "loss" in line]


def test_updates_in_the_backward_pass_change_no_number_of_a_run_without_clipping(data: Path, tmp_path: Path) -> None:
    found = []
    for inside in (False, True):
        acceleration = {"mixed_precision_mode": "no", "step_in_backward": inside}
        found.append(run(load_run(run_file(data, tmp_path / str(inside), acceleration, optimization=STEPS | {"max_grad_norm": 0.0}))))
    assert losses(found[0]) == losses(found[1])
    assert filecmp.cmp(found[0].weights, found[1].weights, shallow=False)


@pytest.mark.slow
def test_an_interrupted_run_in_bfloat16_resumes_to_the_last_bit(data: Path, tmp_path: Path) -> None:
    whole = run(load_run(run_file(data, tmp_path / "whole", BOTH)))
    (tmp_path / "stopper.py").write_text(STOPPER)
    stopper = {"plugins": [str(tmp_path / "stopper.py")], "trackers": {"stopper": {"at": 2}}}
    interrupted = run_file(data, tmp_path / "parts", BOTH, **stopper)
    stopped = run(load_run(interrupted))
    assert stopped.step == 2
    with safe_open(stopped.output_dir / "checkpoints" / "step_000002" / "state.safetensors", "pt") as state:
        kinds = {state.get_slice(key).get_dtype() for key in state.keys() if key.startswith(("exp_avg", "parameter/"))}  # noqa: SIM118
    assert kinds == {"BF16"}
    outcome = run(load_run(interrupted))
    assert losses(outcome) == losses(whole)
    assert filecmp.cmp(outcome.weights, whole.weights, shallow=False)


def test_a_gradient_that_is_not_finite_stops_the_run_and_says_what_is_sound(data: Path, tmp_path: Path) -> None:
    loaded = loaded_run(tmp_path, data={"preprocessed_data_root": str(data), "held_out": 0}, model=FULL, acceleration=BOTH)
    planned = plan(draft(loaded).checked())
    samples = Samples(planned.outline.root, planned.outline.strategy.sources(), planned.manifest)
    model = load_model(planned, samples, torch.device("cpu"))
    engine = build_engine(loaded.config, model.backbone, model.parameters, Processes(), torch.device("cpu"))
    name = "transformer.transformer_blocks.1.audio_attn1.to_v.weight"
    model.parameters[name].register_hook(lambda gradient: gradient * float("inf"))
    loop = Loop(engine, model.backbone, planned.outline.strategy, samples, planned.order, 1, 1, 0)
    with pytest.raises(DataError) as error:
        next(loop.steps(1))
    assert f", first in {name}\n" in str(error.value)
    assert "the weights in memory cannot be used; the same command starts over, since there is no checkpoint yet. Check" in str(error.value)


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({"model": {"model_path": "tiny-untrained"}, "acceleration": {"stochastic_rounding": True}}, "acceleration.stochastic_rounding"),
        ({"acceleration": {"stochastic_rounding": True, "mixed_precision_mode": "no"}}, "acceleration.stochastic_rounding"),
        ({"acceleration": BOTH, "optimization": STEPS | {"gradient_accumulation_steps": 2}}, "acceleration.step_in_backward"),
        (
            {"acceleration": {"step_in_backward": True}, "optimization": STEPS | {"optimizer_type": "torch.optim:NAdam"}},
            "acceleration.step_in_backward",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused_before_the_run(
    data: Path, tmp_path: Path, changed: dict[str, Any], where: str
) -> None:
    acceleration = changed.pop("acceleration")
    with pytest.raises(ConfigError) as error:
        draft(load_run(run_file(data, tmp_path, acceleration, **changed))).checked()
    assert {where in problem.where for problem in error.value.problems} == {True}
