"""The template of `ltx plugins new --kind column`."""

from __future__ import annotations

from ltxcore.cli.beginning import Beginning

COLUMN = Beginning(
    does="a column of a dataset with one number for each frame of a clip, for conditions with data of their own",
    made="is one number for each frame of a clip",
    use="""\
[preprocessing.columns.$name]
column = "$name"    # what the dataset calls it, if not by this name
unit = 2.0

[training_strategy.video]
is_generated = true
latents_dir = "latents"
# A condition with a role of kind "values" reads the column. It may stand in the same module as the column: docs/plugins/data-of-its-own.md
# in the repository of ltx has both.
# conditions = [{ type = "...", ${name}_dir = "$name" }]""",
    method="encode",
    change="make the values that you want",
    module='''\
"""One number for each frame of a clip: a column of a dataset, encoded to one number for each latent frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
from ltxcore.api import hookimpl
from ltxcore.api.columns import Cell

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen
class $cls:
    """One number for each frame of a clip: a list in the dataset, or a JSON, CSV or NumPy file."""

    kind = "values"  # or "mask": one value for each latent cell
    modality = "video"
    shape = ("F",)  # F, H, W: the latent frames, rows and columns of the clip; other letters: any length
    cuts_windows = True  # the values begin with frame `cell.target.start` of the clip
    version = 1  # raise it when encode() gives other values, so that they are encoded anew

    unit: float = attrs.field(
        default=1.0,
        validator=attrs.validators.gt(0),
        metadata={"help": "the number that counts as 1"},
    )

    def encode(self, cell: Cell) -> Tensor:
        """Return the values of a cell: `cell.value` is what the dataset holds, `cell.path` the file that it names."""
        return cell.per_latent_frame(cell.numbers()) / self.unit


@hookimpl
def ltx_columns() -> dict[str, type]:
    return {"$name": $cls}
''',
    test='''\
"""Test that $name follows the protocol and gives what it should."""

import json
from pathlib import Path

import pytest
from ltxcore.api import Grid
from ltxcore.api.columns import Cell, Target
from ltxcore.testing import check_column, check_imports_lightly

from $module import $cls


def file(folder: Path, target: Target) -> Path:
    path = folder / f"{target.num_frames}.json"
    path.write_text(json.dumps(list(range(target.num_frames))), encoding="utf-8")
    return path


@pytest.mark.parametrize("unit", [1.0, 2.5])
def test_it_follows_the_protocol(tmp_path: Path, unit: float) -> None:
    check_column($cls(unit), lambda target: [0.5] * target.num_frames)
    check_column($cls(unit), lambda target: file(tmp_path, target))


def test_it_costs_other_commands_nothing() -> None:
    check_imports_lightly("$module")


def test_a_latent_frame_has_the_mean_of_its_frames() -> None:
    clip = Target("video", Grid(3, 2, 2), 24.0)  # 3 latent frames are 1 + 8 + 8 frames
    found = $cls(unit=2.0).encode(Cell(clip, [0.0] + [1.0] * 8 + [4.0] * 8))
    assert found.tolist() == [0.0, 0.5, 2.0]
''',
)
