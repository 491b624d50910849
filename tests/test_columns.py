"""Cells are read as numbers, brought to latent frames, and compared with the shape that a column or a role declares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ltxcore.columns import Cell, Target, fits, read_params, recorded_params, resolved, spelled, spelled_params, told
from ltxcore.errors import DataError
from ltxcore.state import Grid

CLIP = Target("video", Grid(3, 2, 4), 24.0)
SOUND = Target("audio", Grid(6, scale=(4, 1, 1)), 25.0)

WRITERS: dict[str, Callable[[Path], object]] = {
    "a.json": lambda path: path.write_text("[[0, 1.5], [2, 3]]"),
    "a.csv": lambda path: path.write_text("0,1.5\n2,3\n"),
    "heading.csv": lambda path: path.write_text("\ufeffx,y\n0,1.5\n2,3\n"),
    "a.npy": lambda path: np.save(path, np.array([[0, 1.5], [2, 3]])),
    "a.safetensors": lambda path: save_file({"anything": torch.tensor([[0, 1.5], [2, 3]], dtype=torch.bfloat16)}, path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_files_of_numbers_are_read_alike(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    found = Cell(CLIP, path=tmp_path / name).numbers()
    assert (found.tolist(), found.dtype) == ([[0, 1.5], [2, 3]], torch.float32)


def test_a_column_of_a_csv_file_is_a_list(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("speed\n0.5\n1\n")
    assert Cell(CLIP, path=tmp_path / "a.csv").numbers().tolist() == [0.5, 1]


@pytest.mark.parametrize(("value", "found"), [(2, 2.0), ([1, 2.5], [1, 2.5]), ([[1], [2]], [[1], [2]])])
def test_numbers_in_the_dataset_itself_are_read(value: Any, found: Any) -> None:
    assert Cell(CLIP, value).numbers().tolist() == found


@pytest.mark.parametrize("value", ["fast", [], [[]], [[1, 2], [3]], [True], {"a": 1}, [1, "2"], [None], 10**400])
def test_what_is_no_list_of_numbers_is_told(value: Any) -> None:
    with pytest.raises(DataError, match="is not a list of numbers\n    Write numbers"):
        Cell(CLIP, value).numbers()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.json", b"[1, 2", "cannot be read as numbers: JSONDecodeError"),
        ("a.csv", b"1,2\n3\n", "is not a list of numbers"),
        ("a.csv", b"1\nfast\n", "holds 'fast', which is not a number\n    Write only numbers"),
        ("a.csv", b"speed\n1;2\n", "holds '1;2', which is not a number"),
        ("a.csv", b"1,\n2,3\n", "holds '', which is not a number"),
        ("a.npy", b"\x93NUMPY", "cannot be read as numbers: ValueError"),
        ("a.safetensors", b"", "cannot be read as numbers"),
        ("a.txt", b"1", 'is a ".txt" file, which cannot be read as numbers\n    Write the numbers as .json, .csv, .npy or .safetensors.'),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        Cell(CLIP, path=tmp_path / name).numbers()
    assert str(error.value).startswith(f"{tmp_path / name}: ")
    assert told in str(error.value)


def test_a_numpy_file_of_texts_or_objects_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "texts.npy", np.array(["a", "b"]))
    with pytest.raises(DataError, match="holds <U1, not numbers"):
        Cell(CLIP, path=tmp_path / "texts.npy").numbers()


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ({"a": torch.zeros(2), "b": torch.zeros(2)}, "holds 2 tensors, not one tensor of numbers"),
        ({}, "holds 0 tensors, not one tensor of numbers"),
        ({"a": torch.zeros(2, dtype=torch.complex64)}, "holds complex64, not one tensor of numbers"),
    ],
)
def test_a_file_without_exactly_one_tensor_of_numbers_is_refused(tmp_path: Path, tensors: dict[str, torch.Tensor], told: str) -> None:
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(DataError, match=told):
        Cell(CLIP, path=tmp_path / "a.safetensors").numbers()


def test_a_latent_frame_has_the_mean_of_its_pixel_frames() -> None:
    numbers = torch.arange(20.0)  # three more than the 17 frames that are used
    assert Cell(CLIP).per_latent_frame(numbers).tolist() == [0, 4.5, 12.5]
    assert Cell(CLIP).per_latent_frame(torch.stack([numbers, -numbers], dim=1)).tolist() == [[0, 0], [4.5, -4.5], [12.5, -12.5]]
    assert Cell(Target("video", Grid(1, 2, 4), None)).per_latent_frame(torch.tensor([3.0])).tolist() == [3]
    assert Cell(SOUND).per_latent_frame(torch.arange(7.0)).tolist() == [0, 1, 2, 3, 4, 5]


def test_too_few_numbers_for_the_frames_are_told() -> None:
    with pytest.raises(DataError, match="has 16 entries, but its video has 17 frames"):
        Cell(CLIP).per_latent_frame(torch.zeros(16))
    with pytest.raises(DataError, match="has a single number, but its audio has 6 latent steps"):
        Cell(SOUND).per_latent_frame(torch.tensor(1.0))


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ((), [()]),
        (("F",), [(3,)]),
        (("F", 6), [(3, 6)]),
        (("K", "F", "H", "W"), [(1, 3, 2, 4), (5, 3, 2, 4)]),
        (("K", "K"), [(1, 1), (7, 7)]),
    ],
)
def test_a_shape_that_is_declared_is_found_again(shape: tuple[int | str, ...], found: list[tuple[int, ...]]) -> None:
    assert all(fits(each, shape, (3, 2, 4)) for each in found)
    assert resolved(shape, (3, 2, 4)) in found


@pytest.mark.parametrize(
    ("shape", "found"), [((), (1,)), (("F",), (4,)), (("F",), (3, 1)), (("F", 6), (3, 5)), (("H", "W"), (4, 2)), (("K", "K"), (2, 3))]
)
def test_another_shape_is_told_apart(shape: tuple[int | str, ...], found: tuple[int, ...]) -> None:
    assert not fits(found, shape, (3, 2, 4))


def test_letters_are_written_as_the_target_tells_them() -> None:
    assert (spelled(("K", "F", 6)), spelled(told(("K", "F", 6), (3, 2, 4)))) == ("[K, F, 6]", "[K, 3, 6]")
    assert told(("F", "H"), (6,)) == (6, 1), "audio has one row"


def test_parameters_of_columns_are_read_as_they_were_written() -> None:
    params = {"speed": {"unit": 2.0, "names": ["a"]}, "plain": {}}
    assert read_params(spelled_params(params)) == {"speed": {"unit": 2.0, "names": ["a"]}}
    assert (spelled_params({"plain": {}}), read_params("")) == ("", {})
    records = [spelled_params(params), spelled_params(params), '{"speed": {"unit": 3.0}}', "another program's", '{"speed": 2}', "[1]", ""]
    assert list(recorded_params(records)) == [("speed", {"unit": 2.0, "names": ["a"]}), ("speed", {"unit": 3.0})]
