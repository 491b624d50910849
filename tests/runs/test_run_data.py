"""The data of a run file are known without running it: datasets, where they are encoded, and what the run reads of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.training_runs import sound_set, tables, write_run
from ltxcore.codecs.source import Codecs
from ltxcore.errors import LtxError, Problem
from ltxcore.runs.run_data import data_of_run


def test_a_run_on_encoded_samples_has_one_set_and_no_dataset(tmp_path: Path) -> None:
    run = data_of_run(write_run(tmp_path, tables(sound_set(tmp_path / "data", 4), tmp_path / "out")))
    ((dataset, encoded, _),) = run.sets
    assert (dataset, encoded.root) == (None, tmp_path / "data")
    assert run.folders == {source.folder for source in encoded.sources.values()}
    assert (run.codecs, encoded.manifest()[1]) == (Codecs("tiny-untrained", device="cpu"), ())
    assert run.misfits(encoded, encoded.manifest()[0]) == ()


def test_a_dataset_that_is_held_out_is_a_set_of_its_own_beside_it(tmp_path: Path) -> None:
    data = {"dataset": str(tmp_path / "a.csv"), "held_out": str(tmp_path / "b"), "preprocessed_data_root": str(tmp_path / "encoded")}
    (tmp_path / "a.csv").write_text("audio,caption\n")
    (tmp_path / "b").mkdir()
    table = {**tables(tmp_path, tmp_path / "out"), "data": data}
    assert [(dataset, encoded.root) for dataset, encoded, _ in data_of_run(write_run(tmp_path, table)).sets] == [
        (tmp_path / "a.csv", tmp_path / "encoded"),
        (tmp_path / "b", tmp_path / "b.precomputed"),
    ]


def test_what_is_wrong_is_placed_in_the_run_file_and_a_wrong_run_is_refused(tmp_path: Path) -> None:
    path = write_run(tmp_path, tables(sound_set(tmp_path / "data", 4), tmp_path / "out"))
    ((_, encoded, _),) = data_of_run(path).sets
    assert encoded.placed(Problem("is wrong", "training_strategy.audio.latents_dir")).where.startswith(f"{path}:")
    with pytest.raises(LtxError, match=r"optimization\.steps"):
        data_of_run(path, ["optimization.steps=-1"])
