"""The trainer of a configuration is recognized by what is in it; what is none is refused with what is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from helpers.converted_configs import old_file
from helpers.other_trainers import converted, job, musubi, pipe, refused
from ltxplugins.tools.convert.recognize import KNOWN, NAMES

MADE: dict[str, Callable[[Path], str]] = {
    "ai-toolkit": lambda _: job(),
    "musubi-tuner": musubi,
    "diffusion-pipe": pipe,
    "ltx-trainer": lambda _: old_file(),
}


@pytest.mark.parametrize("trainer", MADE)
def test_a_configuration_is_recognized_by_its_content(trainer: str, tmp_path: Path) -> None:
    text = MADE[trainer](tmp_path)
    done = converted(text, start=tmp_path)
    assert done.text.startswith("# Made by `ltx convert` from old.txt")
    assert (f"a configuration of {trainer}." in done.text) == (trainer != "ltx-trainer")
    assert converted(text, start=tmp_path, trainer=trainer) == done
    assert trainer in NAMES.values()


def test_the_trainer_can_be_told(tmp_path: Path) -> None:
    assert "config: is missing" not in converted("learning_rate = 1e-4\n", trainer="musubi-tuner").text
    assert KNOWN in refused("learning_rate = 1e-4\n")
    assert "is not TOML" in refused(job(), trainer="diffusion-pipe")
    assert "config.process: has no process" in refused(old_file(), trainer="ai-toolkit")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("a: 1\n", "is not a configuration of a known trainer"),
        ("model = 5\n", "is not a configuration of a known trainer"),
        ("a = 1\n", "is not a configuration of a known trainer"),
        ("just words\n", 'holds the text "just words", not the tables of a configuration'),
        ("- a\n", "holds a list, not the tables of a configuration"),
    ],
)
def test_what_is_no_configuration_is_refused_with_what_is_known(text: str, said: str) -> None:
    assert refused(text) == f"/here/old.txt: {said}\n    {KNOWN}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1\n", "is not YAML"),
        ("{'a': }}\n", "is not YAML"),
        ("[[datasets]]\nvideo_directory = 'a'\n", "is the dataset of a configuration of musubi-tuner"),
        ("[[directory]]\npath = 'a'\n", "is the dataset of a configuration of diffusion-pipe"),
        ("[model]\nmodel_path = 'a'\n", "is a run file already\n    Check it: ltx check /here/old.txt"),
        ("compute_environment: LOCAL_MACHINE\nnum_processes: 2\n", "is a configuration of accelerate"),
    ],
)
def test_files_of_other_kinds_are_refused_by_name(text: str, said: str) -> None:
    assert said in refused(text)


def test_tags_that_construct_objects_are_refused(tmp_path: Path) -> None:
    text = f"job: extension\nconfig: !!python/object/apply:os.mkdir ['{tmp_path / 'ran'}']\n"
    assert "asks for more than a plain value" in refused(text)
    assert not list(tmp_path.iterdir())


def test_a_path_is_written_as_the_run_file_needs_it(tmp_path: Path) -> None:
    from ltxplugins.tools.convert.recognize import convert

    done = convert(job({"train.lr": 1e-3}), "old.yaml", start=tmp_path, folder=tmp_path / "runs")
    assert 'dataset = "../clips"' in done.text
    assert yaml.safe_load(job())["config"]["process"][0]["datasets"][0]["folder_path"] == "clips"
