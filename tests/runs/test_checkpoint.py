"""Checkpoints: whole or not at all, as many as asked for, refused where they were changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from helpers.training_runs import message
from ltxcore.errors import CheckpointError
from ltxcore.runs import checkpoint
from ltxcore.runs.checkpoint import MANIFEST, Saved

STATE = ({"parameter/a": torch.arange(3.0)}, {"learning_rates": [0.1]})


def write(text: str = "weights") -> dict[str, Callable[[Path], object]]:
    return {"lora.safetensors": lambda path: path.write_text(text)}


def test_what_is_saved_is_found_and_loaded(tmp_path: Path) -> None:
    saved = checkpoint.save(tmp_path, 7, write(), STATE)
    assert saved == Saved(tmp_path / "step_000007", 7)
    assert checkpoint.found(tmp_path) == [saved]
    assert checkpoint.check(saved)
    tensors, values = checkpoint.load_state(saved)
    assert torch.equal(tensors["parameter/a"], torch.arange(3.0))
    assert values == {"learning_rates": [0.1]}
    assert (saved.path / "lora.safetensors").read_text() == "weights"


def test_a_folder_without_a_manifest_is_no_checkpoint(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, write(), STATE)
    (checkpoint.save(tmp_path, 2, write(), STATE).path / MANIFEST).unlink()
    assert [saved.step for saved in checkpoint.found(tmp_path)] == [1]
    assert [saved.step for saved in checkpoint.found(tmp_path / "none")] == []


def test_a_half_written_folder_of_the_same_step_is_written_anew(tmp_path: Path) -> None:
    half = tmp_path / "step_000003"
    half.mkdir()
    (half / "left over").write_text("")
    saved = checkpoint.save(tmp_path, 3, write(), None)
    assert sorted(path.name for path in saved.path.iterdir()) == ["lora.safetensors", MANIFEST]
    assert not checkpoint.check(saved)


@pytest.mark.parametrize(("number", "kept"), [(1, [4]), (2, [3, 4]), (9, [1, 2, 3, 4]), (0, [1, 2, 3, 4]), (-1, [1, 2, 3, 4])])
def test_the_newest_are_kept_and_zero_and_below_keep_all(tmp_path: Path, number: int, kept: list[int]) -> None:
    for step in (1, 2, 3, 4):
        checkpoint.save(tmp_path, step, write(), None)
    checkpoint.keep_last(tmp_path, number)
    assert [saved.step for saved in checkpoint.found(tmp_path)] == kept
    assert len(list(tmp_path.iterdir())) == len(kept)


def test_a_checkpoint_saved_twice_at_one_step_is_kept(tmp_path: Path) -> None:
    for text in ("first", "second"):
        checkpoint.save(tmp_path, 5, write(text), None)
        checkpoint.keep_last(tmp_path, 1)
    assert (tmp_path / "step_000005" / "lora.safetensors").read_text() == "second"


@pytest.mark.parametrize(
    ("change", "what"),
    [(lambda file: file.write_text("weightz"), "was changed since it was saved"), (lambda file: file.unlink(), "is missing")],
)
def test_a_file_that_was_changed_or_is_gone_is_refused(tmp_path: Path, change: object, what: str) -> None:
    saved = checkpoint.save(tmp_path, 7, write(), STATE)
    change(saved.path / "lora.safetensors")
    with pytest.raises(CheckpointError) as error:
        checkpoint.check(saved)
    assert message(error.value, tmp_path) == (
        f"TMP/step_000007: lora.safetensors {what}\n"
        "    Move this checkpoint out of TMP, so that the run starts over, since there is no previous checkpoint."
    )


def test_the_manifest_names_every_file_with_its_size_and_hash(tmp_path: Path) -> None:
    saved = checkpoint.save(tmp_path, 7, write(), STATE)
    manifest = json.loads((saved.path / MANIFEST).read_text())
    assert manifest["step"] == 7
    assert manifest["files"].keys() == {"lora.safetensors", "state.safetensors", "state.json"}
    assert manifest["files"]["lora.safetensors"] == {"bytes": 7, "sha256": hashlib.sha256(b"weights").hexdigest()}


def test_a_disk_without_room_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as error:
        checkpoint.check_space(tmp_path / "not" / "there", 2**60)
    first, remedy = message(error.value, tmp_path).splitlines()
    assert first.startswith("TMP/not/there: a checkpoint takes 1073741824.00 GiB, but ")
    assert first.endswith(" GiB are free")
    assert remedy == "    Free some space, or choose another output_dir."
    assert list(tmp_path.iterdir()) == []
    checkpoint.check_space(tmp_path, 1)


def test_a_disk_that_fills_up_leaves_no_checkpoint(tmp_path: Path) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(CheckpointError) as error:
        checkpoint.save(tmp_path, 1, {"lora.safetensors": full}, None)
    assert message(error.value, tmp_path) == (
        "TMP/step_000001: cannot be written: No space left on device\n"
        "    Free some space on that disk, or have your quota there raised, then run the same command again: the run resumes from the checkpoint before it."
    )
    assert checkpoint.found(tmp_path) == []


@pytest.mark.parametrize(
    "content",
    [
        *(
            b"",
            b"[]",
            b"{",
            b"\xff\xfe",
            b"null",
            b'{"step": 7}',
            b'{"files": {}}',
            b'{"step": 7, "files": []}',
            b'{"step": 7, "files": {}}',
        ),
        *(b'{"step": "7", "files": {}}', b'{"step": 7, "files": {"a": 3}}', b'{"step": 7, "files": {"a": {"bytes": 1, "sha256": 2}}}'),
        *(b'{"step": 8, "files": {}}', b"[" * 100_000, b'{"step": ' + b"7" * 5000 + b', "files": {}}'),
    ],
)
def test_a_damaged_manifest_is_refused_with_the_checkpoint_before_it(tmp_path: Path, content: bytes) -> None:
    checkpoint.save(tmp_path, 3, write(), STATE)
    saved = checkpoint.save(tmp_path, 7, write(), STATE)
    (saved.path / MANIFEST).write_bytes(content)
    assert checkpoint.found(tmp_path)[-1] == saved
    for looks in (checkpoint.check, lambda _: checkpoint.newest(tmp_path)):
        with pytest.raises(CheckpointError) as error:
            looks(saved)
        said = message(error.value, tmp_path)
        assert said.startswith("TMP/step_000007")
        assert said.endswith("\n    Move this checkpoint out of TMP, so that the previous checkpoint, step_000003, is used.")
    checkpoint.keep_last(tmp_path, 1)
    saved.path.rename(tmp_path / "away")
    assert checkpoint.newest(tmp_path) is None


def test_checkpoints_are_removed_manifest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = [checkpoint.save(tmp_path, step, write(), STATE) for step in (1, 2)]
    seen = []
    monkeypatch.setattr(checkpoint.shutil, "rmtree", lambda path: seen.append([(each.path / MANIFEST).exists() for each in saved]))
    checkpoint.remove_all(tmp_path)
    assert seen == [[False, True], [False, False], [False, False]]
