"""`ltx shard` moves the files of a set into shards, and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.encoded_sets import inpainting_set
from helpers.older_runs import ltx
from ltxcore.encode.leases import joined, sole_work, work_text
from ltxcore.errors import ProcessError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    inpainting_set(tmp_path / "set", ["a", "b", "c"])
    return tmp_path / "set"


def names(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.safetensors"))


def test_a_set_is_put_into_shards_and_back(root: Path) -> None:
    before = names(root)
    assert ltx(root, "shard", root, "--size", "0.000005") == (
        "audio_latents: moved 3 samples into 2 new shards\naudio_masks: moved 3 samples into 1 new shard\nconditions: moved 3 samples into 1 new shard\n"
    )
    assert names(root) == [
        "audio_latents/shard-00000.safetensors",
        "audio_latents/shard-00001.safetensors",
        "audio_masks/shard-00000.safetensors",
        "conditions/shard-00000.safetensors",
    ]
    assert ltx(root, "shard", root).startswith("audio_latents: moved 0 samples into 0 new shards\n")
    assert ltx(root, "shard", "--unpack", root).startswith("audio_latents: moved 3 samples into files of their own\n")
    assert names(root) == before


def test_a_set_with_faults_is_not_touched(root: Path) -> None:
    (root / "audio_latents" / "b.safetensors").write_bytes(b"torn")
    before = names(root)
    assert "audio_latents/b.safetensors" in ltx(root, "shard", root, status=2)
    assert names(root) == before


@pytest.mark.parametrize("number", [0, 3])
def test_a_set_that_is_being_encoded_is_not_touched(root: Path, number: int) -> None:
    before = names(root)
    with joined(root, number, 4, work_text({"dataset": "clips.csv"})):
        assert "is being written by process" in ltx(root, "shard", root, status=2)
        assert "is being written by process" in ltx(root, "shard", root, "--unpack", status=2)
    assert names(root) == before


@pytest.mark.parametrize("number", [0, 3])
def test_a_set_that_is_put_into_shards_is_not_encoded(root: Path, number: int) -> None:
    with (
        joined(root, 0, 1, sole_work()),
        pytest.raises(ProcessError, match="is being written by process"),
        joined(root, number, 4, work_text({"dataset": "clips.csv"})),
    ):
        raise AssertionError


def test_what_is_no_set_is_refused(tmp_path: Path) -> None:
    assert ltx(tmp_path, "shard", tmp_path / "nowhere", status=2).startswith(f"{tmp_path}/nowhere: there is no such folder")
