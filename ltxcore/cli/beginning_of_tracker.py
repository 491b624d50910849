"""The template of `ltx plugins new` for trackers: one that works, and its tests."""

from __future__ import annotations

from ltxcore.cli.beginning import Beginning

TRACKER = Beginning(
    does="the metrics of a run are written to a table in its output folder",
    made="writes metrics to a table",
    use="""\
[trackers.$name]
every = 10""",
    method="log",
    change="send the metrics where you want them",
    module='''\
"""A table of a run's metrics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
from ltxcore.api import hookimpl


@attrs.define
class $cls:
    """Write `$name.csv` in the output folder, with a line for each metric of a step."""

    every: int = attrs.field(
        default=1,
        validator=attrs.validators.ge(1),
        metadata={"help": "number of steps from one that is written to the next", "unit": "steps"},
    )

    _file: Path = attrs.field(default=Path(), init=False, repr=False)

    def start(self, output_dir: Path, run: Mapping[str, Any], total_steps: int, first_step: int) -> None:
        """Begin the table, or go on after `first_step`: later steps of an earlier process are repeated."""
        self._file = output_dir / "$name.csv"
        lines = self._file.read_text(encoding="utf-8").splitlines()[1:] if first_step and self._file.exists() else []
        kept = [line for line in lines if int(line.partition(",")[0]) <= first_step]
        self._file.write_text("\\n".join(["step,metric,value", *kept]) + "\\n", encoding="utf-8")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics of a step."""
        if step % self.every == 0:
            with self._file.open("a", encoding="utf-8") as file:
                file.writelines(f"{step},{name},{value}\\n" for name, value in metrics.items())

    def sample(self, step: int, name: str, path: Path) -> None:
        """Receive a generated sample, which a table has no place for."""

    def finish(self) -> None:
        """End the run; the table is complete after each step."""


@hookimpl
def ltx_trackers() -> dict[str, type]:
    return {"$name": $cls}
''',
    test='''\
"""Test that $name writes what it should."""

from pathlib import Path

import pytest
from ltxcore.testing import check_imports_lightly

from $module import $cls


@pytest.mark.parametrize("every", [1, 2])
def test_it_writes_the_steps_that_it_should(tmp_path: Path, every: int) -> None:
    tracker = $cls(every)
    tracker.start(tmp_path, {}, total_steps=4, first_step=0)
    for step in range(1, 5):
        tracker.log(step, {"loss": 1 / step})
    tracker.finish()
    lines = (tmp_path / "$name.csv").read_text(encoding="utf-8").splitlines()
    assert lines == ["step,metric,value", *(f"{step},loss,{1 / step}" for step in range(every, 5, every))]


def test_it_costs_other_commands_nothing() -> None:
    check_imports_lightly("$module")


def test_steps_that_are_repeated_are_written_once(tmp_path: Path) -> None:
    for first, steps in ((0, (1, 2, 3)), (2, (3, 4))):
        tracker = $cls()
        tracker.start(tmp_path, {}, total_steps=4, first_step=first)
        for step in steps:
            tracker.log(step, {"loss": 0.5})
        tracker.finish()
    lines = (tmp_path / "$name.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert [line.partition(",")[0] for line in lines] == ["1", "2", "3", "4"]
''',
)
