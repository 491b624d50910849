"""Samples that one command draws: what is there is known to the same command, and to no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from ltxcore.sample.generate import Drawing


def drawing(folder: Path, asked: bytes = b"two", first: int = 1) -> Drawing:
    return Drawing.of(folder, asked, 2, lambda: [folder / f"sample_{number}" for number in (first, first + 1)])


def begun(folder: Path) -> Drawing:
    """One that was stopped after its first sample."""
    one = drawing(folder)
    one.begin()
    (folder / "sample_1.wav").write_bytes(b"sound")
    one.add(0, folder / "sample_1.wav")
    return one


def test_the_same_command_goes_on_with_what_is_left(tmp_path: Path) -> None:
    begun(tmp_path)
    again = drawing(tmp_path, first=2)
    assert (again.paths, again.left()) == ([tmp_path / "sample_1", tmp_path / "sample_2"], [1])
    again.end()
    assert drawing(tmp_path, first=2).paths == [tmp_path / "sample_2", tmp_path / "sample_3"]


def test_another_command_begins_its_own(tmp_path: Path) -> None:
    begun(tmp_path)
    assert drawing(tmp_path, b"others", first=2).left() == [0, 1]


def test_a_sample_that_was_removed_is_drawn_again(tmp_path: Path) -> None:
    begun(tmp_path).there[0].unlink()
    assert drawing(tmp_path).left() == [0, 1]


@pytest.mark.parametrize("damaged", [b"", b"[]", b"{}", b"null", b"\xff", b"[[1, 2], {}]", b'[["a", "b"], 3]', b"[" * 100_000])
def test_a_damaged_record_counts_as_none(tmp_path: Path, damaged: bytes) -> None:
    begun(tmp_path).record.write_bytes(damaged)
    assert drawing(tmp_path, first=2).paths == [tmp_path / "sample_2", tmp_path / "sample_3"]


def test_a_single_sample_leaves_no_record(tmp_path: Path) -> None:
    one = Drawing.of(tmp_path, b"one", 1, lambda: [tmp_path / "sample_1"])
    one.begin()
    one.add(0, tmp_path / "sample_1.wav")
    one.end()
    assert not list(tmp_path.iterdir())
