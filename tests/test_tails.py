"""What other processes append to files is read once, line by line."""

from __future__ import annotations

from pathlib import Path

from ltxcore.tails import Tails

NAMES = ("a", "a1", "a2")


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_only_complete_new_lines_of_others_are_read(tmp_path: Path) -> None:
    append(tmp_path / "a1", "old\n")
    append(tmp_path / "a0", "own\n")
    tails = Tails(tmp_path, "a*", "a0")
    assert list(tails.new_lines(NAMES)) == []
    append(tmp_path / "a0", "own\n")
    append(tmp_path / "a1", "new\nhalf")
    append(tmp_path / "a2", "another\n")
    append(tmp_path / "b1", "of something else\n")
    assert list(tails.new_lines(NAMES)) == [b"new", b"another"]
    assert list(tails.new_lines(NAMES)) == []
    append(tmp_path / "a1", " a line\n")
    assert list(tails.new_lines(NAMES)) == [b"half a line"]


def test_a_file_that_was_replaced_by_a_shorter_one_is_read_as_a_whole(tmp_path: Path) -> None:
    append(tmp_path / "a1", "one\ntwo\n")
    tails = Tails(tmp_path, "a*")
    (tmp_path / "a1").write_text("six\n")
    assert list(tails.new_lines(NAMES)) == [b"six"]
    (tmp_path / "a1").unlink()
    assert list(tails.new_lines(NAMES)) == []


def test_the_folder_may_come_later(tmp_path: Path) -> None:
    tails = Tails(tmp_path / "later", "a*")
    assert list(tails.new_lines(NAMES)) == []
    (tmp_path / "later").mkdir()
    append(tmp_path / "later/a", "x\n")
    assert list(tails.new_lines(NAMES)) == [b"x"]
