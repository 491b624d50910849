"""Texts of captions: divided, and with other beginnings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.raw_media import dataset_file
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.dataset.captions import divided, preceded_by, without_opening
from ltxcore.dataset.rows import read_dataset
from ltxcore.errors import DataError


def test_a_separator_is_no_pattern_and_leaves_nothing_empty() -> None:
    assert divided(["a.*b .* c", ".*"], ".*") == ["a", "b", "c"]
    assert divided(["one\r\n\r\ntwo", "three\n\t\nfour\nfive"], "blank-line") == ["one", "two", "three", "four\nfive"]


@pytest.mark.parametrize(("trigger", "expected"), [(" TRIG ", "TRIG a dog"), ("", "a dog"), (None, "a dog"), ("  ", "a dog")])
def test_the_trigger_word_comes_before_every_caption(trigger: str | None, expected: str) -> None:
    assert preceded_by("a dog", trigger) == expected


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("The video shows a dog.", "A dog."),
        ("the clip depicts two boats at sea", "Two boats at sea"),
        ("This footage captures: rain", "Rain"),
        ("A video showing a red disc", "A red disc"),
        ("The scene opens with a door that creaks", "A door that creaks"),
        ("In this video, we see a man on a bench", "A man on a bench"),
        ("In the scene there are five birds", "Five birds"),
        ("Throughout the recording, a bell rings", "A bell rings"),
        ("We can see the moon", "The moon"),
        ("Sure, here's a short description of the video: The video features an old mill.", "An old mill."),
        ("Here is the caption: a cat", "A cat"),
        ("  The image displays snow  ", "Snow"),
        ("The video shows\nwaves", "Waves"),
    ],
)
def test_how_a_model_begins_a_caption_is_left_out(caption: str, expected: str) -> None:
    assert without_opening(caption) == expected


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "  a dog, as it was written ",
        "The video game shows its score",
        "In the video store a man reads",
        "Sure-footed goats climb",
        "The videotape shows its age",
        "A dog, and the video shows it",
        "The sound of rain",
        "The video shows ",
        "We seek shelter",
    ],
)
def test_other_captions_stay_to_the_letter(caption: str) -> None:
    assert without_opening(caption) == caption


def captions(folder: Path, *values: dict[str, Any], **options: Any) -> list[tuple[str, ...]]:
    for number, value in enumerate(values):
        (folder / f"{number}.wav").touch()
        value["audio"] = f"{number}.wav"
    data = read_dataset(dataset_file(folder / "set.jsonl", values), PreprocessingTable(**options))
    assert data.notes == ()
    return [sample.captions for sample in data.samples]


def test_the_texts_of_columns_are_joined_and_empty_ones_left_out(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"picture": " a door ", "sound": "it creaks"},
        {"picture": "a dog", "sound": " "},
        {"sound": "rain", "picture": None},
        {"picture": "", "sound": ""},
    ]
    assert captions(tmp_path, *rows[:3], caption_parts="picture;[SOUND] {sound}!", lora_trigger="T") == [
        ("T a door [SOUND] it creaks!",),
        ("T a dog",),
        ("T [SOUND] rain!",),
    ]
    assert captions(tmp_path, rows[3], caption_parts="sound; picture") == [("",)]
    assert captions(tmp_path, {"caption": "a cat", "more": "meow"}, caption_parts="more;caption") == [("meow a cat",)]


def test_a_caption_in_whose_place_others_are_joined_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    path = dataset_file(tmp_path / "set.jsonl", [{"audio": "a.wav", "picture": "a door", "caption": "old"}])
    data = read_dataset(path, PreprocessingTable(caption_parts="picture"))
    assert data.samples[0].captions == ("a door",)
    assert data.notes == (f'{path}: the column "caption" is not used, because caption_parts does not name it',)


def test_several_texts_of_columns_are_joined_one_by_one(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"picture": ["a door", "a gate"], "sound": "creaks"}, {"picture": ["a", "b"], "sound": ["c", "d"]}]
    wanted = [("a door creaks", "a gate creaks"), ("a c", "b d")]
    assert captions(tmp_path, *rows, caption_parts="picture;sound") == wanted
    divided_rows: list[dict[str, Any]] = [{"picture": "a door|a gate", "sound": "creaks"}, {"picture": "a|b", "sound": "c|d"}]
    assert captions(tmp_path, *divided_rows, caption_parts="picture;sound", caption_separator="|") == wanted


@pytest.mark.parametrize(
    ("row", "parts", "place", "what"),
    [
        ({"picture": "a"}, "picture;sond", "set.jsonl", 'has no column "sond", which caption_parts names'),
        ({"picture": "a", "sound": 3}, "picture;sound", "set.jsonl:1", 'the value of "sound" is 3, not text'),
        (
            {"picture": ["a", "b", "c"], "sound": ["d", "e"]},
            "sound;picture",
            "set.jsonl:1",
            'the numbers of captions differ: "picture" has 3, "sound" has 2',
        ),
    ],
)
def test_columns_that_cannot_be_joined_are_refused(tmp_path: Path, row: dict[str, Any], parts: str, place: str, what: str) -> None:
    with pytest.raises(DataError) as error:
        captions(tmp_path, row, caption_parts=parts)
    (problem,) = error.value.problems
    assert (problem.where, problem.what, bool(problem.remedy)) == (f"{tmp_path}/{place}", what, True)


def test_rows_that_cannot_be_read_are_told_and_not_that_they_lack_the_columns_to_join(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    path.write_text('{"audio": "a.wav", "picture": "a"\n')
    with pytest.raises(DataError) as error:
        read_dataset(path, PreprocessingTable(caption_parts="picture"))
    assert [problem.where for problem in error.value.problems] == [f"{path}:1"]
    path.write_text(path.read_text() + '{"audio": "a.wav", "sound": "a"}\n')
    with pytest.raises(DataError) as error:
        read_dataset(path, PreprocessingTable(caption_parts="picture"))
    assert [problem.where for problem in error.value.problems] == [f"{path}:1", str(path)]


@pytest.mark.parametrize("parts", ["", " ; ", "{}", "{a} {b}", "a {b", "{a}}", "{ }"])
def test_parts_that_name_no_column_are_refused(parts: str) -> None:
    ((path, what, remedy),) = PreprocessingTable(caption_parts=parts).problems()
    assert path == ("caption_parts",)
    assert what.endswith("does not name exactly one column")
    assert remedy
