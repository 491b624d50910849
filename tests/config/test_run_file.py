"""Every table: what a run does that says nothing, and what each key is for."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, get_args

import attrs
import pytest

from ltxcore.config import kept_weights, run_file, validation_samples
from ltxcore.config.tables import Bounds, keys_of
from ltxcore.encode.buckets import parse_buckets

TABLES = [
    cls
    for module in (run_file, kept_weights, validation_samples)
    for _, cls in inspect.getmembers(module, attrs.has)
    if cls.__name__.endswith(("Table", "Sample")) or cls is run_file.RunFile
]


def test_the_run_file_has_the_tables_of_the_mission_and_ours() -> None:
    theirs = "model lora training_strategy optimization acceleration data validation checkpoints flow_matching hub wandb seed output_dir"
    ours = "ema engine objectives preprocessing trackers plugins"
    assert {key.name for key in keys_of(run_file.RunFile)} == {*theirs.split(), *ours.split()}
    assert {key.name for key in keys_of(run_file.RunFile) if key.required} == {"model", "training_strategy"}


@pytest.mark.parametrize("cls", TABLES, ids=lambda cls: cls.__name__)
def test_every_key_says_what_it_is_for(cls: Any) -> None:
    assert [key.name for key in keys_of(cls) if not key.help] == []


@pytest.mark.parametrize("cls", TABLES, ids=lambda cls: cls.__name__)
def test_a_number_has_a_range(cls: Any) -> None:
    numbers = [key for key in keys_of(cls) if {int, float} & {key.kind, *get_args(key.kind)} and key.name != "held_out"]
    assert [key.name for key in numbers if key.bounds == Bounds()] == []


def test_alpha_is_the_rank_unless_it_is_set() -> None:
    assert (run_file.LoraTable(rank=8).alpha, run_file.LoraTable(rank=8, alpha=16).alpha) == (8, 16)


def test_a_range_holds_for_a_table_made_in_code_too() -> None:
    with pytest.raises(ValueError, match=r"^must be at least 1, not 0$"):
        run_file.OptimizationTable(steps=0)


def test_the_state_that_resumes_exactly_is_saved_by_default() -> None:
    assert run_file.CheckpointsTable().save_training_state == "full"


def test_ranges_are_open_or_closed_as_they_say() -> None:
    assert [Bounds(at_least=1).fault(n) for n in (0, 1)] == ["must be at least 1", ""]
    assert [Bounds(above=1).fault(n) for n in (1, 1.5)] == ["must be above 1", ""]
    assert [Bounds(at_most=1).fault(n) for n in (1, 1.5)] == ["", "must be at most 1"]
    assert [Bounds(below=1).fault(n) for n in (0.5, 1)] == ["", "must be below 1"]
    assert Bounds(above=1).fault(float("nan")) == "must be above 1"
    assert Bounds(above=1).fault(None) == ""


def test_output_dir_is_a_path() -> None:
    assert next(key for key in keys_of(run_file.RunFile) if key.name == "output_dir").kind is Path


FREE = {
    "seed": "only hashed",
    "lora.dropout": "below 1",
    "ema.decay": "below 1",
    "optimization.max_grad_norm": "a norm above all others clips nothing",
    "optimization.betas": "below 1",
    "acceleration.offload_blocks": "more than there are is all of them",
    "data.held_out": "more than there are is refused with the data",
    "validation.seed": "only hashed",
    "validation.interval": "more steps than there are is never",
    "validation.stg_blocks": "held against the model's blocks",
    "checkpoints.interval": "more steps than there are is never",
    "checkpoints.keep_last_n": "more than there are is all of them",
    "engine.patience": "more minutes than a run takes is never",
}
"""Numbers without an upper end, and why none is needed."""


def test_every_number_of_a_run_file_has_an_upper_end_or_a_reason_for_none() -> None:
    found = set()
    for table in keys_of(run_file.RunFile):
        keys = [("", table)] if not attrs.has(table.kind) else [(f"{table.name}.", key) for key in keys_of(table.kind)]
        for prefix, key in keys:
            is_number = "Literal" not in str(key.kind) and any(kind in str(key.kind) for kind in ("int", "float"))
            if is_number and key.bounds.at_most is None:
                found.add(f"{prefix}{key.name}")
    assert found == FREE.keys()


def test_a_size_of_thousands_of_digits_is_no_bucket() -> None:
    for text in (f"{'9' * 5000}x64x17", "64x64x99999999999", "65537x64x17"):
        (found,) = run_file.PreprocessingTable(resolution_buckets=text).problems()
        assert found[:2] == (("resolution_buckets",), f'"{text if len(text) < 40 else f"{text[:37]}..."}" is not a bucket')
        _, problems = parse_buckets(text, (8, 32, 32), "here")
        assert problems
    assert run_file.PreprocessingTable(resolution_buckets="65536x64x1000000").problems() == []
