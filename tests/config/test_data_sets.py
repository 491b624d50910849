"""What `[[data.sets]]` may say, and what is refused, in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.training_runs import tables, write_run
from ltxcore.config.data_sets import of_set, set_names
from ltxcore.config.load import load_run
from ltxcore.errors import LtxError


def written(folder: Path, *sets: dict[str, Any], **data: Any) -> Path:
    (folder / "photos").mkdir(exist_ok=True)
    (folder / "my clips").mkdir(exist_ok=True)
    return write_run(folder, {**tables(folder, folder / "out"), "data": {**data, "sets": list(sets)}})


def test_a_set_is_called_as_the_file_says_or_as_its_folder_or_file(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("video,caption\n")
    (tmp_path / "of" / ".precomputed").mkdir(parents=True)
    sets: list[dict[str, Any]] = [
        {"dataset": "photos"},
        {"dataset": "my clips"},
        {"dataset": "list.csv"},
        {"preprocessed_data_root": "of/.precomputed"},
        {"preprocessed_data_root": "x.precomputed", "dataset": "photos/.."},
        {"name": "Ünder", "dataset": "of"},
    ]
    config = load_run(written(tmp_path, *sets)).config
    assert set_names(config.data.sets)[:4] == ["photos", "my_clips", "list", "of"]
    assert set_names(config.data.sets)[5] == "Ünder"
    assert config.data.is_said


@pytest.mark.parametrize(
    ("sets", "data", "key", "what"),
    [
        ([{}], {}, "data.sets[0]", "does not name any data to train on"),
        ([{"dataset": "none"}], {}, "data.sets[0].dataset", "there is no file or folder TMP/none"),
        ([{"preprocessed_data_root": "none"}], {}, "data.sets[0].preprocessed_data_root", "there is no folder TMP/none"),
        ([{"dataset": "photos", "repeats": 0}], {}, "data.sets[0].repeats", "must be at least 1, not 0"),
        ([{"dataset": "photos", "weight": 0}], {}, "data.sets[0].weight", "must be above 0, not 0"),
        (
            [{"dataset": "photos", "repeats": 2, "weight": 1}],
            {},
            "data.sets[0].weight",
            "says how often the samples are seen, as repeats does",
        ),
        (
            [{"dataset": "photos", "weight": 1}, {"dataset": "my clips"}],
            {},
            "data.sets[1]",
            'has no weight, although the set "photos" has one',
        ),
        (
            [{"name": "a", "dataset": "photos"}, {"name": "a", "dataset": "my clips"}],
            {},
            "data.sets[1].name",
            'another set is called "a" too',
        ),
        ([{"name": "a/b", "dataset": "photos"}], {}, "data.sets[0].name", '"a/b" cannot be the name of a set'),
        ([{"name": "a", "dataset": "photos"}, {"dataset": "photos"}], {}, "data.sets[1].dataset", 'is also the one of the set "a"'),
        (
            [{"preprocessed_data_root": "photos", "caption_prefix": "a"}],
            {},
            "data.sets[0].caption_prefix",
            "is put before captions when they are encoded, but those of this set are encoded already",
        ),
        ([{"dataset": "photos", "held_out": 1.5}], {}, "data.sets[0].held_out", "a share must be at least 0 and below 1, not 1.5"),
        (
            [{"dataset": "photos", "held_out": 1}],
            {"held_out": "my clips"},
            "data.sets[0].held_out",
            "the clips to hold out are a dataset of their own: data.held_out",
        ),
        (
            [{"dataset": "photos"}],
            {"dataset": "my clips"},
            "data.dataset",
            "cannot be combined with data.sets, which already name the data",
        ),
        (
            [{"dataset": "."}],
            {"held_out": "photos"},
            "data.held_out",
            "is inside the folder TMP, whose media would be both trained on and held out",
        ),
        ([{"dataset": "photos", "repeat": 2}], {}, "data.sets[0].repeat", "there is no such key"),
    ],
)
def test_what_is_wrong_with_sets_is_said_at_their_keys(
    sets: list[dict[str, Any]], data: dict[str, Any], key: str, what: str, tmp_path: Path
) -> None:
    with pytest.raises(LtxError) as error:
        load_run(written(tmp_path, *sets, **data))
    told = [(each.where.rpartition(": ")[2], each.what.replace(str(tmp_path), "TMP")) for each in error.value.problems]
    assert told == [(key, what)]


def test_a_run_file_without_sets_is_written_as_before_there_were_any(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert "sets =" not in load_run(write_run(tmp_path, tables(tmp_path / "data", tmp_path / "out"))).resolved()


def test_a_run_file_with_sets_reads_as_it_was_when_it_is_written_and_read_again(tmp_path: Path) -> None:
    loaded = load_run(
        written(tmp_path, {"dataset": "photos", "caption_prefix": "a photo,", "held_out": 0}, {"dataset": "my clips", "repeats": 2})
    )
    (tmp_path / "again.toml").write_text(loaded.resolved())
    assert load_run(tmp_path / "again.toml").config == loaded.config


def test_a_run_as_far_as_a_set_is_concerned_has_its_data_and_names_its_keys(tmp_path: Path) -> None:
    loaded = load_run(written(tmp_path, {"dataset": "photos"}, {"dataset": "my clips", "held_out": 3, "caption_prefix": "x"}, held_out=0.5))
    first, second = of_set(loaded, 0), of_set(loaded, 1)
    assert [each.config.data.held_out for each in (first, second)] == [0.5, 3]
    assert [each.config.data.dataset for each in (first, second)] == [tmp_path / "photos", tmp_path / "my clips"]
    assert [each.config.preprocessing.caption_prefix for each in (first, second)] == [None, "x"]
    assert second.where("data.held_out").endswith("data.sets[1].held_out")
    assert second.where("optimization.steps") == loaded.where("optimization.steps")
