"""The tables of what each adapter, optimizer and schedule learns: their script, and what stands in their pages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import measure_plugins
import pytest
from measure_plugins import END, KINDS, LEARNED, PAGES, Row, left_out, measured, table

from helpers.sampling import sampled
from ltxcore.registry import load

OURS: Mapping[str, list[str]] = {
    kind: [name for name, named in load(disabled=()).of_kind(kind).items() if named.origin.distribution == "ltx"] for kind in KINDS
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_page_has_a_row_for_each_of_a_kind_and_each_has_learned(kind: measure_plugins.Kind) -> None:
    text = (PAGES / kind.page).read_text().partition(kind.begin)[2].partition(END)[0]
    made, _, skipped = text.partition("Not measured: ")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in made.strip().splitlines()[2:]]
    assert [name for name in OURS[kind.name] if f"`{name}`" not in skipped] == [row[0].strip("`") for row in cells]
    assert len({row[2] for row in cells}) == 1, "all start from the same base"
    for row in cells:
        assert float(row[3]) <= LEARNED * float(row[2])


def test_a_row_says_what_the_runs_showed_and_stands_in_the_page(tmp_path: Path) -> None:
    rows = [Row("lora", "12,345", (0.7, 0.9), (0.5, 0.7)), Row("idle", "1", (0.7, 0.9), (0.5, 0.85))]
    assert [row.has_learned for row in rows] == [True, False]
    kind = KINDS["adapter"]
    made = table(kind, rows, ["`other` is not here", "`more` neither"])
    assert made == (
        "| `type` | numbers in the file | before, mean | after, mean | after, by seed |\n"
        "|---|---|---|---|---|\n"
        "| `lora` | 12,345 | 0.800 | 0.600 | 0.500 to 0.700 |\n"
        "| `idle` | 1 | 0.800 | 0.675 | 0.500 to 0.850 |\n"
        "\nNot measured: `other` is not here; `more` neither.\n"
    )
    page = tmp_path / kind.page
    page.write_text(f"Before\n{kind.begin}\nold\n{END}\nafter\n")
    measure_plugins.write(kind, made, tmp_path)
    assert page.read_text() == f"Before\n{kind.begin}\n\n{made}\n{END}\nafter\n"


def test_what_needs_a_package_that_is_missing_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "prodigyopt" else find(name, *more))
    assert list(left_out(KINDS["optimizer"], ["adamw", "prodigy"])) == [
        ("prodigy", "`prodigy` needs the package prodigyopt, which is not installed")
    ]


CHEAP = [(kind, name) for kind in ("optimizer", "schedule") for name in OURS[kind] if name not in ("adamw8bit", "muon", "prodigy")]
"""Those that learn within few steps, on any machine; adapters learn in tests/runs and tests/train."""


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), sampled(CHEAP, 2, lambda case: [case[0]]))
def test_few_steps_show_that_it_learns(kind: str, name: str, tmp_path: Path) -> None:
    row = measured(KINDS[kind], name, tmp_path, seeds=(1,), settings=["optimization.steps=30", "data.held_out=16"])
    assert row.has_learned, row
