from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest

from helpers.raw_media import dataset_file, message
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.dataset.rows import Dataset, read_dataset
from ltxcore.errors import DataError


def touched(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def read(path: Path, folders: Any = None, root: Any = None, **options: Any) -> Dataset:
    return read_dataset(path, PreprocessingTable(**options), folders, root)


def rows(folder: Path, *values: dict[str, Any]) -> Path:
    return dataset_file(folder / "set.jsonl", values)


def test_a_sample_is_named_after_its_clip_and_knows_its_files(tmp_path: Path) -> None:
    touched(tmp_path, "clips/one.two.mp4", "masks/x.wav")
    data = read(rows(tmp_path, {"video": " clips/one.two.mp4 ", "audio_mask": "masks/x.wav", "caption": " a "}))
    (sample,) = data.samples
    assert sample.name == "clips/one.two"
    assert sample.origin == "clips/one.two.mp4"
    assert sample.where == f"{tmp_path}/set.jsonl:1"
    assert sample.media == {"video": tmp_path / "clips/one.two.mp4", "audio_mask": tmp_path / "masks/x.wav"}
    assert sample.sound == tmp_path / "clips/one.two.mp4"
    assert sample.caption == " a "
    assert data.folders == {"conditions", "latents", "audio_latents", "audio_masks"}
    assert data.notes == ()


def test_without_a_clip_a_sample_and_its_reference_are_named_after_the_sound(tmp_path: Path) -> None:
    touched(tmp_path, "a/x.wav", "refs/y.wav")
    data = read(rows(tmp_path, {"audio": "a/x.wav", "reference_audio": "refs/y.wav", "caption": "c"}))
    assert [sample.name for sample in data.samples] == ["a/x"]
    assert data.folders == {"conditions", "audio_latents", "reference_audio_latents"}


def test_paths_are_relative_to_the_dataset_file_wherever_the_program_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touched(tmp_path / "data", "a.mp4")
    rows(tmp_path / "data", {"video": "a.mp4", "caption": "c"})
    monkeypatch.chdir(tmp_path)
    (sample,) = read(Path("data/set.jsonl")).samples
    assert (sample.name, sample.media["video"]) == ("a", tmp_path / "data/a.mp4")


def test_an_absolute_path_in_the_folder_of_the_dataset_is_as_good_as_a_relative_one(tmp_path: Path) -> None:
    touched(tmp_path, "clips/a.mp4")
    assert read(rows(tmp_path, {"video": f"{tmp_path}/clips/../clips/a.mp4", "caption": "c"})).samples[0].name == "clips/a"


@pytest.mark.parametrize("cell", ["../a.mp4", "clips/../../a.mp4", "{parent}/a.mp4", "."])
def test_a_path_that_climbs_out_of_the_dataset_is_refused_and_names_the_row(tmp_path: Path, cell: str) -> None:
    touched(tmp_path, "a.mp4", "data/ok.mp4")
    cell = cell.format(parent=tmp_path)
    path = rows(tmp_path / "data", {"video": "ok.mp4", "caption": "c"}, {"video": cell, "caption": "c"})
    with pytest.raises(DataError) as error:
        read(path)
    beside = '\n{0}:2: the video "." is a folder, not a file\n    Paths are relative to {1}.' if cell == "." else ""
    assert message(error) == (
        f'{path}:2: the video "{cell}" is outside the folder of the dataset, so its samples would be outside the output folder\n'
        f"    Move the file under {tmp_path}/data, or the dataset file to a folder that holds both."
        + beside.format(path, tmp_path / "data")
    )


def test_a_reference_may_lie_anywhere_since_nothing_is_named_after_it(tmp_path: Path) -> None:
    touched(tmp_path, "r.mp4", "data/a.mp4")
    path = rows(tmp_path / "data", {"video": "a.mp4", "reference_video": "../r.mp4", "caption": "c"})
    assert read(path).samples[0].media["reference_video"] == tmp_path / "r.mp4"


def test_rows_that_are_there_twice_or_would_share_a_name_are_refused_with_both_lines(tmp_path: Path) -> None:
    touched(tmp_path, "a.mp4", "a.png", "b.mp4")
    path = rows(tmp_path, *({"video": video, "caption": "c"} for video in ("a.mp4", "b.mp4", "a.png", "./b.mp4")))
    with pytest.raises(DataError) as error:
        read(path)
    assert message(error) == (
        f'{path}:3: the samples of "a.png" and of "a.mp4" in line 1 would have the same name: "a"\n    Rename one of the files; extensions are ignored.\n'
        f'{path}:4: "./b.mp4" is already in line 2\n    Keep one of the rows.'
    )


def test_all_that_is_wrong_with_a_dataset_is_told_at_once_in_order_of_its_lines(tmp_path: Path) -> None:
    touched(tmp_path, "a.mp4")
    (tmp_path / "folder").mkdir()
    path = rows(
        tmp_path,
        {"video": "a.mp4", "caption": None},
        {"video": "", "caption": "c"},
        {"video": "gone.mp4", "caption": 3},
        {"caption": "c"},
        {"video": "folder", "caption": ""},
    )
    path.write_text(path.read_text() + "nonsense\n")
    with pytest.raises(DataError) as error:
        read(path)
    assert message(error) == (
        f'{path}:1: has no "caption"\n    Every row needs a value in every column that is used.\n'
        f'{path}:2: the value of "video" is empty\n    Name a file, or leave the row out.\n'
        f'{path}:3: the value of "caption" is 3, not text\n    Put the value in quotes.\n'
        f'{path}:3: the video "gone.mp4" is not there\n    Paths are relative to {tmp_path}.\n'
        f'{path}:4: has no "video"\n    Every row needs a value in every column that is used.\n'
        f'{path}:5: the video "folder" is a folder, not a file\n    Paths are relative to {tmp_path}.\n'
        f"{path}:6: is not a JSON object: Expecting value\n    Each line must be one object with the columns as keys."
    )


def test_files_that_are_not_there_or_are_none_lose_their_own_rows_where_the_user_said_skip(tmp_path: Path) -> None:
    touched(tmp_path, "a.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    captioned = [{"video": name, "caption": "c"} for name in ("a.mp4", "pipe.mp4", "gone.mp4")]
    data = read(rows(tmp_path, *captioned), on_error="skip")
    assert [sample.name for sample in data.samples] == ["a"]
    assert [(problem.where.rpartition(":")[2], problem.what) for problem in data.left_out] == [
        ("2", 'the video "pipe.mp4" is a pipe, not a file'),
        ("3", 'the video "gone.mp4" is not there'),
    ]
    with pytest.raises(DataError, match="not text"):  # a mistake in the row itself is still one
        read(rows(tmp_path, *captioned, {"video": "a.mp4", "caption": 3}), on_error="skip")


def test_an_empty_caption_is_a_caption(tmp_path: Path) -> None:
    touched(tmp_path, "a.mp4")
    assert read(rows(tmp_path, {"video": "a.mp4", "caption": ""})).samples[0].caption == ""


@pytest.mark.parametrize("alias", ["video", "media_path"])
def test_a_column_is_found_by_convention(tmp_path: Path, alias: str) -> None:
    touched(tmp_path, "a.mp4")
    assert read(rows(tmp_path, {alias: "a.mp4", "caption": "c"})).samples[0].name == "a"


def test_a_column_is_found_by_option_and_those_left_over_are_named_once(tmp_path: Path) -> None:
    touched(tmp_path, "a.mp4", "b.mp4")
    path = rows(tmp_path, *({"video": "x", "clip": clip, "text": "t", "caption": "c"} for clip in ("a.mp4", "b.mp4")))
    data = read(path, video_column="clip", caption_column="text")
    assert [(sample.name, sample.caption) for sample in data.samples] == [("a", "t"), ("b", "t")]
    assert data.notes == (f'{path}: these columns are not used: "video", "caption"',)


def test_two_columns_of_one_role_are_refused_unless_one_is_chosen(tmp_path: Path) -> None:
    touched(tmp_path, "a.mp4", "b.mp4")
    path = rows(tmp_path, {"video": "a.mp4", "media_path": "b.mp4", "caption": "c"})
    with pytest.raises(DataError) as error:
        read(path)
    assert (
        message(error)
        == f'{path}: has the columns "video" and "media_path", which could both be the video\n    Choose one with --video-column (in a run file: preprocessing.video_column).'
    )
    assert read(path, video_column="media_path").samples[0].name == "b"


def test_a_chosen_column_that_is_not_there_is_refused_with_the_one_that_may_be_meant(tmp_path: Path) -> None:
    path = rows(tmp_path, {"video": "a.mp4", "caption": "c"})
    with pytest.raises(DataError) as error:
        read(path, caption_column="captions")
    assert message(error) == f'{path}: has no column "captions" to use as the caption column\n    Did you mean "caption"?'


def test_one_column_cannot_play_two_roles(tmp_path: Path) -> None:
    path = rows(tmp_path, {"video": "a.mp4", "caption": "c"})
    with pytest.raises(DataError) as error:
        read(path, video_column="video", reference_video_column="video")
    assert (
        message(error)
        == f'{path}: the column "video" is used as video and reference_video at the same time\n    Give each role its own column.'
    )


def test_a_dataset_without_captions_is_refused_with_the_columns_found(tmp_path: Path) -> None:
    path = rows(tmp_path, {"video": "a.mp4", "words": "c"})
    with pytest.raises(DataError) as error:
        read(path)
    assert (
        message(error) == f"{path}: has no caption column; its columns are video, words\n"
        '    Add a column "caption", or name yours with --caption-column (in a run file: preprocessing.caption_column).'
    )


def test_a_dataset_without_clips_and_sounds_is_refused(tmp_path: Path) -> None:
    path = rows(tmp_path, {"caption": "c", "video_mask": "m.png"})
    with pytest.raises(DataError) as error:
        read(path)
    assert (
        message(error) == f'{path}: has no column "video" and no column "audio"\n'
        "    Add such a column, or name one of yours with --video-column or --audio-column (in a run file: preprocessing.video_column or preprocessing.audio_column)."
    )


@pytest.mark.parametrize(
    ("row", "options", "what"),
    [
        (
            {"audio": "a.wav", "video_mask": "m.png", "caption": "c"},
            {},
            'the column "video_mask" belongs to the video of a sample, but no sample has video\n    Add a column "video".',
        ),
        (
            {"video": "a.mp4", "audio_mask": "m.wav", "caption": "c"},
            {"skip_audio": True},
            'the column "audio_mask" belongs to the audio of a sample, but no sample has audio\n    Remove skip_audio, or add a column "audio".',
        ),
        (
            {"video": "a.mp4", "reference_audio": "m.wav", "caption": "c"},
            {"skip_audio": True},
            'the column "reference_audio" belongs to the audio of a sample, but no sample has audio\n    Remove skip_audio, or add a column "audio".',
        ),
    ],
)
def test_a_column_that_belongs_to_what_is_not_made_is_refused(
    tmp_path: Path, row: dict[str, str], options: dict[str, Any], what: str
) -> None:
    path = rows(tmp_path, row)
    with pytest.raises(DataError) as error:
        read(path, **options)
    assert message(error) == f"{path}: {what}"


def test_only_the_folders_that_a_run_reads_are_made_and_only_their_files_need_be_there(tmp_path: Path) -> None:
    touched(tmp_path, "a.mp4")
    path = rows(tmp_path, {"video": "a.mp4", "reference_video": "gone.mp4", "caption": "c"})
    assert read(path, folders={"latents", "conditions"}).folders == {"latents", "conditions"}
    assert read(path, folders={"conditions"}).samples[0].media == {}


def test_masks_bring_the_folder_that_they_take_their_size_from(tmp_path: Path) -> None:
    touched(tmp_path, "a.mp4", "m.wav")
    path = rows(tmp_path, {"video": "a.mp4", "audio_mask": "m.wav", "caption": "c"})
    assert read(path, folders={"audio_masks"}).folders == {"audio_masks", "audio_latents"}


def test_folders_that_the_dataset_cannot_make_are_refused_together(tmp_path: Path) -> None:
    path = rows(tmp_path, {"video": "a.mp4"})
    (tmp_path / "root/my_masks").mkdir(parents=True)
    with pytest.raises(DataError) as error:
        read(path, folders={"conditions", "audio_latents", "audio_masks", "depth", "my_masks"}, root=tmp_path / "root", skip_audio=True)
    assert message(error) == (
        f'{path}: the run reads the folder "audio_latents", but skip_audio ignores the audio of the clips\n    Remove skip_audio.\n'
        f'{path}: the run reads the folder "audio_masks", but there is no column "audio_mask"\n'
        '    Add a column "audio_mask", or name yours with --audio-mask-column (in a run file: preprocessing.audio_mask_column).\n'
        f'{path}: the run reads the folder "conditions", but there is no column "caption"\n'
        '    Add a column "caption", or name yours with --caption-column (in a run file: preprocessing.caption_column).\n'
        f'{path}: the run reads the folder "depth", which nothing in this dataset provides\n'
        "    Known: audio_latents, audio_masks, conditions, keyframes, latents, reference_audio_latents, reference_latents, video_masks."
    )


def test_csv_and_json_datasets_give_the_same_samples(tmp_path: Path) -> None:
    touched(tmp_path, "a.mp4", "b.mp4")
    values = [{"video": "a.mp4", "caption": "one, two"}, {"video": "b.mp4", "caption": 'so "called"'}]
    lines = read(rows(tmp_path, *values)).samples
    (tmp_path / "set.json").write_text(json.dumps(values, indent=1))
    with (tmp_path / "set.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["video", "caption"])
        writer.writeheader()
        writer.writerows(values)
    for name in ("set.json", "set.csv"):
        found = read(tmp_path / name).samples
        assert [(each.name, each.media, each.caption) for each in found] == [(each.name, each.media, each.caption) for each in lines]


def test_stock_openings_are_left_out_before_the_trigger_word_is_put_there_and_counted(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.wav").touch()
    rows = [{"audio": "a.wav", "caption": "The audio contains rain"}, {"audio": "b.wav", "caption": "wind"}]
    path = dataset_file(tmp_path / "set.jsonl", rows)
    data = read(path, remove_llm_prefixes=True, lora_trigger="TRIG")
    assert [sample.caption for sample in data.samples] == ["TRIG Rain", "TRIG wind"]
    assert data.notes == (f"{path}: a stock phrase is removed from the beginning of 1 of 2 captions",)
    assert [sample.caption for sample in read(path).samples] == ["The audio contains rain", "wind"]


def test_backslashes_of_windows_are_read_as_slashes_where_the_file_is_there_and_said(tmp_path: Path) -> None:
    touched(tmp_path, "sub/a.mp4", "sub/b.mp4", "real\\name.mp4")
    path = rows(tmp_path, *({"video": cell, "caption": "c"} for cell in ("sub\\a.mp4", ".\\sub\\b.mp4", "real\\name.mp4")))
    data = read(path)
    assert [(sample.name, sample.origin) for sample in data.samples] == [
        ("sub/a", "sub/a.mp4"),
        ("sub/b", "./sub/b.mp4"),
        ("real\\name", "real\\name.mp4"),
    ]
    assert data.notes == (f'{path}: 2 paths with backslashes, such as ".\\sub\\b.mp4", are read with "/"',)
    path = rows(tmp_path, {"video": "C:\\clips\\a.mp4", "caption": "c"})
    with pytest.raises(DataError) as error:
        read(path)
    assert message(error) == (
        f'{path}:1: the video "C:\\clips\\a.mp4" is not there\n'
        f'    Paths are relative to {tmp_path}. Separate folders with "/", and leave out the name of a Windows drive.'
    )


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ("x" * 5000, f'the video "{"x" * 200}..." cannot be read: File name too long'),
        ("a\0.mp4", 'the video "a\0.mp4" is not there'),
        ("\ud800.mp4", 'the video "\ud800.mp4" is not there'),
        ("pipe.mp4", 'the video "pipe.mp4" is a pipe, not a file'),
    ],
)
def test_names_that_no_medium_can_have_are_refused_in_words(tmp_path: Path, cell: str, told: str) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(DataError) as error:
        read(rows(tmp_path, {"video": cell, "caption": "c"}))
    assert [problem.what for problem in error.value.problems] == [told]


def test_half_a_letter_is_no_caption(tmp_path: Path) -> None:
    touched(tmp_path, "a.mp4")
    path = rows(tmp_path, {"video": "a.mp4", "caption": "half \ud83c"})
    with pytest.raises(DataError) as error:
        read(path)
    assert (
        message(error) == f'{path}:1: the value of "caption" contains an unpaired surrogate, which is not valid text\n    Write it again.'
    )


@pytest.mark.parametrize(
    ("row", "name", "media"),
    [
        ({"file_name": "a.mp4", "text": "c"}, "a", "video"),
        ({"file_name": "a.wav", "text": "c"}, "a", "audio"),
        ({"video_path": "a.mp4", "caption": "c"}, "a", "video"),
        ({"video": "a.mp4", "file_name": "b.mp4", "text": "other", "caption": "c"}, "a", "video"),
        ({"audio": "a.wav", "file_name": "b.mp4", "caption": "c"}, "a", "audio"),
        ({"path": "a.mp4", "prompt": "c"}, "a", "video"),
        ({"path": "a.wav", "transcription": "c"}, "a", "audio"),
        ({"image": "a.mp4", "text": "c", "prompt": "other"}, "a", "video"),
        ({"file_name": "a.mp4", "path": "b.mp4", "description": "c"}, "a", "video"),
        ({"audio_path": "a.wav", "cap": "c"}, "a", "audio"),
    ],
)
def test_columns_of_other_programs_are_taken_where_ours_are_not_there(tmp_path: Path, row: dict[str, str], name: str, media: str) -> None:
    touched(tmp_path, "a.mp4", "a.wav", "b.mp4")
    (sample,) = read(rows(tmp_path, row)).samples
    assert (sample.name, list(sample.media), sample.caption) == (name, [media], "c")


def test_masks_and_references_of_other_programs_are_taken_by_runs_that_read_them_alone(tmp_path: Path) -> None:
    touched(tmp_path, "a.mp4", "b.mp4", "c.png")
    path = rows(tmp_path, {"video": "a.mp4", "caption": "c", "control_path": "b.mp4", "mask": "c.png"})
    everything = read(path)
    assert (list(everything.samples[0].media), everything.folders) == (["video"], {"conditions", "latents", "audio_latents"})
    assert everything.notes == (f'{path}: these columns are not used: "control_path", "mask"',)
    run = read_dataset(path, PreprocessingTable(), {"conditions", "latents", "reference_latents", "video_masks"})
    assert sorted(run.samples[0].media) == ["reference_video", "video", "video_mask"]


def test_a_sound_beside_a_clip_is_not_taken_for_its_own_because_of_a_name(tmp_path: Path) -> None:
    touched(tmp_path, "a.mp4", "a.wav")
    (sample,) = read(rows(tmp_path, {"video": "a.mp4", "caption": "c", "audio_path": "a.wav"})).samples
    assert list(sample.media) == ["video"]


def test_two_columns_of_other_programs_for_one_role_are_not_guessed_between(tmp_path: Path) -> None:
    touched(tmp_path, "a.mp4")
    with pytest.raises(DataError) as error:
        read(rows(tmp_path, {"file_name": "a.mp4", "video_path": "a.mp4", "prompt": "c", "description": "d"}))
    assert message(error).splitlines()[1::2] == [
        '    It could be "video_path" or "file_name": choose one with --video-column (in a run file: preprocessing.video_column).',
        '    It could be "prompt" or "description": choose one with --caption-column (in a run file: preprocessing.caption_column).',
    ]


def test_a_cell_may_hold_a_list_of_captions_that_each_get_the_trigger_word(tmp_path: Path) -> None:
    touched(tmp_path, "a.wav", "b.wav")
    path = rows(tmp_path, {"audio": "a.wav", "caption": ["The audio contains rain", "wind"]}, {"audio": "b.wav", "caption": "a bell"})
    data = read(path, remove_llm_prefixes=True, lora_trigger="TRIG", caption_prefix="loud:")
    assert [sample.captions for sample in data.samples] == [("TRIG loud: Rain", "TRIG loud: wind"), ("TRIG loud: a bell",)]
    assert data.notes == (f"{path}: a stock phrase is removed from the beginning of 1 of 3 captions",)


def test_a_text_is_divided_into_captions_only_where_a_separator_is_named(tmp_path: Path) -> None:
    touched(tmp_path, "a.wav", "b.wav", "c.wav")
    texts = ["rain\n\nwind\n  \n\na bell ", " | sun | moon|", "\n \n"]
    path = rows(tmp_path, *({"audio": f"{name}.wav", "caption": text} for name, text in zip("abc", texts, strict=True)))
    assert [sample.captions for sample in read(path).samples] == [(text,) for text in texts]
    assert [sample.captions for sample in read(path, caption_separator="blank-line").samples] == [
        ("rain", "wind", "a bell"),
        ("| sun | moon|",),
        ("",),
    ]
    assert read(path, caption_separator="|").samples[1].captions == ("sun", "moon")


@pytest.mark.parametrize(
    ("caption", "what"),
    [
        ([], 'the value of "caption" is [], not text'),
        (["rain", 3], 'the value of "caption" is 3, not text'),
        (["rain", None], 'the value of "caption" is None, not text'),
        ([["rain"]], "the value of \"caption\" is ['rain'], not text"),
        (["rain", "\ud800"], 'the value of "caption" contains an unpaired surrogate'),
    ],
)
def test_a_list_with_something_other_than_captions_is_refused(tmp_path: Path, caption: list[Any], what: str) -> None:
    touched(tmp_path, "a.wav")
    with pytest.raises(DataError) as error:
        read(rows(tmp_path, {"audio": "a.wav", "caption": caption}))
    (problem,) = error.value.problems
    assert (problem.where, problem.what[: len(what)], bool(problem.remedy)) == (f"{tmp_path}/set.jsonl:1", what, True)
