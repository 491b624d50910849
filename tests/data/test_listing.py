"""Files that no manifest records are opened once; what was found is kept, and believed as long as they do not change."""

import os
from pathlib import Path

import pytest
import safetensors.torch
import torch

from data.sets import put, values
from ltxcore.data.cache import user_cache
from ltxcore.data.listing import CHUNK, INDEX, index_paths, list_folder
from ltxcore.data.store import checksum, write_sample
from ltxcore.protocols import Entry


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def _masks(folder: Path, names: list[str]) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        safetensors.torch.save_file({"mask": torch.ones(5)}, folder / f"{name}.safetensors")


def _spoil(folder: Path, name: str) -> None:
    """Zeros of the same size and time: who opens the file fails, who believes the index does not."""
    path = folder / f"{name}.safetensors"
    status = path.stat()
    path.write_bytes(bytes(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_folder_without_a_manifest_is_indexed_once(tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    _masks(folder, ["a", "b"])
    first = list_folder(folder)
    assert (folder / INDEX).exists()
    data = (folder / "a.safetensors").read_bytes()
    _spoil(folder, "a")
    assert list_folder(folder) == first
    size = len(data)
    assert first.entries["a"] == Entry((5,), None, True, size, kind="mask", modality="audio", checksum=checksum(data))


def test_an_indexed_file_that_changed_is_read_again(tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    _masks(folder, ["a", "b"])
    list_folder(folder)
    safetensors.torch.save_file({"mask": torch.zeros(7)}, folder / "a.safetensors")
    assert list_folder(folder).entries["a"].shape == (7,)
    safetensors.torch.save_file({"mask": torch.full((7,), torch.nan)}, folder / "a.safetensors")
    os.utime(folder / "a.safetensors", ns=(1, 1))
    assert not list_folder(folder).entries["a"].finite


def test_only_new_files_are_read_when_some_are_indexed(tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    _masks(folder, ["a"])
    list_folder(folder)
    _spoil(folder, "a")
    _masks(folder, ["b"])
    assert list(list_folder(folder).entries) == ["a", "b"]


def test_only_files_that_no_manifest_records_are_read(tmp_path: Path) -> None:
    put(tmp_path, "masks", "a", {"mask": torch.ones(5)})
    _spoil(tmp_path / "masks", "a")
    _masks(tmp_path / "masks", ["b"])
    assert list(list_folder(tmp_path / "masks").entries) == ["a", "b"]


def test_where_the_folder_is_read_only_the_index_is_kept_in_the_cache(tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    _masks(folder, ["a"])
    (folder / INDEX).mkdir()  # cannot be written, as in a read-only folder, also by root
    first = list_folder(folder)
    kept = list((tmp_path / "cache" / "ltx" / "index").iterdir())
    assert kept == [index_paths(folder)[1]]
    _spoil(folder, "a")
    assert list_folder(folder) == first


def test_where_nothing_can_be_written_files_are_read_every_time(tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    _masks(folder, ["a"])
    (folder / INDEX).mkdir()
    (tmp_path / "cache").write_text("not a folder")
    assert list_folder(folder) == list_folder(folder)
    assert list(list_folder(folder).entries) == ["a"]


def test_a_torn_index_costs_only_the_torn_line(tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    _masks(folder, ["a", "b", "c"])
    first = list_folder(folder)
    path = folder / INDEX
    path.write_bytes(path.read_bytes()[:-9])
    assert list_folder(folder) == first
    _spoil(folder, "c")
    assert list_folder(folder) == first


def test_unreadable_files_are_not_remembered(tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    _masks(folder, ["a"])
    (folder / "b.safetensors").write_bytes(b"torn")
    found = list_folder(folder)
    assert (list(found.entries), list(found.unreadable), found.at_fault) == (["a"], ["b"], {"b"})
    _masks(folder, ["b"])
    assert list(list_folder(folder).entries) == ["a", "b"]


def test_a_long_reading_tells_how_far_it_is_and_keeps_what_it_has(tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    _masks(folder, [f"{number:03}" for number in range(CHUNK + 3)])
    told: list[tuple[str, int, int]] = []

    class InterruptedError(Exception):
        pass

    def interrupt(name: str, done: int, total: int) -> None:
        told.append((name, done, total))
        if len(told) == 1:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        list_folder(folder, progress=interrupt)
    assert len((folder / INDEX).read_text().splitlines()) == CHUNK
    assert len(list_folder(folder, progress=interrupt).entries) == CHUNK + 3
    assert told == [("masks", CHUNK, CHUNK + 3), ("masks", 3, 3)]


def test_a_set_with_complete_manifests_tells_of_no_reading(tmp_path: Path) -> None:
    put(tmp_path, "masks", "a", {"mask": torch.ones(5)})
    list_folder(tmp_path / "masks", progress=lambda *told: pytest.fail(f"reads {told}"))
    assert not (tmp_path / "masks" / INDEX).exists()


def test_an_index_is_as_good_as_the_manifest_that_was_lost(tmp_path: Path) -> None:
    told = Entry((), 29.97, fingerprint="f", origin="a.mp4", encoder="e")
    entry = write_sample(tmp_path, "latents", "sub/a", {"latents": values(16, 2, 2, 2)}, told)
    assert list_folder(tmp_path / "latents").entries == {"sub/a": entry}


def test_the_cache_follows_the_users_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert user_cache() == tmp_path / "cache" / "ltx"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_cache() == tmp_path / ".cache" / "ltx"


def test_a_user_without_a_home_has_a_cache_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert user_cache() == tmp_path / "ltx"
