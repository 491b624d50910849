"""The settings for a GPU are the fastest with which the run fits, and the run file has them."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import tomli
from click.testing import CliRunner

from ltxcore.cli.main import main
from ltxcore.config.load import load_run
from ltxcore.config.render import value_text
from ltxcore.encode.buckets import Bucket
from ltxcore.errors import ConfigError
from ltxcore.new.clips import Clips
from ltxcore.new.memory import FASTEST, fitted_to
from ltxcore.new.modes import MODES
from ltxcore.new.text import Request, text
from ltxcore.planner.costs import Cost, cost

CLIPS = Clips(5, (Bucket(512, 512, 121),), 5.0, 24.0, "")
REQUEST = Request(MODES["t2v"], "tiny", MODES["t2v"].purpose, "run.toml", "clips/", CLIPS)
ELSEWHERE = ("data", "model", "validation")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(text(REQUEST))
    return path


def planned(path: Path, memory: int, settings: tuple[str, ...] = (), model: str | None = None) -> Cost:
    return cost(load_run(path, settings, elsewhere=ELSEWHERE), 1, memory, model=model)


def test_a_run_that_fits_as_fast_as_it_can_be_keeps_its_activations(path: Path) -> None:
    fitted = fitted_to(path, 2**40, 1, None, lambda _: None)
    assert fitted.settings == {"optimization": {"enable_gradient_checkpointing": "false"}}
    assert "enable_gradient_checkpointing = false" in text(attrs.evolve(REQUEST, fitted=fitted))


@pytest.mark.slow
def test_where_that_does_not_fit_the_run_file_has_settings_with_which_it_does(path: Path) -> None:
    memory = planned(path, 2**40, FASTEST).need.with_margin - 1
    fitted = fitted_to(path, memory, 1, None, lambda _: None)
    assert fitted.need.with_margin <= memory
    path.write_text(text(attrs.evolve(REQUEST, fitted=fitted)))
    written = tomli.loads(path.read_text())
    assert written["optimization"]["enable_gradient_checkpointing"] is True
    assert {table: {key: value_text(written[table][key]) for key in keys} for table, keys in fitted.settings.items()} == fitted.settings
    assert planned(path, memory).need.with_margin == fitted.need.with_margin


def test_a_gpu_that_is_too_small_under_any_settings_is_refused(path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        fitted_to(path, 2**29, 1, None, lambda _: None)
    (problem,) = caught.value.problems
    assert (problem.where, problem.what) == ("--memory", "no settings make this run fit a GPU of 0.5 GiB")
    assert problem.remedy == "It needs a GPU with more memory."


def test_the_tiny_model_needs_no_memory_to_be_named(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["new", "t2v", "--model", "tiny", "--memory", "24", "-o", str(tmp_path / "run.toml")])
    assert done.exit_code == 2
    assert "the tiny model fits every GPU" in done.stderr
    assert not (tmp_path / "run.toml").exists()


@pytest.mark.slow
def test_a_released_model_fits_24_gib_as_the_written_file_says(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    done = CliRunner().invoke(main, ["new", "t2v", "--memory", "24", "-o", str(path)])
    assert done.exit_code == 0, done.stderr
    lines = path.read_text().splitlines()
    assert lines[2].startswith("# Fits a GPU of 24.0 GiB with clips of this size, and needs about ")
    assert "--gpu-memory 24" in "\n".join(lines[:8])
    assert any(line.endswith("# chosen for a GPU of 24.0 GiB") for line in lines)
    assert "optimizer_type" not in tomli.loads(path.read_text())["optimization"], "other settings suffice, and cost only time"
    assert tomli.loads(path.read_text())["preprocessing"]["connector_outputs"] is True, "which costs no time"
    assert planned(path, 24 * 2**30, model="ltx-2.3-22b").fits
