"""Files of a folder that go with others: references, masks and sounds, by the end of their names or by their folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.dataset.raw_dataset import open_dataset
from ltxcore.dataset.rows import Dataset, read_dataset, survey_dataset
from ltxcore.errors import DataError
from ltxplugins.sources.folder import Folder

ALL = frozenset({"conditions", "latents", "audio_latents"})


def touched(folder: Path, names: str) -> Path:
    """Empty media with these names, and texts."""
    for name in names.split():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a caption" if name.endswith(".txt") else "")
    return folder


def read(folder: Path, folders: frozenset[str] | None = None, **keys: Any) -> Dataset:
    return read_dataset(folder, PreprocessingTable(source="folder", reader=Folder(**keys)), folders)


def media(folder: Path, folders: frozenset[str] | None = None, **keys: Any) -> dict[str, dict[str, str]]:
    data = read(folder, folders, **keys)
    return {each.name: {role: path.relative_to(folder).as_posix() for role, path in each.media.items()} for each in data.samples}


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("a.mp4 a.txt a_mask.png", {"video": "a.mp4", "video_mask": "a_mask.png"}),
        ("a.mp4 a.txt a_reference.mp4", {"video": "a.mp4", "reference_video": "a_reference.mp4"}),
        ("a.mp4 a.txt a_ref.mov a_mask.mov", {"video": "a.mp4", "reference_video": "a_ref.mov", "video_mask": "a_mask.mov"}),
        ("a.mp4 a.txt a_control.png", {"video": "a.mp4", "reference_video": "a_control.png"}),
        ("a.mp4 a.txt a.wav", {"video": "a.mp4", "audio": "a.wav"}),
        ("a.mp4 a.txt a_audio.flac", {"video": "a.mp4", "audio": "a_audio.flac"}),
        ("a.mp4 a.txt a_audio_mask.wav", {"video": "a.mp4", "audio_mask": "a_audio_mask.wav"}),
        ("a.mp4 a.txt masks/a.png", {"video": "a.mp4", "video_mask": "masks/a.png"}),
        ("clips/a.mp4 clips/a.txt masks/a.png", {"video": "clips/a.mp4", "video_mask": "masks/a.png"}),
        ("clips/x/a.mp4 clips/x/a.txt masks/x/a.png", {"video": "clips/x/a.mp4", "video_mask": "masks/x/a.png"}),
        ("x/clips/a.mp4 x/clips/a.txt x/references/a.mp4", {"video": "x/clips/a.mp4", "reference_video": "x/references/a.mp4"}),
        ("clips/a.mp4 clips/a.txt audio/a.wav", {"video": "clips/a.mp4", "audio": "audio/a.wav"}),
        ("a.wav a.txt a_mask.wav", {"audio": "a.wav", "audio_mask": "a_mask.wav"}),
        ("a.wav a.txt references/a.wav", {"audio": "a.wav", "reference_audio": "references/a.wav"}),
    ],
)
def test_a_file_goes_with_the_one_whose_name_it_has(tmp_path: Path, names: str, found: dict[str, str]) -> None:
    assert list(media(touched(tmp_path, names)).values()) == [found]


@pytest.mark.parametrize(
    ("names", "samples"),
    [
        ("a.mp4 a.txt a_mask.png a_mask.txt", ["a", "a_mask"]),
        ("a.mp4 a.txt masks/a.png masks/a.txt", ["a", "masks/a"]),
        ("audio/a.wav audio/a.txt clips/b.mp4 clips/b.txt", ["audio/a", "clips/b"]),
    ],
)
def test_a_file_with_a_caption_or_with_nobody_to_go_with_is_a_sample_of_its_own(tmp_path: Path, names: str, samples: list[str]) -> None:
    assert list(media(touched(tmp_path, names))) == samples


def test_what_two_could_be_meant_by_is_not_guessed(tmp_path: Path) -> None:
    touched(tmp_path, "one/a.mp4 one/a.txt two/a.mp4 two/a.txt masks/a.png")
    with pytest.raises(DataError, match=r"has 1 file without a caption: masks/a\.png"):
        read(tmp_path)


def test_names_of_folders_from_captions_leave_pairs_to_the_user(tmp_path: Path) -> None:
    touched(tmp_path, "a.mp4 a_mask.png")
    assert list(media(tmp_path, caption_from="folder")) == ["a", "a_mask"]
    assert media(tmp_path, caption_from="folder", video_mask="_mask") == {"a": {"video": "a.mp4", "video_mask": "a_mask.png"}}


def test_ends_and_folders_that_the_user_names_are_taken_whatever_captions_there_are(tmp_path: Path) -> None:
    touched(tmp_path, "clips/a.mp4 clips/a.txt depth/a.mp4 depth/a.txt clips/a_m.png")
    found = media(tmp_path, reference_video="depth/", video_mask="_m")
    assert found == {"clips/a": {"video": "clips/a.mp4", "reference_video": "depth/a.mp4", "video_mask": "clips/a_m.png"}}


def test_a_file_that_goes_with_nothing_though_the_user_said_so_is_refused(tmp_path: Path) -> None:
    touched(tmp_path, "a.mp4 a.txt a_depth.mp4 b_depth.mp4 b_depth.txt")
    with pytest.raises(DataError) as error:
        read(tmp_path, reference_video="_depth")
    assert str(error.value) == (
        f"{tmp_path}/b_depth.mp4: is named as the reference video of a medium, but belongs to none\n    Give the file the name of a medium, or remove the file."
    )


def test_two_files_for_one_role_are_refused(tmp_path: Path) -> None:
    touched(tmp_path, "a.mp4 a.txt a_mask.png masks/a.png")
    with pytest.raises(DataError) as error:
        read(tmp_path)
    assert str(error.value) == f"{tmp_path}/a.mp4: has two files for its video mask, a_mask.png and masks/a.png\n    Keep one of the files."


def test_what_goes_with_a_file_that_goes_with_another_is_refused(tmp_path: Path) -> None:
    touched(tmp_path, "a.mp4 a.txt masks/a.png control/masks/a.png")
    with pytest.raises(DataError, match=r"control/masks/a\.png: belongs to masks/a\.png, which itself belongs to another file"):
        read(tmp_path)


def test_what_some_lack_is_told_where_it_is_read_and_can_be_left_out(tmp_path: Path) -> None:
    touched(tmp_path, "a.mp4 a.txt a_mask.png b.mp4 b.txt c.wav c.txt")
    masks = ALL | {"video_masks"}
    with pytest.raises(DataError) as error:
        read(tmp_path, masks)
    assert str(error.value) == (
        f"{tmp_path}/b.mp4: has no video mask, which other samples have\n"
        '    Name files for it: clip_mask.png or masks/clip.png goes with clip.mp4. Or leave such files out with on_error = "skip".'
    )
    data, problems = survey_dataset(tmp_path, PreprocessingTable(on_error="skip"), masks)
    assert ([each.name for each in data.samples], problems) == (["a", "c"], ())
    remedy = "Name files for it: clip_mask.png or masks/clip.png goes with clip.mp4."
    assert [(problem.where, problem.remedy) for problem in data.left_out] == [(f"{tmp_path}/b.mp4", remedy)]
    assert sorted(media(tmp_path, ALL)) == ["a", "b", "c"], "a run without masks has no use for them"


def test_what_only_some_have_is_not_used_where_no_run_asks_for_it_and_that_is_said(tmp_path: Path) -> None:
    data = read(touched(tmp_path, "a.mp4 a.txt a_mask.png b.mp4 b.txt c.wav c.txt"))
    assert ([each.name for each in data.samples], data.folders) == (["a", "b", "c"], ALL)
    assert data.notes == (
        f"{tmp_path}: files that go with another by their names: 1 video mask",
        f"{tmp_path}: 1 medium has no video mask (b.mp4), so those of others are not used",
    )


def test_only_the_sound_that_a_run_reads_is_opened(tmp_path: Path) -> None:
    touched(tmp_path, "a.mp4 a.txt a.wav")
    assert media(tmp_path, frozenset({"latents", "conditions"})) == {"a": {"video": "a.mp4"}}
    assert media(tmp_path, frozenset({"audio_latents", "conditions"})) == {"a": {"video": "a.mp4", "audio": "a.wav"}}
    assert media(tmp_path, frozenset({"conditions"})) == {"a": {}}


def test_what_goes_with_others_is_counted(tmp_path: Path) -> None:
    touched(tmp_path, "a.mp4 a.txt a_mask.png b.mp4 b.txt b_mask.png b.wav notes.pdf")
    assert read(tmp_path).notes == (
        f"{tmp_path}: files that go with another by their names: 2 video masks, 1 sound",
        f"{tmp_path}: left out: 1 file of an unknown kind (.pdf: notes.pdf)",
    )


def test_rows_that_are_written_elsewhere_keep_what_goes_with_them(tmp_path: Path) -> None:
    listed = open_dataset(touched(tmp_path / "set", "a.mp4 a.txt a_mask.png a.wav b.wav"))
    assert [listed.role(row) for row in listed.rows] == ["video", "audio"]
    clips, notes = listed.without_sounds()
    assert notes == ("1 sound has no row in the output, since its rows are clips and pictures",)
    assert [clips.moved(row, tmp_path) for row in clips.rows] == [
        {"video": "set/a.mp4", "audio": "set/a.wav", "video_mask": "set/a_mask.png", "caption": "a caption"}
    ]
