"""The disk that a run fills, against what is free."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from cli.test_cli_check import raw_run
from helpers.raw_media import clip_file
from helpers.training_runs import loaded_run, message, sound_set
from ltxcore.config.load import load_run
from ltxcore.errors import LtxError
from ltxcore.runs import disk_space
from ltxcore.runs.checkpoint import MARGIN
from ltxcore.runs.checks import check_run

Usage = namedtuple("Usage", "total used free")


def free(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """The disk as it would be with so much free; a full one cannot be made here."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(2 * size, size, size))


def checked(folder: Path, **changed: Any) -> Any:
    sound_set(folder / "data")
    return check_run(loaded_run(folder, **changed))


def test_a_checkpoint_is_as_large_as_the_run_finds_it_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Two targets in each of the blocks, rank 2: what `ltx run` counts of this run file.
    free(monkeypatch, MARGIN)
    with pytest.raises(LtxError) as error:
        checked(tmp_path, lora={"rank": 64})
    found = message(error.value, tmp_path)
    assert found.startswith(
        "TMP/run.toml:1: output_dir: a checkpoint takes 3.5 MiB, twice while it is written, but only 64.0 MiB are free in TMP/out"
    )


def test_checkpoints_that_are_kept_and_do_not_fit_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = {"optimization": {"steps": 1000}, "checkpoints": {"interval": 1, "keep_last_n": -1}, "lora": {"rank": 64}}
    free(monkeypatch, MARGIN + 2**26)
    assert [note for note in checked(tmp_path, **many).notes if "999 checkpoints" in note]
    assert not [note for note in checked(tmp_path, **{**many, "checkpoints": {"interval": 1}}).notes if "checkpoints" in note]


def test_a_rank_above_the_widths_of_all_targets_is_told(tmp_path: Path) -> None:
    (note,) = [note for note in checked(tmp_path, lora={"rank": 4000}).notes if "lora.rank" in note]
    lines = (tmp_path / "run.toml").read_text().splitlines()
    line = next(number for number, text in enumerate(lines, 1) if text.startswith("rank"))
    assert note.startswith(f"{tmp_path}/run.toml:{line}: lora.rank: is 4000, but the largest target has only ")


def test_a_disk_without_room_for_the_encoded_set_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip_file(tmp_path / "a.mp4", frames=17)
    (tmp_path / "clips.jsonl").write_text('{"video": "a.mp4", "caption": "c"}\n')
    loaded = load_run(raw_run(tmp_path, "clips.jsonl"))
    assert not [note for note in check_run(loaded).notes if "latents" in note]
    monkeypatch.setattr(disk_space, "free_bytes", lambda folder: 10 if folder.name == ".precomputed" else 2**40)
    (note,) = [note for note in check_run(loaded).notes if "latents" in note]
    assert note == f"{tmp_path}/.precomputed: the latents of 1 sample take 0.0 MiB or more, but only 0.0 MiB are free."
