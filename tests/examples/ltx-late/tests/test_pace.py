"""The column of this package and the condition that reads it keep to their protocols."""

from pathlib import Path

import pytest
from ltx_late.pace import Paced, Speed

from ltxcore.api.columns import Target
from ltxcore.testing import check_column, check_condition


def file(folder: Path, target: Target) -> Path:
    path = folder / f"{target.num_frames}.csv"
    path.write_text("speed\n" + "\n".join(str(0.5 * frame) for frame in range(target.num_frames)))
    return path


@pytest.mark.parametrize("unit", [1.0, 2.5])
def test_the_column_keeps_to_the_protocol(tmp_path: Path, unit: float) -> None:
    check_column(Speed(unit), lambda target: [0.5] * target.num_frames)
    check_column(Speed(unit), lambda target: file(tmp_path, target))


def test_the_condition_keeps_to_the_protocol() -> None:
    check_condition(Paced())
