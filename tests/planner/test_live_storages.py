"""The memory that is said of each optimizer, beside the largest sum of storages that are alive in its steps, on a model of 30M parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.sampling import sampled
from ltxcore.config.load import load_run
from ltxcore.engines.process import Processes
from ltxcore.planner.estimate import Estimator
from ltxcore.planner.largest_batch import all_samples, sets_here, shapes_of
from ltxcore.registry import load
from ltxcore.runs.run_plan import Outline, draft
from planner.large import large_run, write_large
from planner.peaks import peaks_of

pytestmark = pytest.mark.slow

OPTIMIZERS = [name for name, named in load().of_kind("optimizer").items() if named.origin.distribution == "ltx" and name != "adamw8bit"]

SETTINGS = {"enable_gradient_checkpointing": True, "gradient_accumulation_steps": 2}
"""With accumulation all gradients are there while activations are. Without it they come as activations go, which is less in a model of few blocks."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large")
    write_large(path)
    return path


@pytest.fixture(scope="module")
def estimator(folder: Path) -> Estimator:
    return estimator_of(outline(folder, "adamw"))


def estimator_of(found: Outline) -> Estimator:
    return Estimator(found, found.base, shapes_of(found, found.base, encoded=all_samples(sets_here(found))))


def outline(folder: Path, optimizer: str, acceleration: dict[str, Any] | None = None, **settings: Any) -> Outline:
    # One iteration of Muon holds as much as five, and takes a quarter of the time.
    params = {"ns_steps": 1} if optimizer == "muon" else {}
    asked = {"optimizer_type": optimizer, "optimizer_params": params, **SETTINGS, **settings}
    path = large_run(folder, optimizer, optimization=asked, acceleration=acceleration or {})
    return draft(load_run(path), 1, writes=False).checked()


def largest_sum(found: Outline) -> int:
    """Bytes of weights, gradients, state, saved and temporary tensors, where they are most."""
    return peaks_of(found, Processes()).most


@pytest.mark.parametrize("optimizer", sampled(OPTIMIZERS, 2))
def test_a_run_holds_at_the_most_what_is_said(optimizer: str, folder: Path, estimator: Estimator) -> None:
    found = outline(folder, optimizer)
    need = estimator.need(found.config, 1)
    held = largest_sum(found)
    assert held == pytest.approx(need.device, rel=0.1)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["not checkpointed", "checkpointed"])
def test_without_accumulation_gradients_take_the_place_of_activations(checkpointing: bool, folder: Path, estimator: Estimator) -> None:
    found = outline(folder, "adamw", gradient_accumulation_steps=1, enable_gradient_checkpointing=checkpointing)
    need, held = estimator.need(found.config, 1), largest_sum(found)
    assert 0.97 * held <= need.device <= 1.1 * held


@pytest.mark.parametrize("budget", [0.004, 4.0], ids=["some outputs", "all outputs"])
def test_selective_checkpointing_adds_at_the_most_what_is_said(budget: float, folder: Path, estimator: Estimator) -> None:
    without, found = outline(folder, "adamw"), outline(folder, "adamw", {"activation_budget_gb": budget})
    said = estimator.need(found.config, 1).device - estimator.need(without.config, 1).device
    assert said > 2**21
    assert largest_sum(found) - largest_sum(without) == pytest.approx(said, rel=0.1)


@pytest.mark.whole
@pytest.mark.parametrize("optimizer", ["adamw", "adafactor", "lion"])
def test_a_run_of_more_than_100m_parameters_holds_at_the_most_what_is_said(optimizer: str, tmp_path: Path) -> None:
    assert write_large(tmp_path, layers=18) > 100e6
    found = outline(tmp_path, optimizer)
    need = estimator_of(found).need(found.config, 1)
    held = largest_sum(found)
    assert held == pytest.approx(need.device, rel=0.1)
