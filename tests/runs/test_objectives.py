"""Objectives that a run cannot do are refused before it begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.training_runs import loaded_run, message, sound_set
from ltxcore.errors import ConfigError, DataError
from ltxcore.runs.run_plan import draft, plan

FLOW = {"type": "flow_matching"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("objectives")
    sound_set(path / "data", count=5)
    return path


@pytest.mark.parametrize(
    ("objectives", "changed", "told"),
    [
        (
            [{**FLOW, "probability": 0.5}],
            {},
            "objectives[0].probability: no objective is learned in every step, so some steps may have none",
        ),
        (
            [{**FLOW, "weight": {"video": 1.0}}],
            {},
            "objectives[0].weight.video: the run does not generate video, so it has no loss of video",
        ),
        (
            [FLOW, {"type": "weighted_region", "video_region_dir": "faces"}],
            {},
            "objectives[1].video_region_dir: the run does not generate video, so it has no loss of video\n    Remove the key; the run generates audio.",
        ),
        (
            [FLOW, {**FLOW, "error": "l1"}],
            {"acceleration": {"step_in_backward": True}},
            "acceleration.step_in_backward: updates weights in the backward pass, but weights may change only after the backward passes of all 2 objectives",
        ),
        (
            [FLOW, {"type": "preservation"}],
            {"model": {"training_mode": "full"}},
            'objectives[1].type: the objective "preservation" compares with the base, which full fine-tuning changes\n'
            '    Set model.base = "copy", which takes the memory of another model, remove the objective, or set model.training_mode = "lora".',
        ),
        (
            [FLOW, {"type": "distill"}],
            {"model": {"training_mode": "full"}},
            'objectives[1].type: the objective "distill" compares with the base, which full fine-tuning changes',
        ),
        (
            [FLOW, {"type": "distill", "teacher": "ema"}],
            {},
            'objectives[1].type: the objective "distill" compares with the average of the weights, and the run keeps none\n'
            "    Set ema.decay, such as 0.999.",
        ),
        (
            [FLOW, {"type": "distill", "guidance": {"video": 4.0}}],
            {},
            'objectives[1].type: the objective "distill" guides video, which the run does not generate\n'
            "    Remove video from its scales of guidance.",
        ),
        (
            [FLOW, {"type": "slider", "towards": "a tone"}],
            {"acceleration": {"compile": True}},
            'objectives[1].type: the objective "slider" compares with the base, and compiled blocks always have their LoRA',
        ),
        (
            [FLOW, {"type": "preservation"}],
            {"model": {"base": "copy"}},
            "model.base: is for full fine-tuning: without its adapters, a LoRA run has the base itself\n    Remove the key.",
        ),
        (
            [FLOW],
            {"model": {"training_mode": "full", "base": "copy"}},
            "model.base: keeps a copy of the base, but no objective of this run compares with the base\n    Remove the key.",
        ),
        (
            [FLOW, {"type": "preservation"}],
            {"model": {"training_mode": "full", "base": "copy"}, "acceleration": {"quantization": "int8"}},
            "acceleration.quantization: would change what the copy of the base predicts, and all other weights are trained\n"
            '    Remove the key, or set model.training_mode = "lora".',
        ),
    ],
)
def test_objectives_that_the_run_cannot_do_are_refused(folder: Path, objectives: list[Any], changed: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as error:
        draft(loaded_run(folder, objectives=objectives, **changed), 1).checked()
    assert told in message(error.value, folder)


@pytest.mark.parametrize("acceleration", [{}, {"offload_blocks": 2, "compile": True}])
def test_with_a_copy_of_the_base_full_fine_tuning_may_have_objectives_that_compare_with_it(
    folder: Path, acceleration: dict[str, Any]
) -> None:
    preservation = {"type": "preservation", "prompt": "empty"}
    loaded = loaded_run(folder, objectives=[FLOW, preservation], model={"training_mode": "full", "base": "copy"}, acceleration=acceleration)
    assert [use.type for use in draft(loaded, 1).checked().config.objectives] == ["flow_matching", "preservation"]


def test_the_data_of_an_objective_are_read_and_checked_with_those_of_the_run(folder: Path) -> None:
    region = {"type": "weighted_region", "audio_region_dir": "audio_masks"}
    found = plan(draft(loaded_run(folder, objectives=[FLOW, region]), 1).checked())
    assert found.manifest.entries["objectives.weighted_region.audio_region"].keys() == found.manifest.entries["audio"].keys()
    with pytest.raises(DataError) as error:
        plan(draft(loaded_run(folder, objectives=[{**region, "audio_region_dir": "words"}]), 1).checked())
    assert "words" in message(error.value, folder)
