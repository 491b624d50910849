"""Cells of columns are encoded by their plugins, stored beside the latents, and made again where anything about them changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from safetensors.torch import load_file

from helpers.columns_made import Box, Depth, Speed, options, registry_with
from helpers.raw_media import clip_file, dataset_file
from ltxcore.codecs.source import Codecs
from ltxcore.encode.ledger import Summary
from ltxcore.encode.preprocess import preprocess
from ltxcore.encoded.manifest import read_source
from ltxcore.errors import DataError, PluginError

TINY = Codecs("tiny", device="cpu")
RAMP = list(range(17))


def set_of(folder: Path, *cells: dict[str, Any]) -> Path:
    rows = []
    for index, each in enumerate(cells):
        if not (folder / f"{index}.mp4").exists():
            clip_file(folder / f"{index}.mp4", sound=False, seed=index)
        rows.append({"video": f"{index}.mp4", "caption": "a car", **each})
    return dataset_file(folder / "set.jsonl", rows)


def encode(dataset: Path, **more: Any) -> Summary:
    folders = ["conditions", "latents", *more.pop("also", ())] if "also" in more else None
    return preprocess(dataset, None, options(**more), TINY, folders=folders, progress=False)


def made(summary: Summary) -> dict[str, tuple[int, int]]:
    return {folder: (counts.done, counts.reused) for folder, counts in summary.folders.items()}


def test_numbers_of_frames_become_values_of_latent_frames(tmp_path: Path) -> None:
    (tmp_path / "ramp.json").write_text(json.dumps(RAMP))
    summary = encode(set_of(tmp_path, {"speed": "ramp.json"}, {"speed": [2] * 20}), encoders={"speed": Speed(2.0)})
    found = [load_file(summary.root / f"speed/{name}.safetensors") for name in ("0", "1")]
    assert [each["values"].tolist() for each in found] == [[0, 2.25, 6.25], [1, 1, 1]]
    entry = read_source(summary.root, "speed")["0"]
    assert (entry.kind, entry.modality, entry.shape, entry.origin) == ("values", "", (3,), "0.mp4")


def test_a_cell_that_changes_is_encoded_anew_and_nothing_else(tmp_path: Path) -> None:
    path = set_of(tmp_path, {"speed": RAMP}, {"speed": "a.json"})
    (tmp_path / "a.json").write_text(json.dumps(RAMP))
    assert made(encode(path))["speed"] == (2, 0)
    assert made(encode(path)) == {"conditions": (0, 2), "latents": (0, 2), "speed": (0, 2)}
    (tmp_path / "a.json").write_text(json.dumps([0.5, *RAMP[1:]]))
    assert made(encode(path)) == {"conditions": (0, 2), "latents": (0, 2), "speed": (1, 1)}
    assert made(encode(set_of(tmp_path, {"speed": [9, *RAMP[1:]]}, {"speed": "a.json"})))["speed"] == (1, 1)


def test_parameters_and_a_version_of_the_column_are_part_of_what_is_encoded(tmp_path: Path) -> None:
    path = set_of(tmp_path, {"speed": RAMP})
    encode(path)
    assert made(encode(path, encoders={"speed": Speed(1.0)}))["speed"] == (0, 1), "the default, written out"
    assert made(encode(path, encoders={"speed": Speed(4.0)}))["speed"] == (1, 0)
    newer = attrs.frozen(type("Newer", (Speed,), {"version": 2}))
    assert made(encode(path, encoders={"speed": newer(4.0)}))["speed"] == (1, 0)


def test_parameters_are_recorded_with_each_sample(tmp_path: Path) -> None:
    summary = encode(set_of(tmp_path, {"speed": RAMP, "region": [0, 0, 1, 1]}), encoders={"speed": Speed(4.0)})
    recorded = '{"speed": {"unit": 4.0}}'
    assert read_source(summary.root, "speed")["0"].column == recorded
    assert [read_source(summary.root, folder)["0"].column for folder in ("latents", "conditions", "boxes")] == ["", "", ""]
    for path in (summary.root / "speed").glob("manifest*.jsonl"):
        path.unlink()
    assert read_source(summary.root, "speed")["0"].column == recorded, "the file says so too"


def test_samples_without_that_record_are_still_up_to_date(tmp_path: Path) -> None:
    path = set_of(tmp_path, {"speed": RAMP})
    summary = encode(path, encoders={"speed": Speed(4.0)})
    (manifest,) = (summary.root / "speed").glob("manifest*.jsonl")
    line = json.loads(manifest.read_text())
    del line["column"]
    manifest.write_text(json.dumps(line) + "\n")
    assert read_source(summary.root, "speed")["0"].column == ""
    assert made(encode(path, encoders={"speed": Speed(4.0)}))["speed"] == (0, 1)


def test_a_mask_may_come_of_numbers(tmp_path: Path) -> None:
    summary = encode(set_of(tmp_path, {"region": [0, 0.5, 1, 1]}))
    mask = load_file(summary.root / "boxes/0.safetensors")["mask"]
    assert mask.tolist() == [[[0, 1], [0, 1]]] * 3
    assert read_source(summary.root, "boxes")["0"].modality == "video"


def test_a_second_reference_is_encoded_as_the_first_is(tmp_path: Path) -> None:
    clip_file(tmp_path / "other.mp4", sound=False, seed=7)
    summary = encode(set_of(tmp_path, {"depth": "other.mp4", "reference_video": "other.mp4"}))
    depth, reference = (load_file(summary.root / folder / "0.safetensors") for folder in ("depth_latents", "reference_latents"))
    assert torch.equal(depth["latents"], reference["latents"])
    first, second = (read_source(summary.root, folder)["0"] for folder in ("depth_latents", "reference_latents"))
    assert (first.encoder, first.rate) == (second.encoder, second.rate)
    short = clip_file(tmp_path / "short.mp4", sound=False, frames=9)
    with pytest.raises(DataError, match=f"{short}: has 9 frames, but its clip has 17 in the bucket 64x64x17"):
        encode(set_of(tmp_path, {"depth": "short.mp4"}))


def test_cells_that_cannot_be_used_are_all_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[1, 2]")
    path = set_of(tmp_path, {"speed": "a.json"}, {"speed": ["fast"]}, {"speed": [float("nan")] * 17}, {"speed": [[1, 2]] * 17})
    with pytest.raises(DataError) as error:
        encode(path)
    told = [problem.what.removeprefix(f"{problem.where}: ") for problem in error.value.problems]
    assert [problem.where.removeprefix(f"{tmp_path}/") for problem in error.value.problems] == [
        f'set.jsonl:1: {tmp_path}/a.json, column "speed"',
        'set.jsonl:2, column "speed"',
        'set.jsonl:3, column "speed"',
        "set.jsonl:4",
    ]
    assert told == [
        "has 2 entries, but its video has 17 frames",
        "holds ['fast'], which is not a list of numbers",
        "the encoded values are not finite",
        'has values of shape [3, 2], but the column "speed" takes [F], which is [3] for its video',
    ]
    assert encode(path, on_error="skip", also=["speed"]).samples == ()


@pytest.mark.parametrize(
    ("encode_", "told"),
    [
        (lambda self, cell: [1.0], r"gives list from encode\(\), not a floating-point tensor"),
        (lambda self, cell: torch.ones(3, dtype=torch.int64), r"gives int64 from encode\(\), not a floating-point tensor"),
    ],
)
def test_a_column_that_breaks_its_protocol_is_named(tmp_path: Path, encode_: Any, told: str) -> None:
    wrong = attrs.frozen(type("Wrong", (Speed,), {"encode": encode_}))
    with pytest.raises(PluginError, match=f'the column "speed" {told}'):
        encode(set_of(tmp_path, {"speed": RAMP}), encoders={"speed": wrong()})


def test_a_mistake_in_a_column_keeps_its_traceback_and_says_where(tmp_path: Path) -> None:
    def fails(self: Any, cell: Any) -> torch.Tensor:
        raise KeyError("speed")

    wrong = attrs.frozen(type("Wrong", (Speed,), {"encode": fails}))
    with pytest.raises(KeyError) as error:
        encode(set_of(tmp_path, {"speed": RAMP}), encoders={"speed": wrong()})
    assert error.value.__notes__[0] == f'This is a mistake in the column "speed", which encoded {tmp_path / "set.jsonl"}:1.'


def test_without_the_plugin_the_column_is_not_used_and_that_is_said(tmp_path: Path) -> None:
    path = set_of(tmp_path, {"speed": RAMP, "region": [0, 0, 1, 0.5]})
    summary = preprocess(path, None, attrs.evolve(options(), registry=registry_with(box=Box, depth=Depth)), TINY, progress=False)
    assert "speed" not in summary.folders
    assert f'{path}: this column is not used: "speed"' in summary.notes
