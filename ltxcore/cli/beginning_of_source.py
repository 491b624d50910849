"""The template of `ltx plugins new --kind source`."""

from __future__ import annotations

from ltxcore.cli.beginning import Beginning

SOURCE = Beginning(
    does="each line of a text file names a clip and its caption",
    made="reads text files with a clip and its caption in each line",
    use="""\
[data]
dataset = "clips.$name"    # the ending picks the source

[preprocessing]
source = "$name"           # only needed for its keys, or for a file with another ending
source_params = { between = "|" }""",
    method="read",
    change="read what you have",
    module='''\
"""Each line of a text file names a clip and its caption."""

from __future__ import annotations

from pathlib import Path

import attrs
from ltxcore.api import DataError, Problem, hookimpl
from ltxcore.api.sources import Row, Table, read_text


@attrs.frozen
class $cls:
    """Each line of a text file names a clip and its caption."""

    endings = (".$name",)  # this class reads files with this ending; for folders, write recognizes(path)

    between: str = attrs.field(
        default="|",
        validator=attrs.validators.min_len(1),
        metadata={"help": "what stands between the clip and its caption"},
    )

    def read(self, path: Path) -> Table:
        """Return a row for each line; paths are relative to the file's folder."""
        text = read_text(path, strip=False)
        if isinstance(text, Problem):
            raise DataError.of([text])
        rows, problems = [], []
        for number, line in enumerate(text.split("\\n"), start=1):
            clip, between, caption = line.partition(self.between)
            if between:
                rows.append(Row(number, {"video": clip.strip(), "caption": caption.strip()}))
            elif line.strip():
                what, remedy = f'has no "{self.between}"', "Write it between the clip and its caption."
                problems.append(Problem(what, str(number), remedy))
        return Table(path, tuple(rows), tuple(problems))


@hookimpl
def ltx_sources() -> dict[str, type]:
    return {"$name": $cls}
''',
    test='''\
"""Test that $name follows the protocol and reads what it should."""

from pathlib import Path

import pytest
from ltxcore.testing import check_imports_lightly, check_source

from $module import $cls


def listing(folder: Path, between: str) -> Path:
    path = folder / "clips.$name"
    path.write_text(f"\\na.mp4 {between} a red car\\n\\nb.mp4 {between} a blue car\\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("between", ["|", ": "])
def test_it_follows_the_protocol(tmp_path: Path, between: str) -> None:
    check_source($cls(between), listing(tmp_path, between))


def test_it_costs_other_commands_nothing() -> None:
    check_imports_lightly("$module")


def test_rows_know_their_line_and_lines_that_are_wrong_are_told(tmp_path: Path) -> None:
    path = listing(tmp_path, "|")
    path.write_text(f"{path.read_text(encoding='utf-8')}c.mp4\\n", encoding="utf-8")
    table = $cls().read(path)
    assert [(row.line, row.values["video"]) for row in table.rows] == [(2, "a.mp4"), (4, "b.mp4")]
    assert [(problem.where, problem.what) for problem in table.problems] == [("5", \'has no "|"\')]
''',
)
