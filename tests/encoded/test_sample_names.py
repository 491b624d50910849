"""Sample names never lead out of the data root; files are found by name."""

import os
from pathlib import Path

import pytest

from helpers.encoded_sets import message
from ltxcore.encoded.sample_names import files_in, find_sample, looks_shortened, sample_path, stored_name
from ltxcore.errors import DataError
from ltxcore.files import write_whole


def test_a_sample_lies_under_its_root_and_folder_by_its_name(tmp_path: Path) -> None:
    assert sample_path(tmp_path, "latents", "clips/a.b") == tmp_path / "latents" / "clips" / "a.b.safetensors"


@pytest.mark.parametrize("name", ["../a", "a/../../b", "/etc/passwd", "", "a//b", "./a", "a/.", "a/", "a\0b"])
def test_a_name_that_may_climb_out_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError) as caught:
        sample_path(tmp_path, "latents", name)
    assert (
        message(caught.value, tmp_path)
        == f'the sample name "{name}" could lead out of the data root\n    Use a relative path without ".." or empty parts, with "/" between its parts.'
    )


@pytest.mark.parametrize("folder", ["../latents", "/latents", "", "a/.."])
def test_a_folder_that_may_climb_out_is_refused(tmp_path: Path, folder: str) -> None:
    with pytest.raises(DataError) as caught:
        sample_path(tmp_path, folder, "a")
    assert (
        message(caught.value, tmp_path)
        == f'the folder name "{folder}" could lead out of the data root\n    Use a relative path without ".." or empty parts, with "/" between its parts.'
    )


def test_names_with_dots_and_spaces_are_ordinary(tmp_path: Path) -> None:
    for name in ("..a", "a..b", "a b", "12:30:00", "ä/ö", ".hidden"):
        assert sample_path(tmp_path, "latents", name).is_relative_to(tmp_path / "latents")


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def test_a_folder_lists_samples_alone_sorted_and_with_their_sizes(tmp_path: Path) -> None:
    _touch(
        tmp_path,
        "b.safetensors",
        "sub/a.pt",
        "manifest-0.jsonl",
        ".index.jsonl",
        ".b.1-2.unfinished.safetensors",
        "x.pt.tmp.12",
        "._b.safetensors",
        "x.txt",
    )
    found = files_in(tmp_path)
    assert list(found) == ["b", "sub/a"]
    assert found["b"].path == tmp_path / "b.safetensors"
    assert found["b"].bytes == len("b.safetensors")


def test_of_two_files_of_one_sample_ours_counts(tmp_path: Path) -> None:
    _touch(tmp_path / "latents", "a.pt", "a.safetensors")
    assert files_in(tmp_path / "latents")["a"].path.name == "a.safetensors"
    assert find_sample(tmp_path, "latents", "a").name == "a.safetensors"


def test_a_sample_of_ltx_trainer_is_found_by_the_same_name(tmp_path: Path) -> None:
    _touch(tmp_path / "latents", "sub/a.b.pt")
    assert find_sample(tmp_path, "latents", "sub/a.b") == tmp_path / "latents" / "sub" / "a.b.pt"
    assert list(files_in(tmp_path / "latents")) == ["sub/a.b"]


def test_the_text_of_an_early_set_is_found_by_the_name_of_its_latents(tmp_path: Path) -> None:
    _touch(tmp_path / "conditions", "condition_7.pt", "sub/condition_8.pt")
    assert find_sample(tmp_path, "conditions", "latent_7").name == "condition_7.pt"
    assert find_sample(tmp_path, "conditions", "sub/latent_8") == tmp_path / "conditions" / "sub" / "condition_8.pt"


def test_a_sample_that_is_not_there_is_looked_for_where_ours_would_be(tmp_path: Path) -> None:
    assert find_sample(tmp_path, "latents", "a") == tmp_path / "latents" / "a.safetensors"


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    _touch(tmp_path / "disk", "a.safetensors")
    (tmp_path / "latents").mkdir()
    (tmp_path / "latents" / "more").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "back").symlink_to(tmp_path / "latents")
    assert list(files_in(tmp_path / "latents")) == ["more/a"]


# ---- names that are too long for a file


LONG = {
    "letters": "x" * 251,
    "letters of three bytes": "猫" * 83,
    "letters of four bytes": "🐈" * 62 + "xyz",
    "bytes that are no text": os.fsdecode(b"\xff" * 250),
    "a folder too": f"{'y' * 255}/{'x' * 255}",
}


@pytest.mark.parametrize("case", LONG)
def test_a_name_of_any_length_has_a_file_that_can_be_written_and_is_found_again(tmp_path: Path, case: str) -> None:
    name = LONG[case]
    write_whole(sample_path(tmp_path, "latents", name), b"a sample")
    assert find_sample(tmp_path, "latents", name).read_bytes() == b"a sample"
    (stored,) = files_in(tmp_path / "latents")
    assert stored == stored_name(name) != name
    assert looks_shortened(stored)


@pytest.mark.parametrize("letter", ["x", "é", "猫", "🐈"])
def test_a_name_is_shortened_where_its_file_would_not_fit_and_not_before(letter: str) -> None:
    size = len(letter.encode())
    fits = letter * ((255 - len(".safetensors")) // size)
    assert stored_name(fits) == fits
    assert not looks_shortened(fits)
    shortened = stored_name(fits + letter)
    assert shortened.startswith(letter * 40)
    assert len(f"{shortened}.safetensors".encode()) <= 255
    assert stored_name(shortened) == shortened  # a file whose whole name is lost goes by this one


def test_names_that_differ_in_their_last_letter_alone_have_files_of_their_own() -> None:
    names = [f"{'x' * 250}{number}" for number in range(100)]
    assert len({stored_name(name) for name in names}) == 100


def test_a_name_whose_file_fits_is_that_of_its_file_as_ever(tmp_path: Path) -> None:
    for name in ("a", "clips/a", "x" * 243, f"{'~' + 'a' * 32}", f"{'y' * 255}/a"):
        assert sample_path(tmp_path, "latents", name) == tmp_path / "latents" / f"{name}.safetensors"


def test_a_sample_of_ltx_trainer_with_a_long_name_is_found_by_it(tmp_path: Path) -> None:
    name = "x" * 252
    _touch(tmp_path / "latents", f"{name}.pt")
    assert find_sample(tmp_path, "latents", name) == tmp_path / "latents" / f"{name}.pt"
    assert list(files_in(tmp_path / "latents")) == [name]


def test_a_name_with_characters_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'a\\ud800' contains characters that no file name can contain"):
        sample_path(tmp_path, "latents", "a\ud800")
