"""`ltx inspect` shows, draws and dumps, and leaves the run's own folder alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image
from safetensors import safe_open

from helpers.inspected_sets import av_run, av_set
from ltxcore.cli.main import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`run.toml` on a small set."""
    monkeypatch.chdir(tmp_path)
    av_set(tmp_path / "data")
    av_run(tmp_path)
    return tmp_path


def look(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, ["inspect", "run.toml", *arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def test_inspect_shows_what_the_first_steps_see_and_writes_nothing_to_the_runs_folder(folder: Path) -> None:
    code, shown, said = look("--steps", "2", "--png", "seen.png", "--dump", "seen.safetensors")
    assert (code, said) == (0, "")
    for line in ("What the model sees: tokens per sample, in 4 samples", "Conditions", "Step 1", "Step 2"):
        assert line in shown.splitlines()
    assert shown.splitlines()[-2:] == ["drawn in seen.png", "every tensor is in seen.safetensors"]
    with Image.open("seen.png") as picture:
        assert picture.format == "PNG"
    with safe_open("seen.safetensors", "pt") as file:
        assert {key.partition("/")[0] for key in file.keys()} == {"step_1", "step_2"}  # noqa: SIM118
    assert not (folder / "out").exists()


def test_inspect_says_which_samples_of_the_steps_it_does_not_show(folder: Path) -> None:
    code, shown, said = look("--set", "objectives=[{type='flow_matching'}, {type='regularization', dataset='data'}]")
    assert (code, said) == (0, f"not shown: the samples of the objective regularization, which are in {folder / 'data'}\n")
    assert "What the model sees: tokens per sample, in 2 samples" in shown


def test_more_steps_than_the_run_has_are_refused(folder: Path) -> None:
    lines = (folder / "run.toml").read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if text.startswith("steps ="))
    assert look("--steps", "4") == (
        2,
        "",
        f"run.toml:{line}: optimization.steps: the run has 3 steps, but 4 were requested\n    Ask for fewer with --steps.\n",
    )


def test_files_in_the_runs_own_folder_are_refused(folder: Path) -> None:
    assert look("--png", "out/seen.png") == (
        2,
        "",
        "out/seen.png is in the run's output folder, which only a run writes to\n    Name a file elsewhere.\n",
    )


def test_a_mistake_in_the_run_file_is_told(folder: Path) -> None:
    code, _, said = look("--set", "training_strategy.video.conditions=[{type='maks'}]")
    assert code == 2
    assert 'there is no condition "maks"' in said
