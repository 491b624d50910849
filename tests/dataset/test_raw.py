from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from helpers.clicks_made import changed
from helpers.raw_media import clip_file, message, sound_file
from ltxcore.dataset import raw
from ltxcore.dataset.raw import RawFiles
from ltxcore.errors import DataError

LONG_AGO = 1_600_000_000_000_000_000


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[Path]:
    """The files that a function of the module is called for from now on."""
    calls: list[Path] = []
    original = getattr(raw, name)

    def counting(path: Path, **options: object) -> object:
        calls.append(path)
        return original(path, **options)

    monkeypatch.setattr(raw, name, counting)
    return calls


def aged(path: Path, nanoseconds: int = LONG_AGO) -> Path:
    os.utime(path, ns=(nanoseconds, nanoseconds))
    return path


def test_what_is_known_of_a_file_is_remembered_by_the_next_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip, sound = aged(clip_file(tmp_path / "clips/a.mp4", rate=24000 / 1001)), aged(sound_file(tmp_path / "b.wav"))
    (tmp_path / "root").mkdir()
    first = RawFiles(tmp_path / "root", tmp_path)
    known = [(first.info(path), first.content(path), first.seconds(path)) for path in (clip, sound)]
    calls = [counted(monkeypatch, name) for name in ("probe", "_hash", "first_look", "read_sound")]
    second = RawFiles(tmp_path / "root", tmp_path, rank=1)
    assert [(second.info(path), second.content(path), second.seconds(path)) for path in (clip, sound)] == known
    assert calls == [[], [], [], []]


def test_that_a_sound_has_holes_is_remembered_too(tmp_path: Path) -> None:
    whole = aged(clip_file(tmp_path / "a.mp4"))
    holed = aged(changed(whole, tmp_path / "b.mp4", lambda at: 0.2 * (at > 0.5)))
    (tmp_path / "root").mkdir()
    for rank in range(2):
        files = RawFiles(tmp_path / "root", tmp_path, rank=rank)
        assert files.info(whole).sound_corrections == ()
        assert files.info(holed).sound_corrections == ("sound_in_time",)
        assert files.info(holed).picture_corrections == files.info(whole).picture_corrections == ()


@pytest.mark.parametrize("change", ["size", "date"])
def test_a_file_of_another_size_or_date_is_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    path = aged(sound_file(tmp_path / "b.wav"))
    files = RawFiles(tmp_path, tmp_path)
    before = files.content(path)
    hashes = counted(monkeypatch, "_hash")
    if change == "size":
        path.write_bytes(path.read_bytes() + b"\0")
        aged(path)
    else:
        aged(path, LONG_AGO + 1)
    assert (files.content(path) == before) == (change == "date")
    assert hashes == [path]


def test_a_file_that_has_only_just_changed_is_not_trusted_to_be_what_it_was(tmp_path: Path) -> None:
    path = sound_file(tmp_path / "b.wav", hertz=440.0)
    files = RawFiles(tmp_path, tmp_path)
    status, before = path.stat(), files.content(path)
    sound_file(path, hertz=441.0)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    assert files.content(path) != before


def test_nothing_is_written_as_long_as_there_is_no_root(tmp_path: Path) -> None:
    path = sound_file(tmp_path / "b.wav")
    files = RawFiles(tmp_path / "root", tmp_path)
    files.info(path)
    assert not (tmp_path / "root").exists()
    (tmp_path / "root").mkdir()
    files.content(path)
    assert len((tmp_path / "root/raw_files-0.jsonl").read_text().splitlines()) == 2


def test_torn_lines_are_passed_over(tmp_path: Path) -> None:
    path = aged(sound_file(tmp_path / "b.wav"))
    content = RawFiles(tmp_path, tmp_path).content(path)
    store = tmp_path / "raw_files-0.jsonl"
    deep = "[" * 50_000
    store.write_text(store.read_text() + f'{{"path": "b.wav", "byt\n[]\n{deep}\n')
    assert RawFiles(tmp_path, tmp_path).content(path) == content


def test_the_size_of_a_clip_is_the_one_it_is_shown_with(tmp_path: Path) -> None:
    path = clip_file(tmp_path / "a.mp4", sound=False, height=64, width=96)
    data = path.read_bytes()
    upright = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    turned = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    place = data.index(upright, data.index(b"tkhd"))
    path.write_bytes(data[:place] + turned + data[place + len(upright) :])
    info = RawFiles(tmp_path, tmp_path).info(path)
    assert (info.width, info.height) == (64, 96)


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        RawFiles(tmp_path, tmp_path).content(tmp_path / "a.wav")
    assert message(error) == f"{tmp_path}/a.wav: cannot be read: No such file or directory\n    Check the path in the dataset."
