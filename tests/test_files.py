"""Files are whole or not there."""

import errno
import os
import time
from pathlib import Path

import pytest

from ltxcore.files import remove_unfinished, write_whole


def test_a_written_file_is_there_and_nothing_beside_it(tmp_path: Path) -> None:
    write_whole(tmp_path / "sub" / "a", b"one")
    write_whole(tmp_path / "sub" / "a", b"two")
    assert (tmp_path / "sub" / "a").read_bytes() == b"two"
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["a"]


def test_a_full_disk_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_whole(tmp_path / "a", b"old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_file_is_synced_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there: list[bool] = []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (there.append((tmp_path / "a").exists()), sync(handle)))
    write_whole(tmp_path / "a", b"one")
    assert there == [False, True]  # the file, and after the rename the folder that names it


def test_leftovers_of_killed_processes_are_removed_but_not_what_is_being_written(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    old, young, sample = (
        tmp_path / "sub" / name for name in (".a.safetensors.1-2.unfinished", ".b.safetensors.1-2.unfinished", "c.safetensors")
    )
    for path in (old, young, sample):
        path.write_bytes(b"part")
    long_ago = time.time() - 7200
    os.utime(old, (long_ago, long_ago))
    os.utime(sample, (long_ago, long_ago))
    assert remove_unfinished(tmp_path) == 1
    assert sorted(path.name for path in (tmp_path / "sub").iterdir()) == [young.name, sample.name]
