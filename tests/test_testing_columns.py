"""The conformance kit says of every wrong column what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch

from helpers.columns_made import Box, Depth, Paced, Speed
from ltxcore.api import Grid, Role
from ltxcore.api.columns import Target
from ltxcore.errors import DataError
from ltxcore.testing import check_column, check_condition
from ltxplugins.columns import ltx_columns


def numbers(target: Target) -> list[float]:
    return [0.5] * target.num_frames


def spoiled(cls: Any = Speed, **members: Any) -> Any:
    return attrs.frozen(type("Spoiled", (cls,), members))


def file(folder: Path, target: Target) -> Path:
    path = folder / f"{target.num_frames}.json"
    path.write_text(json.dumps(numbers(target)))
    return path


@pytest.mark.parametrize("name", ltx_columns())
def test_ours_keep_to_the_protocol(name: str) -> None:
    check_column(ltx_columns()[name])


def test_right_ones_are_passed(tmp_path: Path) -> None:
    check_column(Speed, numbers, unit=2.0)
    check_column(Speed(), lambda target: file(tmp_path, target))
    check_column(spoiled(cuts_windows=True), numbers)
    check_column(spoiled(cuts_windows=True), lambda target: [float(frame) for frame in range(target.num_frames)])
    check_column(Box(), lambda target: [0, 0, 1, 0.5], grids=[Grid(3, 4, 6)])
    check_column(Depth())
    check_condition(Paced())


def test_a_condition_whose_column_does_not_exist_or_has_another_shape_is_told_so() -> None:
    def reading(column: str, *shape: str | int) -> Any:
        return spoiled(Paced, roles=(Role("speed", source_key="speed_dir", kind="values", shape=shape, column=column),))

    check_condition(spoiled(Paced))
    with pytest.raises(
        AssertionError, match=r'- has a role "speed" with the column "sped", but there is no such column\. Did you mean "speed"'
    ):
        check_condition(reading("sped", "F"))
    with pytest.raises(
        AssertionError, match=r"- has a role .* for values \[F, 3\] of video, but its column .* encoded to values \[F\] of video"
    ):
        check_condition(reading("speed", "F", 3))


def draws(self: Any, cell: Any) -> torch.Tensor:
    return Speed.encode(self, cell) * torch.rand(())


def changes_the_cell(self: Any, cell: Any) -> torch.Tensor:
    cell.value.append(1.0) if isinstance(cell.value, list) else None
    return Speed.encode(self, cell)


def writes(self: Any, cell: Any) -> torch.Tensor:
    if cell.path is not None and cell.path.exists():
        cell.path.with_suffix(".seen").write_text("seen")
    return Speed.encode(self, cell)


def from_the_beginning(self: Any, cell: Any) -> torch.Tensor:
    return Speed.encode(self, attrs.evolve(cell, target=attrs.evolve(cell.target, start=0)))


def of_whole_clips_alone(self: Any, cell: Any) -> torch.Tensor:
    if len(cell.value) != cell.target.num_frames:
        raise DataError("is not as long as its clip")
    return Speed.encode(self, cell)


CASES: dict[str, tuple[Any, Callable[[Path], Any], str]] = {
    "no kind": (spoiled(kind="numbers"), lambda _: numbers, 'has kind \'numbers\'; it must be "latents", "mask" or "values"'),
    "no modality": (spoiled(modality="text"), lambda _: numbers, "has modality 'text'; it must be"),
    "no encode": (spoiled(Depth, kind="values"), lambda _: numbers, "has no method encode(), which makes the values"),
    "latents by itself": (spoiled(kind="latents"), lambda _: numbers, "has a method encode(), but latents are encoded by the VAE"),
    "no shape": (spoiled(shape=None), lambda _: numbers, "has shape None; it must be a tuple of lengths and capital letters"),
    "a shape of words": (spoiled(shape=("frames",)), lambda _: numbers, "has shape ('frames',); it must be a tuple"),
    "a folder elsewhere": (spoiled(folder="../x"), lambda _: numbers, "has folder '../x'; it must be the name of a folder"),
    "names of numbers": (spoiled(names=(1,)), lambda _: numbers, "has names (1,); they must be a tuple of names of columns"),
    "half a version": (spoiled(version=1.5), lambda _: numbers, "has version 1.5; it must be a whole number of at least 1"),
    "no cell": (spoiled(), lambda _: None, "has a method encode(), but no cell to try it on"),
    "another shape": (
        spoiled(shape=("F", 2)),
        lambda _: numbers,
        'refuses a good cell: has values of shape [1], but the column "Spoiled" takes [F, 2], which is [1, 2] for its video',
    ),
    "a global draw": (spoiled(encode=draws), lambda _: numbers, "draws from a global random number generator"),
    "the cell changed": (spoiled(encode=changes_the_cell), lambda _: numbers, "changes the cell in place"),
    "a file written": (spoiled(encode=writes), lambda folder: lambda target: file(folder, target), "writes where the dataset is"),
    "no good cell": (spoiled(), lambda _: lambda target: [1.0], "refuses a good cell: has 1 entry, but its video has 17 frames"),
    "not finite": (
        spoiled(),
        lambda _: lambda target: [float("nan")] * target.num_frames,
        "refuses a good cell: the encoded values are not finite",
    ),
    "cells of other targets": (
        spoiled(encode=lambda self, cell: cell.numbers().reshape(cell.target.grid.frames)),
        lambda _: lambda target: [1.0] * target.grid.frames,
        "for the cell of another target: raises RuntimeError: shape '[1]' is invalid for input of size 3; refuse it with a DataError",
    ),
    "windows all alike": (
        spoiled(encode=from_the_beginning, cuts_windows=True),
        lambda _: lambda target: [float(frame) for frame in range(target.num_frames)],
        "declares cuts_windows, but values for a window that begins with frame 8 are those of the beginning of the clip; use target.start",
    ),
    "windows refused": (
        spoiled(encode=of_whole_clips_alone, cuts_windows=True),
        lambda _: numbers,
        "declares cuts_windows, but for a window that begins with frame 8, it refuses a good cell: is not as long as its clip",
    ),
    "nonsense taken": (
        spoiled(encode=lambda self, cell: torch.tensor([float(each) for each in cell.value])),
        lambda _: lambda target: [1.0] * target.grid.frames,
        "for the cell 'none': raises ValueError: could not convert string to float: 'n'; refuse it with a DataError",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_one_is_told_what_is_wrong(tmp_path: Path, name: str) -> None:
    cls, cell, told = CASES[name]
    with pytest.raises(AssertionError) as error:
        check_column(cls(), cell(tmp_path))
    assert told in str(error.value)


def test_a_field_without_a_default_or_with_the_key_of_the_core_is_told() -> None:
    @attrs.frozen
    class Needs(Depth):
        """A column with a field that it needs."""

        size: int

    @attrs.frozen
    class Taken(Depth):
        """A column with a field that all columns have."""

        column: str = "a"

    with pytest.raises(AssertionError, match='has a field "size" without a default'):
        check_column(Needs(2))
    with pytest.raises(AssertionError, match='has a field "column", which is a key that all columns have'):
        check_column(Taken())


@pytest.mark.parametrize(
    ("role", "told"),
    [
        (Role("speed", source_key="speed_dir", kind="values"), 'has a role "speed" of shape None; it must be a tuple of lengths'),
        (
            Role("mask", source_key="mask_dir", kind="mask", shape=("F",)),
            'has a role "mask" of kind \'mask\' with a shape or a column, which only "values" have',
        ),
    ],
)
def test_roles_say_the_shape_of_values_and_of_nothing_else(role: Role, told: str) -> None:
    with pytest.raises(AssertionError) as error:
        check_condition(spoiled(Paced, roles=(role,))())
    assert told in str(error.value)


def test_a_condition_that_changes_its_values_is_told() -> None:
    def apply(self: Any, state: Any, inputs: Any) -> Any:
        inputs.values("speed").mul_(2)
        return Paced.apply(self, state, inputs)

    with pytest.raises(AssertionError, match=r'changes inputs.values\("speed"\) in place'):
        check_condition(spoiled(Paced, apply=apply)())
