"""Runs that 0.1.0 was stopped in go on, to what 0.1.0 itself would have made of them; finished ones and run files are read as ever."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from helpers.older_runs import MADE, brought, ltx
from ltxcore.config.load import load_run

MODES = sorted(path.name for path in (MADE / "examples").glob("*.toml"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return brought(tmp_path_factory.mktemp("films") / "films")


def losses(output: Path) -> list[int]:
    """The steps that were trained, in order."""
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [line["step"] for line in lines if "loss" in line]


def same(found: Path, expected: Path) -> None:
    """Weights that are equal up to how processors differ in the last bits."""
    one, other = load_file(found), load_file(expected)
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------- unfinished runs


@pytest.mark.parametrize(
    ("run_file", "name"), [("out/single/run", "single"), ("whole_model", "whole_model"), ("pictures", "pictures"), ("sounds", "sounds")]
)
def test_an_unfinished_run_goes_on_to_what_0_1_0_would_have_made_of_it(folder: Path, run_file: str, name: str) -> None:
    said = ltx(folder, "run", f"{run_file}.toml")
    assert "resuming after step 2" in said
    assert "0 files encoded now" in said or name == "whole_model"  # which names the encoded set
    assert "the data have changed since this run began" not in said
    assert "Done, 4 steps." in said
    assert losses(folder / "out" / name) == [1, 2, 3, 4]
    same(next((folder / "out" / name).glob("*.safetensors")), folder / "weights" / f"{name}.safetensors")


def test_a_finished_run_is_not_overwritten_and_its_report_is_made_anew(folder: Path) -> None:
    assert "holds a finished run, which is not overwritten" in ltx(folder, "run", "finished.toml", status=2)
    before = (folder / "out/finished/report.html").read_text()
    (folder / "out/finished/report.html").unlink()
    ltx(folder, "report", "out/finished")
    assert len((folder / "out/finished/report.html").read_text()) > len(before) / 2


# ---------------------------------------------------------------- run files


@pytest.mark.parametrize("name", MODES)
def test_the_run_file_of_every_mode_is_what_it_was(folder: Path, name: str) -> None:
    """What it left to its defaults, 0.1.0 wrote down: they have not changed."""
    loaded = load_run(folder / "examples" / name, [f"output_dir={folder / 'outputs' / name.removesuffix('.toml')}"])
    assert load_run(folder / "resolved" / name).config == loaded.config


@pytest.mark.parametrize(
    "name",
    ["single", "whole_model", "finished", "rslora", "dora", "trigger", "examples/v2a", "examples/legacy_video_to_video"],
)
def test_a_run_file_and_the_set_that_it_names_are_in_order(folder: Path, name: str) -> None:
    output = f"output_dir={folder / 'out' / 'another'}"
    assert "is valid." in ltx(folder, "check", f"{name}.toml", "--set", output)
    assert "stale" not in ltx(folder, "doctor", f"{name}.toml", "--set", output)
