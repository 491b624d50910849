"""The columns of datasets are those that plugins name; cells that are no media hold numbers, or name a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from helpers.columns_made import Box, Depth, Speed, options, registry_with
from helpers.raw_media import dataset_file
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.dataset.columns import columns_of
from ltxcore.dataset.raw_dataset import open_dataset
from ltxcore.dataset.rows import read_dataset
from ltxcore.errors import DataError, PluginError
from ltxcore.registry import load


def set_of(folder: Path, **cells: Any) -> Path:
    for name in ("a.mp4", "a.json"):
        (folder / name).touch()
    return dataset_file(folder / "set.jsonl", [{"video": "a.mp4", "caption": "a car", **cells}])


def test_what_goes_with_a_sample_is_named_by_plugins_alone() -> None:
    alone = columns_of(PreprocessingTable(registry=load(disabled={"columns"})))
    assert [column.role for column in alone.all] == ["video", "audio", "keyframes", "caption"]
    ours = ["reference_latents", "reference_audio_latents", "video_masks", "audio_masks"]
    assert [column.folder for column in columns_of().all] == ["latents", "audio_latents", "keyframes", "conditions", *ours]


def test_columns_of_strangers_are_made_after_those_that_they_may_depend_on() -> None:
    known = columns_of(PreprocessingTable(registry=registry_with(speed=Speed, box=Box, depth=Depth)))
    assert [column.folder for column in known.all if column.plugin is not None] == [
        "depth_latents",
        "reference_latents",
        "reference_audio_latents",
        "boxes",
        "video_masks",
        "audio_masks",
        "speed",
    ]


def test_two_columns_for_one_folder_are_refused() -> None:
    other = attrs.frozen(type("Other", (Speed,), {"folder": "video_masks"}))
    with pytest.raises(
        PluginError,
        match='the columns "video_mask", encoded to "video_masks", and "other", encoded to "video_masks", have the same folder or name',
    ):
        columns_of(PreprocessingTable(registry=registry_with(other=other)))


def test_a_column_like_a_registered_one_has_its_own_name_folder_and_factors() -> None:
    said = {"look": {"type": "reference_video", "downscale_factor": 2}, "reference_video": {"temporal_scale_factor": 4}}
    known = columns_of(PreprocessingTable(columns=said, reference_temporal_scale_factor=3)).by_role
    look, own = known["look"], known["reference_video"]
    assert (look.folder, look.names, look.borrowed) == ("look", ("look",), ())
    assert (look.downscale_factor, look.temporal_scale_factor) == (2, 3)
    assert look.factor_keys == ("columns.look.downscale_factor", "reference_temporal_scale_factor")
    assert (own.downscale_factor, own.temporal_scale_factor) == (1, 4)
    assert (known["video"].downscale_factor, known["reference_audio"].temporal_scale_factor) == (1, 1)


def test_a_column_that_options_add_and_the_dataset_lacks_is_told_unless_a_run_says_what_it_reads(tmp_path: Path) -> None:
    path, added = (
        set_of(tmp_path, pose="a.mp4"),
        PreprocessingTable(columns={name: {"type": "reference_video"} for name in ("pose", "look")}),
    )
    assert read_dataset(path, added).notes == (f'{path}: has no column "look", so nothing is encoded to the folder "look"',)
    assert not any("look" in note for note in read_dataset(path, added, {"latents", "pose"}).notes)


def test_a_column_that_is_like_nothing_yet_is_told_how_to_become_a_reference(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        read_dataset(set_of(tmp_path, look="a.mp4"), PreprocessingTable(skip_audio=True), {"latents", "look"})
    assert str(error.value).splitlines()[1] == (
        '    To encode the column "look", say what it is like: preprocessing.columns.look.type = one of reference_video, reference_audio, '
        "video_mask, audio_mask."
    )


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ([1, 2.5], [1, 2.5]),
        (3, 3),
        ("3", 3.0),
        ("-.5e1", -5.0),
        ("[1, [2]]", [1, [2]]),
        (" a.json ", "a.json"),
        ({"x": 1}, {"x": 1}),
    ],
)
def test_a_cell_holds_numbers_or_names_a_file(tmp_path: Path, cell: Any, found: Any) -> None:
    data = read_dataset(set_of(tmp_path, speed=cell), options())
    assert data.folders == {"latents", "conditions", "speed"}
    (sample,) = data.samples
    assert sample.cells == {"speed": tmp_path / found if isinstance(found, str) else found}
    assert set(sample.media) == {"video"}, "what is no media is not opened as one"
    assert set(sample.files) == {tmp_path / "a.mp4", *({tmp_path / found} if isinstance(found, str) else ())}


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        ({"speed": None}, 'set.jsonl:1: has no "speed"'),
        ({"speed": ""}, 'set.jsonl:1: the value of "speed" is empty'),
        ({"speed": "[1,"}, 'set.jsonl:1: the value of "speed" is [1,, which is not a list'),
        ({"speed": "b.json"}, 'set.jsonl:1: the speed "b.json" is not there'),
        (
            {"box": "[0]", "region": "[1]"},
            'has the columns "box" and "region", which could both be the box\n    Choose one with --columns box.column (in a run file: preprocessing.columns.box.column).',
        ),
    ],
)
def test_a_cell_that_cannot_be_used_is_named(tmp_path: Path, cells: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError) as error:
        read_dataset(set_of(tmp_path, **cells), options())
    assert told in str(error.value)


def test_a_column_may_be_called_something_else(tmp_path: Path) -> None:
    path = set_of(tmp_path, v=[1, 2])
    assert "speed" not in read_dataset(path, options()).folders
    assert read_dataset(path, options(columns={"speed": {"column": "v"}})).samples[0].cells == {"speed": [1, 2]}
    with pytest.raises(DataError, match='has no column "w" to use as the speed column'):
        read_dataset(path, options(columns={"speed": {"column": "w"}}))


def test_a_run_that_reads_a_folder_needs_its_column(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        read_dataset(set_of(tmp_path), options(), ["conditions", "latents", "speed"])
    assert str(error.value).endswith(
        'the run reads the folder "speed", but there is no column "speed"\n'
        '    Add a column "speed", or name yours with --columns speed.column (in a run file: preprocessing.columns.speed.column).'
    )


def test_numbers_stay_as_they_are_where_the_paths_of_a_row_change(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    listed = open_dataset(set_of(tmp_path / "in", video_mask="[m].png"))
    numbers = attrs.evolve(listed, inline=frozenset({"video_mask"}))
    assert listed.moved(listed.rows[0], tmp_path)["video_mask"] == "in/[m].png"
    assert numbers.moved(numbers.rows[0], tmp_path)["video_mask"] == "[m].png"
