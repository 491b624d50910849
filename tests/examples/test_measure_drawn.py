"""The tables of what it is for to draw: their script, what stands in the pages, and short runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import measure_drawn
import pytest
from measure_drawn import END, TABLES, Row, begin, doubts, measured, ran, shown

PREFIX = TABLES["prefix"]
ROWS = [Row("base model", (0.9, 0.8, 0.7)), *(Row(name, (0.6, 0.6, 0.6)) for name in list(PREFIX.trained)[:-1])]


@pytest.mark.parametrize("name", TABLES)
def test_a_page_has_a_lora_that_draws_and_is_better_than_the_base_and_than_each_other_one_where_that_was_not_trained(name: str) -> None:
    table = TABLES[name]
    lines = table.page.read_text().partition(begin(name))[2].partition(END)[0].strip().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    rows = [Row(row, tuple(map(float, losses))) for row, *losses in cells]
    assert [row.name for row in rows] == ["base model", *table.trained]
    assert shown(table, rows).splitlines() == lines
    assert doubts(table, rows) == []


def test_what_the_drawn_length_is_not_better_than_is_named() -> None:
    assert doubts(PREFIX, [*ROWS, Row("drawn", (0.5, 0.5, 0.5))]) == []
    assert doubts(PREFIX, [*ROWS, Row("drawn", (0.65, 0.8, 0.5))]) == [
        "base model at 4 given",
        "only 1 at 4 given",
        "only 4 at 1 given",
        "only 8 at 1 given",
        "only 8 at 4 given",
    ]


def test_the_table_is_written_into_its_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"Before\n{begin('prefix')}\nold\n{END}\nafter\n")
    measure_drawn.write("prefix", page, shown(PREFIX, ROWS))
    assert page.read_text() == f"Before\n{begin('prefix')}\n\n{shown(PREFIX, ROWS)}\n{END}\nafter\n"
    assert "| base model | 0.900 | 0.800 | 0.700 |" in page.read_text()


# ---------------------------------------------------------------- what is measured


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The settings of a short run: on a few clips, of which 8 are held out."""
    media = tmp_path_factory.mktemp("media")
    script = Path(measure_drawn.__file__).parent / "make_world.py"
    made = [sys.executable, script, "--split", "train", "--count", "24", "--only", "audio_masks", "--out", media]
    subprocess.run(made, check=True, capture_output=True)
    return [f"data.dataset={media / 'clips.jsonl'}", "data.held_out=8", "validation.inference_steps=2", "optimization.batch_size=8"]


@pytest.mark.slow
def test_a_drawn_prefix_learns_at_both_ends_of_its_range(tmp_path: Path, settings: list[str]) -> None:
    *_, drawn = PREFIX.trained.values()
    outcome = ran(tmp_path, "drawn", PREFIX, drawn, [*settings, "optimization.steps=40"])
    for end in ("min", "max"):
        key = f"{PREFIX.key}/audio.cond0.prefix/temporal_boundary_{end}"
        assert outcome.after[key] < 0.9 * outcome.before[key], (key, outcome.before[key], outcome.after[key])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["choices", "holes", "keyframes"])
def test_what_draws_learns_each_of_what_it_draws(tmp_path: Path, settings: list[str], name: str) -> None:
    base, drawn = measured(tmp_path, TABLES[name], settings, steps=40, fixed=False)
    for before, after in zip(base.losses, drawn.losses, strict=True):
        assert after < 0.9 * before, (base, drawn)
