"""A folder as a dataset: what is a row of it, what is left out and counted, what is a mistake."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from helpers.raw_media import message
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.dataset.media_folder import is_media_folder, stem_of
from ltxcore.dataset.rows import Dataset, read_dataset
from ltxcore.dataset.sources import read_rows
from ltxcore.errors import DataError


def touched(folder: Path, *names: str, text: str | bytes = "a caption\n") -> Path:
    """Empty media with these names, and texts with this text."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        is_text = name.lower().endswith(".txt")
        path.write_bytes((text if isinstance(text, bytes) else text.encode()) if is_text else b"")
    return folder


def read(folder: Path, **options: Any) -> Dataset:
    return read_dataset(folder, PreprocessingTable(**options))


def names(folder: Path, **options: Any) -> list[str]:
    return [row.file for row in read_rows(folder, PreprocessingTable(**options)).rows]


def test_clips_pictures_and_sounds_are_rows_whose_captions_lie_beside_them(tmp_path: Path) -> None:
    clips = touched(tmp_path / "clips", "b.mp4", "b.txt", "beach/a.MOV", "beach/a.TXT", "c.jpeg", "c.txt", "d.wav", "d.txt")
    data = read(clips)
    assert [(each.name, each.origin, each.caption, dict(each.media)) for each in data.samples] == [
        ("b", "b.mp4", "a caption", {"video": clips / "b.mp4"}),
        ("beach/a", "beach/a.MOV", "a caption", {"video": clips / "beach/a.MOV"}),
        ("c", "c.jpeg", "a caption", {"video": clips / "c.jpeg"}),
        ("d", "d.wav", "a caption", {"audio": clips / "d.wav"}),
    ]
    assert (data.folders, data.notes, data.left_out) == ({"conditions", "latents", "audio_latents"}, (), ())
    assert data.samples[1].at(clips / "beach/a.MOV") == data.samples[1].where == f"{clips}/beach/a.MOV"


def test_order_is_by_name_bytewise(tmp_path: Path) -> None:
    touched(tmp_path, "ä.mp4", "b.mp4", "B.mp4", "a/z.mp4", "a-1.mp4", "a.mp4", "10.mp4", "9.mp4", "z.mp4")
    assert names(tmp_path) == ["10.mp4", "9.mp4", "B.mp4", "a-1.mp4", "a.mp4", "a/z.mp4", "b.mp4", "z.mp4", "ä.mp4"]


def test_what_is_left_out_is_counted_and_named(tmp_path: Path) -> None:
    folder = touched(tmp_path / "clips", "a.mp4", "a.txt", "lonely.txt", "notes.pdf", "IMG_1.AAE", "IMG_2.AAE", "README")
    touched(folder, ".DS_Store", "._a.mp4", ".hidden/b.mp4", "Thumbs.db", "desktop.ini")
    touched(folder, "out/run.json", "out/samples/drawn.mp4", "set/raw_files-0.jsonl", "set/x.mp4", "more/latents/manifest-0.jsonl")
    touched(folder, "more/latents/beach/a.safetensors", "more/latents/x.mp4", "references/canny/made.jsonl", "references/canny/a.mp4")
    data = read(folder)
    assert [sample.origin for sample in data.samples] == ["a.mp4"]
    assert data.notes == (
        f"{folder}: left out: 5 hidden or system files, 4 folders of encoded samples or of a run (more/latents, out, references/canny, set), "
        "1 text file without media (lonely.txt), 4 files of an unknown kind (.aae: IMG_1.AAE, IMG_2.AAE; .pdf: notes.pdf; no extension: README)",
    )


def test_a_manifest_of_another_kind_beside_clips_leaves_none_out(tmp_path: Path) -> None:
    assert names(touched(tmp_path, "sub/a.mp4", "sub/manifest.jsonl", "made.jsonl", "b.mp4")) == ["b.mp4", "sub/a.mp4"]


@pytest.mark.parametrize(
    ("written", "what"),
    [
        (("run.json", "samples/a.mp4"), "is the output folder of a run, not a dataset"),
        (("raw_files-0.jsonl", "decoded/a.mp4"), "is a set of encoded samples, not a folder of media"),
        (("latents/a.safetensors", "b.mp4"), "is a set of encoded samples, not a folder of media"),
        (("conditions/a.pt", "latents/a.pt"), "is a set of encoded samples, not a folder of media"),
        (("notes.txt", "x.pdf"), "contains no clips, images or sounds"),
    ],
)
def test_a_folder_that_is_no_dataset_is_refused_by_what_it_is(tmp_path: Path, written: tuple[str, ...], what: str) -> None:
    with pytest.raises(DataError) as error:
        read(touched(tmp_path, *written))
    assert (error.value.problems[0].what, error.value.problems[0].where) == (what, str(tmp_path))
    assert not is_media_folder(tmp_path)


def test_an_empty_folder_says_what_was_left_out_of_it(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        read(touched(tmp_path, ".a.mp4", "x.pdf"))
    assert message(error) == (
        f"{tmp_path}: contains no clips, images or sounds\n"
        "    Put clips, images or sounds there, or name a dataset file (.jsonl, .csv, .tsv, .json, .parquet). "
        "Left out: 1 hidden or system file, 1 file of an unknown kind (.pdf: x.pdf)."
    )


def test_media_of_one_name_are_a_mistake_that_names_them(tmp_path: Path) -> None:
    touched(
        tmp_path, "IMG_1.HEIC", "IMG_1.MOV", "IMG_1.txt", "a.mp4", "a.mov", "a.txt", "d.png", "d.wav", "d.txt", "x/IMG_1.mov", "x/IMG_1.txt"
    )
    with pytest.raises(DataError) as error:
        read(tmp_path)
    both = "would be the same sample, because file extensions are ignored"
    assert message(error) == (
        f"{tmp_path}/IMG_1.HEIC and {tmp_path}/IMG_1.MOV: {both}\n"
        '    Rename one of the files; or, for Live Photos and the like, choose one kind: prefer = "video" or prefer = "image" in [preprocessing].\n'
        f"{tmp_path}/a.mov and {tmp_path}/a.mp4: {both}\n    Rename all but one of the files.\n"
        f"{tmp_path}/d.png and {tmp_path}/d.wav: {both}\n    Rename all but one of the files."
    )


@pytest.mark.parametrize(("prefer", "taken", "other"), [("video", "IMG_1.MOV", "IMG_1.HEIC"), ("image", "IMG_1.HEIC", "IMG_1.MOV")])
def test_of_a_live_photo_the_preferred_kind_is_taken_and_the_other_counted(tmp_path: Path, prefer: str, taken: str, other: str) -> None:
    touched(tmp_path, "IMG_1.HEIC", "IMG_1.MOV", "IMG_1.txt", "b.jpg", "b.txt")
    data = read(tmp_path, prefer=prefer)
    assert [sample.origin for sample in data.samples] == [taken, "b.jpg"]
    assert data.notes == (f"{tmp_path}: left out: 1 file beside one of the same name that is preferred ({other})",)


def test_two_clips_of_one_name_stay_a_mistake_whatever_is_preferred(tmp_path: Path) -> None:
    touched(tmp_path, "a.mp4", "a.mov", "a.jpg", "a.txt", "s.wav", "s.png", "s.txt")
    with pytest.raises(DataError) as error:
        read(tmp_path, prefer="video")
    assert [problem.where.count(" and ") for problem in error.value.problems] == [2, 1]


def test_captions_are_utf8_with_or_without_a_mark_and_without_space_around(tmp_path: Path) -> None:
    for name, text in {"a": b"\xef\xbb\xbfa caf\xc3\xa9\r\n", "b": b"  two\r\nlines \n", "c": "日本".encode()}.items():
        touched(tmp_path, f"{name}.mp4")
        (tmp_path / f"{name}.txt").write_bytes(text)
    assert [sample.caption for sample in read(tmp_path).samples] == ["a café", "two\nlines", "日本"]


@pytest.mark.parametrize(
    ("text", "place"), [(b"caf\xe9", "byte 3"), ("wind".encode("utf-16"), "byte 0"), ("wind".encode("utf-16-le"), "byte 1 is zero")]
)
def test_a_caption_in_another_encoding_is_refused_with_its_name_or_left_out(tmp_path: Path, text: bytes, place: str) -> None:
    touched(tmp_path, "a.mp4", "a.txt", text=text)
    touched(tmp_path, "b.mp4", "b.txt")
    with pytest.raises(DataError) as error:
        read(tmp_path)
    assert message(error) == f"{tmp_path}/a.txt: is not UTF-8 text ({place})\n    Save the file as UTF-8."
    data = read(tmp_path, on_error="skip")
    assert [sample.name for sample in data.samples] == ["b"]
    assert [problem.where for problem in data.left_out] == [f"{tmp_path}/a.txt"]


def test_all_missing_and_empty_captions_are_listed_at_once_with_the_remedies(tmp_path: Path) -> None:
    touched(tmp_path, *(f"{number}.mp4" for number in range(9)), "e.mp4", "e.txt", "ok.mp4", "metadata.csv", text=" \n")
    (tmp_path / "ok.txt").write_text("fine")
    with pytest.raises(DataError) as error:
        read(tmp_path)
    missing = ", ".join(f"{number}.mp4" for number in range(9))
    assert message(error) == (
        f"{tmp_path}: has 9 files without a caption: {missing}; 1 file with an empty one: e.mp4\n"
        '    Write them with `ltx caption`; or set caption_from = "folder", which uses the name of the folder that a file is in; '
        'or leave such files out with on_error = "skip". If metadata.csv has the captions, name that file as the dataset.'
    )
    data = read(tmp_path, on_error="skip")
    assert [sample.name for sample in data.samples] == ["ok"]
    assert [(problem.where, problem.what) for problem in data.left_out[-2:]] == [
        (f"{tmp_path}/8.mp4", "has no caption"),
        (f"{tmp_path}/e.mp4", "the caption is empty"),
    ]


def test_a_folder_names_what_has_no_caption_of_its_own(tmp_path: Path) -> None:
    clips = touched(tmp_path / "my clips", "a.mp4", "10_red car/b.mp4", "10_red car/c.mp4", "10_red car/c.txt", "7_/d.mp4")
    data = read(clips, caption_from="folder")
    assert {sample.name: sample.caption for sample in data.samples} == {
        "10_red car/b": "red car",
        "10_red car/c": "a caption",
        "7_/d": "7_",
        "a": "my clips",
    }


def test_a_run_that_reads_no_captions_needs_none(tmp_path: Path) -> None:
    data = read_dataset(touched(tmp_path, "a.mp4"), PreprocessingTable(), {"latents"})
    assert [sample.name for sample in data.samples] == ["a"]


def test_two_captions_of_one_medium_are_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        read(touched(tmp_path, "a.mp4", "a.txt", "a.TXT"))
    assert message(error) == f"{tmp_path}/a.mp4: has two captions, a.TXT and a.txt\n    Keep one of the captions."


def test_links_that_lead_out_are_refused_by_name_and_those_within_do_no_harm(tmp_path: Path) -> None:
    touched(tmp_path, "elsewhere/o.mp4")
    folder = touched(tmp_path / "clips", "a.mp4", "a.txt", "sub/b.mp4", "sub/b.txt")
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "sub/up").symlink_to("..", target_is_directory=True)
    (folder / "again.mp4").symlink_to("a.mp4")
    touched(folder, "again.txt")
    data = read(folder)
    assert [sample.name for sample in data.samples] == ["a", "again", "sub/b"]
    assert data.notes == (f"{folder}: left out: 2 links to folders that are read anyway",)
    (folder / "out.mp4").symlink_to(tmp_path / "elsewhere/o.mp4")
    (folder / "way").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (folder / "gone.mp4").symlink_to("nowhere.mp4")
    (folder / "self.mp4").symlink_to("self.mp4")
    (folder / "a-link.pdf").symlink_to(tmp_path / "elsewhere/o.mp4")
    with pytest.raises(DataError) as error:
        read(folder)
    leads = "Copy the file or folder that it points to into this folder, or list it in a dataset file."
    assert [(problem.where, problem.what, problem.remedy) for problem in error.value.problems] == [
        (f"{folder}/gone.mp4", "is a link whose target is missing", "Remove this entry, or replace it with the file itself."),
        (f"{folder}/out.mp4", f"is a link that points outside the folder, to {tmp_path}/elsewhere/o.mp4", leads),
        (
            f"{folder}/self.mp4",
            "cannot be read: Too many levels of symbolic links",
            "Remove this entry, or replace it with the file itself.",
        ),
        (f"{folder}/way", f"is a link that points outside the folder, to {tmp_path}/elsewhere", leads),
    ]
    skipped = read(folder, on_error="skip")
    assert (len(skipped.samples), len(skipped.left_out)) == (3, 4)


def test_a_folder_that_is_itself_reached_by_a_link_is_read(tmp_path: Path) -> None:
    touched(tmp_path / "real", "a.mp4", "a.txt")
    (tmp_path / "clips").symlink_to("real", target_is_directory=True)
    assert [sample.where for sample in read(tmp_path / "clips").samples] == [f"{tmp_path}/clips/a.mp4"]


def test_pipes_are_refused(tmp_path: Path) -> None:
    touched(tmp_path, "a.mp4", "a.txt")
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(DataError) as error:
        read(tmp_path)
    assert message(error) == f"{tmp_path}/pipe.mp4: is a pipe, not a file\n    Remove this entry, or replace it with the file itself."


def test_names_that_are_no_text_are_taken_too(tmp_path: Path) -> None:
    names = [os.fsdecode(name) for name in (b"caf\xe9.mp4", b"caf\xe9.txt", b"\xff/b.mp4", b"\xff/b.txt")]
    touched(tmp_path, *names)
    assert [sample.origin for sample in read(tmp_path).samples] == [names[0], names[2]]


def test_folders_that_are_nested_without_end_are_refused_in_words(tmp_path: Path) -> None:
    before = os.open(tmp_path, os.O_RDONLY)
    place = before
    for _ in range(1100):
        os.mkdir("d", dir_fd=place)
        inner = os.open("d", os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = inner
    os.close(place)
    touched(tmp_path, "a.mp4", "a.txt")
    try:
        with pytest.raises(DataError) as error:
            read(tmp_path)
    finally:
        subprocess.run(["rm", "-r", str(tmp_path / "d")], check=True)  # what removes the tests' folders recurses too
    assert error.value.problems[0].what == "has folders that are nested too deeply"


def test_odd_names_are_taken_as_they_are(tmp_path: Path) -> None:
    odd = [" spaces .mp4", "back\\slash.mp4", "line\nbreak.mp4", "one.two.mp4", "ünï🎬.mp4", "-dash.mp4", "100%d.mp4"]
    touched(tmp_path, *odd, *(f"{name.removesuffix('.mp4')}.txt" for name in odd))
    data = read(tmp_path)
    assert {sample.origin for sample in data.samples} == set(odd)
    assert all(sample.media["video"].is_file() for sample in data.samples)


def test_what_a_folder_cannot_hold_is_refused_with_the_way_to_do_it(tmp_path: Path) -> None:
    touched(tmp_path, "a.wav", "a.txt")
    with pytest.raises(DataError) as error:
        read_dataset(tmp_path, PreprocessingTable(), {"latents", "audio_masks", "conditions"})
    assert message(error) == (
        f'{tmp_path}: the run reads the folder "audio_masks", but this dataset has no audio mask\n'
        "    Name files for it: clip_audio_mask.wav or audio_masks/clip.wav goes with clip.mp4.\n"
        f'{tmp_path}: the run reads the folder "latents", but this dataset has no clip and no image\n    Add media of this kind to the dataset.'
    )


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touched(tmp_path, "a.mp4", "a.txt", "locked/b.mp4")
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)  # the tests may run as a user who may read all
    with pytest.raises(DataError) as error:
        read(tmp_path)
    assert message(error) == f"{tmp_path}/locked: this folder cannot be read: Permission denied\n    Check the permissions of the folder."


@pytest.mark.parametrize("name", ["a.mp4", "b/a.tar.gz", "b.c/a", "b/.hidden", "b/..a", "a.", "b/a .x y", "é.mp4", "b/a..mp4"])
def test_the_name_of_a_sample_is_its_path_without_the_ending_as_pathlib_has_it(name: str) -> None:
    assert stem_of(name) == PurePosixPath(name).with_suffix("").as_posix()


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        ('{"caption": " a red car ", "text": "no"}', "a red car"),
        ('{"text": "a red car"}', "a red car"),
        ('{"fps": 24, "prompt": "a red car"}', "a red car"),
        ('{"description": "a red car"}', "a red car"),
        ('\ufeff"a red car"', "a red car"),
    ],
)
def test_a_caption_may_be_in_a_json_file_of_the_same_name(tmp_path: Path, text: str, caption: str) -> None:
    touched(tmp_path, "a.mp4")
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    data = read(tmp_path)
    assert ([sample.caption for sample in data.samples], data.notes) == ([caption], ())


def test_a_text_file_goes_before_a_json_file_and_names_of_folders_do_too_where_they_are_asked_for(tmp_path: Path) -> None:
    touched(tmp_path / "10_cars", "a.mp4", "a.txt", "b.mp4")
    for name in ("a.json", "b.json", "c.json"):
        (tmp_path / "10_cars" / name).write_text('{"caption": "from JSON"}')
    assert [sample.caption for sample in read(tmp_path).samples] == ["a caption", "from JSON"]
    assert read(tmp_path).notes == (f"{tmp_path}: left out: 2 files of an unknown kind (.json: 10_cars/a.json, 10_cars/c.json)",)
    assert [sample.caption for sample in read(tmp_path, caption_from="folder").samples] == ["a caption", "cars"]


def test_a_json_file_may_hold_a_list_of_captions(tmp_path: Path) -> None:
    touched(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    (tmp_path / "a.json").write_text('{"caption": [" rain ", "wind"]}')
    (tmp_path / "b.json").write_text('["sun", "moon"]')
    (tmp_path / "c.json").write_text("[3]")  # something else, which another program keeps beside the clip
    (tmp_path / "c.txt").write_text("a bell")
    assert [sample.captions for sample in read(tmp_path).samples] == [("rain", "wind"), ("sun", "moon"), ("a bell",)]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "is not JSON: "),
        ("[" * 100_000, "is not JSON: "),
        ('{"caption": 3}', 'the value of "caption" is not text'),
        ('{"caption": null}', 'the value of "caption" is not text'),
        ('{"caption": ["a cat", ""]}', 'the value of "caption" is not a list of captions'),
        (b"\xff", "is not UTF-8 text (byte 0)"),
    ],
)
def test_a_json_file_that_holds_no_caption_though_it_says_so_is_told(tmp_path: Path, text: str | bytes, what: str) -> None:
    touched(tmp_path, "a.mp4", "b.mp4", "b.txt")
    (tmp_path / "a.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError) as error:
        read(tmp_path)
    (problem,) = error.value.problems
    assert (problem.where, problem.what[: len(what)], bool(problem.remedy)) == (f"{tmp_path}/a.json", what, True)
    data = read(tmp_path, on_error="skip")
    assert ([sample.name for sample in data.samples], [each.where for each in data.left_out]) == (["b"], [f"{tmp_path}/a.json"])


@pytest.mark.parametrize("text", ['{"fps": 24}', "[1, 2]", "3"])
def test_a_json_file_about_something_else_is_no_caption(tmp_path: Path, text: str) -> None:
    touched(tmp_path, "a.mp4")
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=r"has 1 file without a caption: a\.mp4"):
        read(tmp_path)
