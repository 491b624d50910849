"""The shipped base is the one whose losses are checked in, and small enough to ship."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

import ltxcore.models
from ltxcore.config.load import load_run

TINY_BASE = Path(ltxcore.models.__file__).with_name("tiny_base.safetensors")
BASE = Path(__file__).parents[2] / "examples" / "base"


@pytest.fixture(scope="module")
def measure(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    spec = importlib.util.spec_from_file_location("measure_base", BASE / "measure_base.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def numbers(table: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d+\.\d{3}", table)]


def test_the_base_is_at_most_ten_megabytes() -> None:
    assert TINY_BASE.stat().st_size <= 10_000_000


def test_the_run_file_of_the_base_is_the_full_mode_on_sound_and_picture(tmp_path: Path) -> None:
    (tmp_path / "base.jsonl").write_text("")
    config = load_run(BASE / "tiny_base.toml", [f"data.dataset={tmp_path / 'base.jsonl'}"]).config
    assert config.model.training_mode == "full"
    assert config.model.model_path == "tiny-untrained"
    assert all(table.is_generated for table in config.training_strategy.tables.values())
    assert list(config.training_strategy.tables) == ["video", "audio"]


@pytest.mark.slow
def test_the_losses_of_the_base_are_those_that_are_checked_in(measure: ModuleType) -> None:
    found = measure.table(measure.measured())
    checked_in = measure.TABLE.read_text()
    assert re.sub(r"\d+\.\d{3}", "", found) == re.sub(r"\d+\.\d{3}", "", checked_in)
    assert numbers(found) == pytest.approx(numbers(checked_in), rel=0.01)
