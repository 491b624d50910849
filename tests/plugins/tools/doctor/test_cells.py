"""Cells that a column cannot encode are found before anything is encoded."""

from __future__ import annotations

import json
from pathlib import Path

from helpers.columns_made import options
from helpers.raw_media import clip_file, dataset_file
from ltxplugins.tools.doctor.dataset import Request, examine_dataset
from ltxplugins.tools.doctor.findings import Checkup


def found(folder: Path, *speeds: object) -> list[tuple[str, str, str]]:
    for index in range(len(speeds)):
        clip_file(folder / f"{index}.mp4", sound=False, seed=index)
    rows = [{"video": f"{index}.mp4", "caption": f"car {index}", "speed": speed} for index, speed in enumerate(speeds)]
    checkup = Checkup()
    request = Request(options(), None, folder / "encoded")
    examine_dataset(dataset_file(folder / "set.jsonl", rows), request, checkup, lambda name, steps: lambda: None)
    return [(each.check, each.where.removeprefix(f"{folder}/"), each.what) for each in checkup.findings]


def test_each_cell_is_tried(tmp_path: Path) -> None:
    (tmp_path / "short.json").write_text(json.dumps([1, 2]))
    assert found(tmp_path, [1.0] * 17, "short.json", ["fast"] * 17) == [
        ("cell", f'set.jsonl:2: {tmp_path}/short.json, column "speed"', "has 2 entries, but its video has 17 frames"),
        ("cell", 'set.jsonl:3, column "speed"', "holds " + repr(["fast"] * 17)[:57] + "..., which is not a list of numbers"),
    ]
    assert not (tmp_path / "encoded").exists()


def test_good_cells_are_passed(tmp_path: Path) -> None:
    (tmp_path / "ramp.csv").write_text("\n".join(map(str, range(17))))
    assert found(tmp_path, [1.0] * 17, "ramp.csv") == []
