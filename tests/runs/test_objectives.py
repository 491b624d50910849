"""Objectives that a run cannot do are refused before it begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from helpers.training_runs import loaded_run, message, sound_set
from ltxcore.errors import ConfigError, DataError
from ltxcore.runs.objectives import prompt_problems
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
            "objectives[0].probability: no objective is learned in every step, so in some there may be none",
        ),
        ([{**FLOW, "weight": {"video": 1.0}}], {}, "objectives[0].weight.video: the run does not generate video, so it has no loss of it"),
        (
            [FLOW, {"type": "weighted_region", "video_region_dir": "faces"}],
            {},
            "objectives[1].video_region_dir: the run does not generate video, so it has no loss of it\n    Remove it; the run generates audio.",
        ),
        (
            [FLOW, {**FLOW, "error": "l1"}],
            {"acceleration": {"step_in_backward": True}},
            "acceleration.step_in_backward: updates weights in the backward pass, of which 2 objectives need one each before weights may change",
        ),
        (
            [FLOW, {"type": "preservation"}],
            {"model": {"training_mode": "full"}},
            'objectives[1].type: the objective "preservation" compares with the base, which full fine-tuning changes\n'
            '    Remove it, or set model.training_mode = "lora".',
        ),
        (
            [FLOW, {"type": "slider", "towards": "a tone"}],
            {"acceleration": {"compile": True}},
            'objectives[1].type: the objective "slider" compares with the base, and compiled blocks always have their LoRA',
        ),
    ],
)
def test_objectives_that_the_run_cannot_do_are_refused(folder: Path, objectives: list[Any], changed: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as error:
        draft(loaded_run(folder, objectives=objectives, **changed), 1).checked()
    assert told in message(error.value, folder)


def test_the_data_of_an_objective_are_read_and_checked_with_those_of_the_run(folder: Path) -> None:
    region = {"type": "weighted_region", "audio_region_dir": "audio_masks"}
    found = plan(draft(loaded_run(folder, objectives=[FLOW, region]), 1).checked())
    assert found.manifest.entries["objectives.weighted_region.audio_region"].keys() == found.manifest.entries["audio"].keys()
    with pytest.raises(DataError) as error:
        plan(draft(loaded_run(folder, objectives=[{**region, "audio_region_dir": "words"}]), 1).checked())
    assert "words" in message(error.value, folder)


def test_prompts_that_cannot_be_encoded_are_told_before_the_run_unless_some_are_kept_beside_the_data(folder: Path, tmp_path: Path) -> None:
    found = draft(loaded_run(folder, objectives=[FLOW, {"type": "preservation"}]), 1).checked()
    assert prompt_problems(found) == ()
    config = attrs.evolve(found.config, model=attrs.evolve(found.config.model, model_path=str(tmp_path / "none.safetensors")))
    without = attrs.evolve(found, loaded=attrs.evolve(found.loaded, config=config))
    assert prompt_problems(without)
    plain = attrs.evolve(without, loaded=attrs.evolve(found.loaded, config=attrs.evolve(config, objectives=[])))
    assert prompt_problems(plain) == ()
    (tmp_path / ".prompts").mkdir()
    assert prompt_problems(attrs.evolve(without, root=tmp_path)) == ()
