"""Files are whole or not there."""

import errno
import os
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

from ltxcore.files import (
    UNFINISHED,
    is_of_disk,
    making,
    matching,
    not_written,
    read_regular,
    relative,
    remove_unfinished,
    replacing,
    sync,
    write_whole,
)


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


@pytest.mark.parametrize("name", ["x" * 255, "x" * 251 + ".mp4", "猫" * 85, "a." + "x" * 253, os.fsdecode(b"\xfe" * 255)])
def test_a_file_of_the_longest_name_is_written_whole(tmp_path: Path, name: str) -> None:
    with replacing(tmp_path / name) as beside:
        assert len(os.fsencode(beside.name)) <= 255
        assert beside.suffix == (".mp4" if name.endswith(".mp4") else beside.suffix)
        beside.write_bytes(b"whole")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(name, b"whole")]


def test_two_files_of_long_names_are_written_at_once_without_meeting(tmp_path: Path) -> None:
    with replacing(tmp_path / f"{'x' * 254}1") as one, replacing(tmp_path / f"{'x' * 254}2") as two:
        one.write_bytes(b"one")
        two.write_bytes(b"two")
    assert sorted(path.read_bytes() for path in tmp_path.iterdir()) == [b"one", b"two"]


def test_a_long_name_that_was_left_unfinished_is_removed(tmp_path: Path) -> None:
    with replacing(tmp_path / ("x" * 255)) as beside:
        beside.write_bytes(b"whole")
    beside.write_bytes(b"half")  # as a process leaves it that is killed
    assert remove_unfinished(tmp_path, older_than=-1.0) == 1


def test_files_are_found_by_a_pattern_sorted(tmp_path: Path) -> None:
    for name in ("manifest-10.jsonl", "manifest-0.jsonl", "manifest.json", "Manifest-1.jsonl", "sub/manifest-2.jsonl"):
        write_whole(tmp_path / name, b"")
    assert [path.name for path in matching(tmp_path, "manifest*.jsonl")] == ["manifest-0.jsonl", "manifest-10.jsonl"]
    assert matching(tmp_path / "absent", "*") == []
    assert matching(tmp_path / "manifest.json", "*") == []


def test_searching_a_folder_takes_no_memory_for_its_other_files(tmp_path: Path) -> None:
    for number in range(1_000):
        (tmp_path / f"{number}.safetensors").touch()
    tracemalloc.start()
    try:
        assert matching(tmp_path, "manifest*.jsonl") == []
        assert remove_unfinished(tmp_path) == 0
        assert tracemalloc.get_traced_memory()[1] < 50_000  # a path or an entry of each file would take five times this
    finally:
        tracemalloc.stop()


def test_what_another_process_writes_stays_although_the_clock_here_is_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with replacing(tmp_path / "a") as beside:
        beside.write_bytes(b"whole")
        monkeypatch.setattr(time, "time", lambda: 1e10)
        assert remove_unfinished(tmp_path) == 0
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_only_ordinary_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    assert read_regular(tmp_path / "a") == b"content"
    assert read_regular(tmp_path / "a", 3) == b"con"
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(OSError, match="it is a named pipe or a device, not an ordinary file"):
            read_regular(path)


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


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "Free some space on that disk, or have your quota there raised"),
        (errno.EDQUOT, "Free some space on that disk, or have your quota there raised"),
        (errno.EROFS, "Check that you have permission to write to this path"),
        (errno.ENOENT, "Check that the disk is connected, and that nothing removes or moves what is written"),
        (errno.EIO, "Check whether the disk is damaged"),
    ],
)
def test_what_cannot_be_written_is_said_with_its_place_and_what_to_do(tmp_path: Path, number: int, remedy: str) -> None:
    path = tmp_path / "out" / "run.json"
    error = None
    try:
        with replacing(path) as beside:
            raise OSError(number, os.strerror(number), str(beside))
    except OSError as raised:
        error = raised
    assert error is not None
    assert is_of_disk(error)
    assert str(not_written(error, "elsewhere", "it goes on")) == (
        f"{path}: cannot be written: {os.strerror(number)}\n    {remedy}, then run the same command again: it goes on."
    )


def test_an_error_of_a_connection_is_none_of_the_disk() -> None:
    assert not is_of_disk(ConnectionResetError(errno.ECONNRESET, "reset"))
    assert not is_of_disk(BrokenPipeError(errno.EPIPE, "broken"))
    assert not is_of_disk(OSError("of a library, without a number"))


def half_made(folder: Path) -> None:
    with making(folder) as beside:
        (beside / "a").write_text("one")
        raise OSError("full")


def test_a_folder_is_made_whole_or_not_at_all_whatever_a_killed_process_left(tmp_path: Path) -> None:
    left = tmp_path / f".new{UNFINISHED}" / "half"
    left.mkdir(parents=True)
    with pytest.raises(OSError, match="full"):
        half_made(tmp_path / "new")
    assert not list(tmp_path.iterdir())
    with making(tmp_path / "new") as beside:
        (beside / "a").write_text("one")
        assert not (tmp_path / "new").exists()
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["new", "new/a"]


def test_a_message_names_the_file_that_was_to_be_there(tmp_path: Path) -> None:
    for written in (f"/there/.a.12-34{UNFINISHED}.mp4", f"/there/.a.mp4{UNFINISHED}", ".a.mp4.unfinished", f"/there/.a.mp4{UNFINISHED}/b"):
        told = str(not_written(OSError(errno.ENOSPC, "full", written), "somewhere", "it goes on"))
        assert "a.mp4" in told.partition(": ")[0]
        assert UNFINISHED not in told


def test_windows_syncs_files_that_are_open_for_writing_and_no_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[tuple[Path, int]] = []
    open_one = os.open
    monkeypatch.setattr(os, "open", lambda path, flags: (opened.append((path, flags)), open_one(path, flags))[1])
    monkeypatch.setattr(sys, "platform", "win32")
    (tmp_path / "a").write_bytes(b"one")
    sync(tmp_path)
    sync(tmp_path / "a")
    assert opened == [(tmp_path / "a", os.O_RDWR)]


def test_a_path_is_named_from_a_folder_and_whole_where_no_way_leads_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert relative(tmp_path / "clips" / "a.mp4", tmp_path / "lists") == "../clips/a.mp4"

    def other_drive(path: Path, folder: Path) -> str:
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr(os.path, "relpath", other_drive)
    assert relative(tmp_path / "a.mp4", tmp_path / "lists") == (tmp_path / "a.mp4").as_posix()
