"""What two processes notice together: a loss or gradient that is not finite, processes that go different ways, and parameters without a gradient.

Takes about a minute on two free cores.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from helpers.engine_modes import FULL, PLUGIN, make_set, run_tables, write, zero
from helpers.launches import UNCHECKED, run_launches

pytestmark = pytest.mark.slow

SPOILED = PLUGIN.with_name("spoiled.py")
STAGES = (3, 2)
STEPS = 10
WAYS = ("loss", "gradient", "branch")
AT = "sound07"


def tables(folder: Path, output: str, how: str, **changed: object) -> dict[str, object]:
    run = run_tables("both, full, accumulation", folder / "data", folder / output, **FULL)
    optimization = {"steps": STEPS, "batch_size": 2, "learning_rate": 2e-3}
    held_out = {"preprocessed_data_root": str(folder / "data"), "held_out": 2, "num_dataloader_workers": 0}
    strategy = {"name": "spoiled", "how": how, "at": AT}
    return {
        **run,
        "training_strategy": strategy,
        "plugins": [str(PLUGIN), str(SPOILED)],
        "optimization": optimization,
        "data": held_out,
        **changed,
    }


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[dict[str, object]]]]:
    """What became of each run, by its name, on each of two processes."""
    folder = tmp_path_factory.mktemp("guards")
    make_set(folder / "data")
    one = tables(folder, "skip.single", "skip")
    one["optimization"] = {**one["optimization"], "gradient_accumulation_steps": 2}
    alone = [{"run": write(folder, "skip.single", one)}]
    names = [f"{how}.{stage}" for how in ("skip", *WAYS) for stage in STAGES]
    jobs = [{"run": write(folder, name, tables(folder, name, name.split(".")[0], engine=zero(folder, int(name[-1]))))} for name in names]
    names.append("tokens.divided")
    divided = tables(folder, names[-1], "tokens", engine=zero(folder, 3, sequence_parallel=2))
    jobs.append({"run": write(folder, names[-1], divided)})
    (single,), found = run_launches(folder, [(1, alone), (2, jobs)], **UNCHECKED)
    return folder, {"skip.single": single, **{name: [found[rank][index] for rank in (0, 1)] for index, name in enumerate(names)}}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(("how", "what"), [("loss", "the loss"), ("gradient", "the gradient")])
def test_what_is_not_finite_on_one_process_stops_both_and_is_told_by_the_first(
    results: tuple[Path, dict[str, list[dict[str, object]]]], how: str, what: str, stage: int
) -> None:
    folder, found = results
    first, second = found[f"{how}.{stage}"]
    assert second == {"exit": 2}
    said = re.fullmatch(
        rf"DataError: {what} is not finite \(NaN or Inf\) at step (\d+), samples (.+), sigmas video .+; audio .+?(, first in .+)?\n    Nothing was updated in .+",
        str(first["error"]),
    )
    assert said, first
    assert AT in said[2]
    # A gradient is that of all processes; a loss is that of one, and the model itself is finite.
    assert len(said[2].split(", ")) == (4 if how == "gradient" else 2)
    assert (said[3] is not None) == (how == "gradient")
    lines = [json.loads(line) for line in (folder / f"{how}.{stage}" / "metrics.jsonl").read_text().splitlines()]
    assert max((line["step"] for line in lines if "loss" in line), default=0) == int(said[1]) - 1


def test_where_processes_divide_tokens_the_first_module_is_that_of_the_token_at_fault(
    results: tuple[Path, dict[str, list[dict[str, object]]]],
) -> None:
    """The last token is that of the second process. The first meets it only in attention."""
    _, found = results
    first, second = found["tokens.divided"]
    assert second == {"exit": 2}
    assert re.search(r"the loss is not finite .+, first in transformer\.proj_in\n", str(first["error"])), first


@pytest.mark.parametrize("stage", STAGES)
def test_processes_that_run_different_modules_are_told_so_rather_than_waiting_forever(
    results: tuple[Path, dict[str, list[dict[str, object]]]], stage: int
) -> None:
    _, found = results
    first, second = found[f"branch.{stage}"]
    assert second == {"exit": 2}
    both, one = "generates audio and generates video", "generates audio"
    ways = [f"process 0 {here}, process 1 {there}" for here, there in ((both, one), (one, both))]
    assert first["error"] in [
        f"ProcessError: the processes of this run do not do the same: {way}\n"
        "    Which modalities a run has is decided by its run file and must not depend on the sample; look at the strategy."
        for way in ways
    ]


@pytest.mark.parametrize("stage", STAGES)
def test_a_parameter_without_a_gradient_in_a_step_has_one_of_zero_on_any_number_of_processes(
    results: tuple[Path, dict[str, list[dict[str, object]]]], stage: int
) -> None:
    folder, found = results
    assert [result["finished"] for result in (*found["skip.single"], *found[f"skip.{stage}"])] == [True] * 3
    lines = {
        name: [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("skip.single", f"skip.{stage}")
    }
    one, two = ([(line["loss"], line["grad_norm"], line.get("loss/video")) for line in lines[name] if "loss" in line] for name in lines)
    assert len(one) == len(two) == STEPS
    assert 2 < sum(picture is None for *_, picture in one) < 8
    for expected, got in zip(one, two, strict=True):
        assert got[:2] == pytest.approx(expected[:2], abs=1e-4)
