"""The best checkpoint: which measurement is the best, what counts in it, and when a run has stopped getting better."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from helpers.training_runs import STOPPER, sound_set, tables, write_run
from ltxcore.config.load import load_run
from ltxcore.errors import ConfigError
from ltxcore.runs.run_plan import draft
from ltxcore.train.best import HELD_OUT, Best
from ltxcore.train.conditioning_swap import OWN
from ltxcore.train.outcome import Outcome
from ltxcore.train.start_run import run

PREFIX = f"{HELD_OUT}{OWN}/"


def measurement(video: float, audio: float, applied: float = 0.0) -> dict[str, float]:
    found = {f"{PREFIX}clips": 4.0}
    for sigma in ("sigma_0.50", "sigma_0.90"):
        found |= {f"{PREFIX}video/{sigma}": video, f"{PREFIX}audio/{sigma}": audio, f"half_width_95/{PREFIX}audio/{sigma}": 9.0}
        found |= {f"{PREFIX}audio/{sigma}/audio.cond0.mask/applied": applied, f"held_out/other_context/audio/{sigma}": 7.0}
    return found


def test_the_loss_is_the_mean_over_modalities_and_sigmas_in_the_clips_own_context() -> None:
    assert Best().loss(measurement(1.0, 2.0)) == 1.5


@pytest.mark.parametrize(("by", "loss"), [("audio", 2.0), ("video/sigma_0.90", 1.0), ("audio/sigma_0.50/audio.cond0.mask/applied", 3.0)])
def test_a_part_of_it_counts_alone_where_asked(by: str, loss: float) -> None:
    assert Best(by).loss(measurement(1.0, 2.0, 3.0)) == loss


def test_a_part_that_is_not_measured_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match='"sound" is not part of the validation loss') as error:
        Best("sound").loss(measurement(1.0, 2.0))
    assert "Name one of audio, " in str(error.value)


@pytest.mark.parametrize(("by", "loss"), [("", 1.5), ("slider", 0.3), ("slider/audio", 0.2), ("ema/slider/video/sigma_0.50", 0.1)])
def test_the_loss_of_another_objective_counts_only_where_it_is_asked_for(by: str, loss: float) -> None:
    slider = {f"{HELD_OUT}slider/{name}/sigma_0.50": value for name, value in (("video", 0.4), ("audio", 0.2))}
    averaged = {f"ema/{HELD_OUT}slider/video/sigma_0.50": 0.1}
    assert Best(by).loss({**measurement(1.0, 2.0), **slider, **averaged}) == pytest.approx(loss)
    with pytest.raises(ConfigError, match=r"Name one of .*slider"):
        Best("sound").loss({**measurement(1.0, 2.0), **slider})


def test_a_lower_loss_is_the_best_and_others_are_counted_since() -> None:
    best = Best(stop_after=2)
    said = [best.measured(step, measurement(loss, loss)) for step, loss in ((10, 2.0), (20, 1.0), (30, 1.0))]
    assert said == [True, True, False]
    assert (best.value, best.step, best.since, best.is_over) == (1.0, 20, 1, False)
    assert not best.measured(40, measurement(3.0, 3.0))
    assert best.is_over
    assert best.reason == "the validation loss has not fallen for 2 measurements; it was lowest, 1.0000, after step 20"


def test_a_loss_that_is_no_number_is_never_the_best() -> None:
    best = Best()
    assert not best.measured(10, measurement(math.nan, 1.0))
    assert best.measured(20, measurement(5.0, 5.0))


def test_without_a_limit_a_run_never_ends_early() -> None:
    best = Best()
    for step in range(100):
        best.measured(step, measurement(1.0, 1.0))
    assert not best.is_over


@pytest.mark.parametrize("measured", [0, 3])
def test_another_process_goes_on_from_what_was_saved(measured: int) -> None:
    first, second = Best(stop_after=9), Best(stop_after=9)
    for step in range(measured):
        first.measured(step, measurement(1.0 + step, 1.0))
    second.restore(json.loads(json.dumps(first.state())))
    assert second == first


# ---------------------------------------------------------------- in a run


STEPS = {"steps": 8, "batch_size": 4, "learning_rate": 1e-2, "scheduler_type": "constant"}
EVERY = {"interval": 1, "skip_initial_validation": True, "samples": []}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sound_set(tmp_path_factory.mktemp("data") / "data")


def run_file(root: Path, folder: Path, checkpoints: dict[str, Any], **changed: Any) -> Path:
    folder.mkdir(exist_ok=True)
    given = {"optimization": STEPS, "validation": EVERY, "checkpoints": {"keep_best": True, **checkpoints}, **changed}
    return write_run(folder, tables(root, folder / "out", **given))


def measured(outcome: Outcome) -> dict[int, float]:
    """The validation loss after each step, as the metrics have it."""
    found = {}
    for line in map(json.loads, outcome.metrics.read_text().splitlines()):
        if any(name.startswith(f"{PREFIX}audio") for name in line) and line["step"]:
            found[line["step"]] = Best().loss(line)
    return found


def test_a_run_keeps_the_weights_of_its_lowest_validation_loss_beside_the_last(data: Path, tmp_path: Path) -> None:
    outcome = run(load_run(run_file(data, tmp_path, {"interval": 2, "keep_last_n": 1})))
    found = measured(outcome)
    best = min(found, key=lambda step: found[step])
    assert outcome.best == outcome.output_dir / "best" / f"step_{best:06d}" / "lora.safetensors"
    with safe_open(outcome.best, "pt") as file:
        said = file.metadata()
    assert (said["step"], float(said["validation_loss"])) == (str(best), pytest.approx(found[best], abs=1e-6))
    assert [path.name for path in (outcome.output_dir / "checkpoints").iterdir()] == ["step_000006"]
    status = json.loads((outcome.output_dir / "run.json").read_text())
    assert (status["best"]["step"], status["best"]["value"]) == (best, found[best])


def test_a_run_that_stops_getting_better_ends_as_finished_with_the_reason(data: Path, tmp_path: Path) -> None:
    """At a learning rate of nothing no measurement is below the first."""
    outcome = run(load_run(run_file(data, tmp_path, {"stop_after": 2}, optimization={**STEPS, "learning_rate": 1e-12})))
    assert outcome.finished
    assert outcome.step == 3
    assert outcome.ended.startswith("the validation loss has not fallen for 2 measurements; it was lowest, ")
    assert outcome.ended.endswith(", after step 1")
    status = json.loads((outcome.output_dir / "run.json").read_text())
    assert (status["status"], status["ended"]) == ("finished", outcome.ended)
    assert "ended early, since the validation loss" in (outcome.output_dir / "report.html").read_text()


def test_a_part_that_is_not_measured_ends_the_run_before_its_first_step(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='"sound" is not part of the validation loss'):
        run(load_run(run_file(data, tmp_path, {"best_by": "sound"})))
    assert '"loss":' not in (tmp_path / "out" / "metrics.jsonl").read_text()


def test_an_interrupted_run_ends_with_the_same_best(data: Path, tmp_path: Path) -> None:
    whole = run(load_run(run_file(data, tmp_path / "whole", {})))
    (tmp_path / "stopper.py").write_text(STOPPER)
    stopper = {"plugins": [str(tmp_path / "stopper.py")], "trackers": {"stopper": {"at": 5}}}
    parts = run_file(data, tmp_path / "parts", {}, **stopper)
    assert run(load_run(parts)).step == 5
    again = run(load_run(parts))
    statuses = [json.loads((each.output_dir / "run.json").read_text())["best"] for each in (whole, again)]
    assert statuses[0] == statuses[1]
    assert whole.best is not None
    assert again.best is not None
    assert again.best.read_bytes() == whole.best.read_bytes()


def test_a_run_that_goes_on_by_another_loss_compares_that_one_alone(data: Path, tmp_path: Path) -> None:
    """The loss of preservation was not measured before the run was stopped, and is far below that of the run's own samples."""
    (tmp_path / "stopper.py").write_text(STOPPER)
    stopper = {"plugins": [str(tmp_path / "stopper.py")], "trackers": {"stopper": {"at": 5}}}
    objectives = [{"type": "flow_matching"}, {"type": "preservation"}]
    first, then = ({**stopper, "objectives": each} for each in (objectives[:1], objectives))
    assert run(load_run(run_file(data, tmp_path, {}, **first))).step == 5
    again = run(load_run(run_file(data, tmp_path, {"best_by": "preservation"}, **then)), allow_changes=True)
    lines = [json.loads(line) for line in again.metrics.read_text().splitlines()]
    found = {line["step"]: Best("preservation").loss(line) for line in lines if f"{HELD_OUT}preservation/clips" in line}
    best = min(found, key=lambda step: found[step])
    status = json.loads((again.output_dir / "run.json").read_text())["best"]
    assert (status["step"], status["value"]) == (best, found[best])
    assert again.best == again.output_dir / "best" / f"step_{best:06d}" / "lora.safetensors"

    back = Best("audio")
    back.restore(Best("audio", value=1.0, step=3, since=1).state())
    assert (back.value, back.step, back.since) == (1.0, 3, 1)
    back.restore({"value": 2.0, "step": 4, "since": 0})  # as older versions saved it
    assert (back.value, back.step) == (2.0, 4)
    other = Best("video")
    other.restore(back.state())
    assert (other.value, other.step, other.since) == (math.inf, 0, 0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"data": {"held_out": 0}}, "uses the validation loss, but no sample is held out"),
        ({"validation": {"interval": 0}}, "uses the validation loss, which this run measures only before and after training"),
    ],
)
def test_a_run_that_measures_nothing_cannot_be_judged(data: Path, tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        draft(load_run(run_file(data, tmp_path, {}, **changed))).checked()
