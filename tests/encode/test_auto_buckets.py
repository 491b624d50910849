"""Buckets that are chosen for the clips: within the budget, told with what they crop, and the same from then on, whatever is added."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from helpers.raw_media import clip_file, encode
from helpers.training_runs import write_run
from ltxcore.cli.main import main
from ltxcore.config.load import load_run
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.encode.auto_buckets import RECORD, chosen_buckets, cropping, record
from ltxcore.encode.buckets import Bucket, choose
from ltxcore.encoded.manifest import read_source
from ltxcore.errors import DataError
from ltxcore.planner.largest_batch import glance_at_datasets, shapes_of
from ltxcore.runs.checks import check_run
from ltxcore.runs.run_plan import draft

SCALE = GRID = (8, 32, 32)


def choice(size: Bucket, buckets: tuple[Bucket, ...]) -> Bucket | None:
    return choose(buckets, size.width, size.height, size.frames, size.frames == 1)


def drawn(draw: random.Random, count: int) -> list[Bucket]:
    return [
        Bucket(draw.randint(64, 2000), draw.randint(64, 2000), draw.choice([1, draw.randint(2, 300)]))
        for _ in range(draw.randint(1, count))
    ]


@pytest.mark.parametrize("tokens", [20, 600, 4_000, 16_384])
@pytest.mark.parametrize("grid", [GRID, (16, 64, 64)], ids=str)
def test_clips_keep_their_buckets_whatever_is_added_and_buckets_keep_to_the_budget_and_the_grid(
    tokens: int, grid: tuple[int, int, int], tmp_path: Path
) -> None:
    draw = random.Random(tokens + grid[0])
    for number in range(5):
        root, sizes, before = tmp_path / str(number), list[Bucket](), dict[Bucket, Bucket | None]()
        for _ in range(4):
            sizes += drawn(draw, 8)
            chosen = chosen_buckets(root, sizes, SCALE, grid, tokens)
            assert all(choice(size, chosen.buckets) == bucket for size, bucket in before.items())
            assert record(root, chosen, grid, tokens)
            assert not record(root, chosen, grid, tokens), "all of it is recorded"
            again = chosen_buckets(root, sizes[::-1], SCALE, grid, tokens)
            assert (again.buckets, again.added) == (chosen.buckets, ())
            before = {size: choice(size, chosen.buckets) for size in sizes}
        frames, rows, columns = grid
        for bucket in again.buckets:
            assert bucket.cells(SCALE)[0] * bucket.cells(SCALE)[1] * bucket.cells(SCALE)[2] <= tokens
            assert (bucket.frames % frames, bucket.height % rows, bucket.width % columns) == (1, 0, 0)
        first = json.loads((root / RECORD).read_text())["auto"]
        assert len(first) == 1, "there is one record for a budget and a grid"


def test_other_budgets_have_buckets_of_their_own(tmp_path: Path) -> None:
    sizes = [Bucket(1920, 1080, 121)]
    (large,), (small,) = (chosen_buckets(tmp_path, sizes, SCALE, GRID, tokens).buckets for tokens in (16_384, 4_000))
    assert (str(large), str(small)) == ("1344x768x121", "640x352x121")
    for tokens in (16_384, 4_000):
        record(tmp_path, chosen_buckets(tmp_path, sizes, SCALE, GRID, tokens), GRID, tokens)
    assert [chosen_buckets(tmp_path, [Bucket(640, 360, 20)], SCALE, GRID, tokens).buckets[0] for tokens in (16_384, 4_000)] == [
        large,
        small,
    ]


def test_buckets_that_another_process_recorded_meanwhile_are_not_replaced(tmp_path: Path) -> None:
    one, other = ([Bucket(1920, 1080, 121)], [Bucket(640, 960, 49)])
    chosen, late = (chosen_buckets(tmp_path, sizes, SCALE, GRID, 4_000) for sizes in (one, other))
    record(tmp_path, chosen, GRID, 4_000)
    before = (tmp_path / RECORD).read_bytes()
    with pytest.raises(DataError, match="another process has recorded other buckets since"):
        record(tmp_path, late, GRID, 4_000)
    assert (tmp_path / RECORD).read_bytes() == before
    assert record(tmp_path, chosen_buckets(tmp_path, other, SCALE, GRID, 4_000), GRID, 4_000)


def test_what_is_cropped_is_told_for_each_size_and_the_most_first() -> None:
    sizes = [Bucket(1920, 1080, 49), Bucket(1920, 1080, 60), Bucket(1000, 1000, 49), Bucket(960, 544, 1), Bucket(10, 10, 3)]
    told = list(cropping(sizes, (Bucket(960, 544, 49), Bucket(960, 544, 1)), is_cut=True))
    assert told == [
        "10x10 to 960x544x1: 1 clip, cropping takes 43.3 % of the picture, and the last 2 frames are not used",
        "1000x1000 to 960x544x49: 1 clip, cropping takes 43.3 % of the picture",
        "1920x1080 to 960x544x49: 2 clips, cropping takes 0.7 % of the picture, and the last 0 to 11 frames are not used",
        "960x544 to 960x544x1: 1 image, cropping takes 0.0 % of the picture",
    ]
    assert not any("last" in line for line in cropping(sizes, (Bucket(960, 544, 49),), is_cut=False))
    many = [Bucket(64 + number, 64, 9) for number in range(20)]
    assert list(cropping(many, (Bucket(64, 64, 9),), is_cut=True))[-1] == "8 other sizes: cropping takes at most 9.9 % of the picture"


def shapes(root: Path) -> dict[str, tuple[int, ...]]:
    return {name: entry.shape[1:] for name, entry in read_source(root, "latents").items()}


def put(folder: Path, name: str, **options: Any) -> None:
    clip_file(folder / "clips" / f"{name}.mp4", sound=False, **options)
    (folder / "clips" / f"{name}.txt").write_text(name)


AUTO: Mapping[str, Any] = {"resolution_buckets": "auto:32", "skip_audio": True}


def test_what_is_encoded_stays_when_clips_of_other_shapes_and_lengths_are_added(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="ltx")
    clips, root = tmp_path / "clips", tmp_path / "clips.precomputed"
    put(tmp_path, "wide", width=130, height=64, frames=20)
    put(tmp_path, "wider", width=256, height=128, frames=17)
    encode(clips, **AUTO)
    assert shapes(root) == {"wide": (3, 2, 4), "wider": (3, 2, 4)}
    assert caplog.messages == [
        f'{clips}: resolution_buckets = "auto" means "128x64x17"\n'
        "130x64 to 128x64x17: 1 clip, cropping takes 1.5 % of the picture, and the last 3 frames are not used\n"
        "256x128 to 128x64x17: 1 clip, cropping takes 0.0 % of the picture"
    ]
    caplog.clear()
    again = encode(clips, **AUTO)
    assert (again.done, caplog.messages) == (0, [])
    assert again.notes == (f'{clips}: resolution_buckets = "auto" means "128x64x17", as recorded in {root / RECORD}',)
    put(tmp_path, "tall", width=64, height=96, frames=33)
    put(tmp_path, "short", width=140, height=70, frames=10)
    put(tmp_path, "alike", width=200, height=96, frames=90)
    more = encode(clips, **AUTO)
    assert {folder: (counts.done, counts.reused) for folder, counts in more.folders.items()} == {"conditions": (3, 2), "latents": (3, 2)}
    assert shapes(root) == {"wide": (3, 2, 4), "wider": (3, 2, 4), "tall": (5, 3, 2), "short": (2, 2, 4), "alike": (3, 2, 4)}
    assert "of which 128x64x9, 64x96x33 are for clips of new sizes" in caplog.messages[0]
    (clips / "wide.mp4").unlink()
    assert encode(clips, **AUTO).done == 0, "the buckets do not depend on clips that are gone"
    (root / RECORD).unlink()
    assert encode(clips, **AUTO).done > 0, "without the record they are chosen anew"


def test_windows_are_as_long_as_the_buckets_that_are_chosen(tmp_path: Path) -> None:
    put(tmp_path, "short", frames=9)
    put(tmp_path, "long", frames=33)
    put(tmp_path, "longest", frames=49)
    encode(tmp_path / "clips", **AUTO, windows="stride:16")
    assert encode(tmp_path / "clips", **AUTO, windows="stride:16").done == 0
    assert {name: shape[0] for name, shape in shapes(tmp_path / "clips.precomputed").items()} == {
        "short": 2,
        "long": 5,
        "longest": 5,
        "longest@000016": 5,
    }


def test_a_resampled_clip_has_a_bucket_for_the_frames_that_it_then_has_and_references_are_a_multiple(tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    put(tmp_path, "a", width=200, height=100, frames=30)
    clip_file(clips / "a_ref.mp4", sound=False, width=200, height=100, frames=30)
    encode(clips, **AUTO, reference_downscale_factor=2, reference_temporal_scale_factor=2)
    root = tmp_path / "clips.precomputed"
    assert shapes(root) == {"a": (3, 2, 4)}
    assert read_source(root, "reference_latents")["a"].shape[1:] == (2, 1, 2)


def test_a_damaged_record_is_refused_by_name(tmp_path: Path) -> None:
    put(tmp_path, "a")
    record = tmp_path / "clips.precomputed" / RECORD
    record.parent.mkdir()
    for text in (
        "{",
        "[]",
        '{"auto": [{"tokens": 32}]}',
        '{"auto": [{"tokens": 32, "grid": [8, 32, 32], "buckets": ["64"], "sizes": []}]}',
        '{"auto": [{"tokens": 32, "grid": [8, 32, 32], "buckets": ["64x64x9"], "sizes": ["64x0x9"]}]}',
    ):
        record.write_text(text)
        with pytest.raises(DataError, match="the record of the chosen buckets cannot be read") as error:
            encode(tmp_path / "clips", **AUTO)
        assert [each.where for each in error.value.problems] == [str(record)]


def test_a_file_in_place_of_the_root_is_no_damaged_record(tmp_path: Path) -> None:
    put(tmp_path, "a")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file: cannot be made"):
        encode(tmp_path / "clips", tmp_path / "file", **AUTO)


def run_file(folder: Path, **preprocessing: Any) -> Path:
    tables = {
        "output_dir": str(folder / "out"),
        "model": {"model_path": "tiny-untrained"},
        "training_strategy": {"name": "flexible", "video": {"is_generated": True, "latents_dir": "latents"}},
        "optimization": {"steps": 2},
        "data": {"dataset": str(folder / "clips"), "held_out": 0},
        "preprocessing": {**AUTO, **preprocessing},
    }
    return write_run(folder, tables)


def test_checks_and_plans_say_and_use_what_would_be_chosen_and_write_nothing(tmp_path: Path) -> None:
    put(tmp_path, "wide", width=128, height=64, frames=20)
    put(tmp_path, "square", width=64, height=64, frames=9)
    clips = tmp_path / "clips"
    said = [
        '"128x64x17;64x64x9"',
        "  64x64 to 64x64x9: 1 clip, cropping takes 0.0 % of the picture",
        "  128x64 to 128x64x17: 1 clip, cropping takes 0.0 % of the picture, and the last 3 frames are not used",
    ]
    shown = CliRunner().invoke(main, ["check", str(clips), "--set", "resolution_buckets=auto:32"])
    assert shown.exit_code == 0, shown.output
    assert f'resolution_buckets = "auto" means {said[0]}:\n{said[1]}\n{said[2]}\n' in shown.output
    loaded = load_run(run_file(tmp_path))
    notes = check_run(loaded).notes
    assert f'{clips}: resolution_buckets = "auto" means {said[0]}' in notes
    assert "\n".join([f"{clips}: what clips lose in these buckets:", *said[1:]]) in notes
    found = draft(loaded).checked()
    seen = glance_at_datasets(found, lambda text: None, is_needed=True)
    assert str(shapes_of(found, found.base, seen=seen).size) == "128x64x17"
    assert not (tmp_path / "clips.precomputed").exists()


@pytest.mark.parametrize(("text", "tokens"), [("auto", 16_384), ("auto:8000", 8_000), ("64x64x9", None), ("auto:0", None), ("AUTO", None)])
def test_a_budget_is_part_of_the_key(text: str, tokens: int | None) -> None:
    table = PreprocessingTable(resolution_buckets=text)
    assert table.bucket_tokens == tokens
    assert bool(table.problems()) == (text in ("auto:0", "AUTO"))
