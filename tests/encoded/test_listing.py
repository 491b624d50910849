"""Files that no manifest records are opened once; what was found is kept, and believed as long as they do not change."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from helpers.encoded_sets import put, values
from ltxcore.encoded.listing import CHUNK, INDEX, Listing, index_paths, list_folder
from ltxcore.encoded.manifest import append_entry, remove_sample
from ltxcore.encoded.sample_names import find_sample
from ltxcore.encoded.store import checksum, write_sample
from ltxcore.encoded.user_cache import user_cache
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


# ---- clocks that jump: where a sample has several lines, the one that is true of its file counts


HOUR = 3600.0
Encode = Callable[..., Entry]


@pytest.fixture
def encode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Encode:
    """Encodes the sample "a" as a process of this rank does, whose clock is ahead by some hours."""

    def encoded(seed: int, *, steps: int = 5, rank: int = 0, ahead: float = 0.0, fingerprint: str = "") -> Entry:
        told = Entry((), fingerprint=fingerprint or f"made of {seed}")
        entry = write_sample(tmp_path, "audio_latents", "a", {"latents": values(8, steps, 16, seed=seed)}, told)
        path, now = tmp_path / "audio_latents" / "a.safetensors", time.time()
        os.utime(path, (now + ahead * HOUR, now + ahead * HOUR))
        with monkeypatch.context() as patched:
            patched.setattr("ltxcore.encoded.manifest.time.time", lambda: now + ahead * HOUR)
            append_entry(tmp_path, "audio_latents", "a", entry, rank)
        return entry

    return encoded


def _listed(root: Path) -> Listing:
    return list_folder(root / "audio_latents")


@pytest.mark.parametrize("steps", [5, 7])
def test_in_one_manifest_the_later_line_counts_though_the_clock_was_set_back(tmp_path: Path, encode: Encode, steps: int) -> None:
    encode(1, ahead=24)
    entry = encode(2, steps=steps)
    assert _listed(tmp_path).entries == {"a": entry}
    assert not (tmp_path / "audio_latents" / INDEX).exists()


@pytest.mark.parametrize("ahead", [24, 1, -24])
@pytest.mark.parametrize("steps", [5, 7])
def test_of_several_manifests_the_line_that_is_of_the_file_counts_whatever_the_clocks_said(
    tmp_path: Path, encode: Encode, steps: int, ahead: float
) -> None:
    encode(1, rank=3, ahead=ahead)
    second = encode(2, steps=steps, rank=1)
    assert _listed(tmp_path).entries == {"a": second}
    third = encode(1, rank=0, ahead=ahead / 2)
    assert _listed(tmp_path).entries == {"a": third}
    assert _listed(tmp_path).at_fault == frozenset()


@pytest.mark.parametrize("ahead", [24, -24])
def test_of_lines_that_differ_in_their_checksum_alone_the_one_of_the_file_counts(tmp_path: Path, encode: Encode, ahead: float) -> None:
    encode(1, rank=3, ahead=ahead, fingerprint="the same")
    entry = encode(2, rank=1, fingerprint="the same")
    shutil.copytree(tmp_path / "audio_latents", tmp_path / "copy" / "audio_latents", copy_function=shutil.copy)  # with dates of now
    for root in (tmp_path, tmp_path / "copy"):
        assert _listed(root).entries == {"a": entry}


def test_what_was_read_of_a_file_to_settle_it_is_remembered(tmp_path: Path, encode: Encode) -> None:
    encode(1, rank=3, ahead=24)
    entry = encode(2, rank=1)
    assert _listed(tmp_path).entries == {"a": entry}
    _spoil(tmp_path / "audio_latents", "a")
    assert _listed(tmp_path).entries == {"a": entry}


def test_lines_of_clocks_that_go_right_are_told_apart_by_the_date_of_the_file_without_reading_it(tmp_path: Path, encode: Encode) -> None:
    encode(1, rank=3, ahead=-1)
    entry = encode(2, rank=1)
    _spoil(tmp_path / "audio_latents", "a")
    assert _listed(tmp_path).entries == {"a": entry}


def test_lines_of_0_1_0_without_checksums_are_told_apart_too(tmp_path: Path, encode: Encode) -> None:
    encode(1, rank=3, ahead=24)
    entry = encode(2, rank=1)
    for path in (tmp_path / "audio_latents").glob("manifest*.jsonl"):
        told = json.loads(path.read_text())
        del told["checksum"]
        path.write_text(json.dumps(told) + "\n")
    assert _listed(tmp_path).entries["a"].fingerprint == entry.fingerprint


def test_a_sample_that_was_removed_by_a_clock_that_was_ahead_and_made_again_is_there(tmp_path: Path, encode: Encode) -> None:
    encode(1, rank=0)
    remove_sample(tmp_path, "audio_latents", "a", rank=3, after=time.time() + 24 * HOUR)
    assert _listed(tmp_path) == Listing({}, latest=_listed(tmp_path).latest)
    entry = encode(2, rank=1)
    assert _listed(tmp_path).entries == {"a": entry}
    assert _listed(tmp_path).at_fault == frozenset()


def test_a_line_is_later_than_all_that_were_there_so_that_a_removal_holds_whatever_the_clock_says(tmp_path: Path, encode: Encode) -> None:
    encode(1, rank=3, ahead=24)
    remove_sample(tmp_path, "audio_latents", "a", rank=1, after=_listed(tmp_path).latest)
    assert _listed(tmp_path).at_fault == frozenset()
    encode(1, rank=3, ahead=24)
    (tmp_path / "audio_latents" / "a.safetensors").unlink()
    assert _listed(tmp_path).gone == ("a",)  # nobody said that it was removed


def test_a_file_that_is_of_no_line_has_the_newest_that_fits_and_is_refused_when_it_is_loaded(tmp_path: Path, encode: Encode) -> None:
    encode(1, rank=3, ahead=24)
    newest = encode(2, rank=1, ahead=48)
    write_sample(tmp_path, "audio_latents", "a", {"latents": values(8, 5, 16, seed=9)}, Entry((), fingerprint="made of 9"))
    assert _listed(tmp_path).entries == {"a": newest}


# ---- names that are too long for a file


LONG = "clips/" + "猫" * 84


def test_a_sample_whose_files_name_was_shortened_is_listed_by_its_whole_name(tmp_path: Path) -> None:
    entry = put(tmp_path, "masks", LONG, {"mask": torch.ones(5)})
    assert list_folder(tmp_path / "masks").entries == {LONG: entry}
    assert list_folder(tmp_path / "masks", only=[LONG]).entries == {LONG: entry}
    assert not (tmp_path / "masks" / INDEX).exists()


def test_where_the_manifest_is_lost_the_file_itself_says_its_whole_name(tmp_path: Path) -> None:
    entry = put(tmp_path, "masks", LONG, {"mask": torch.ones(5)})
    (tmp_path / "masks" / "manifest-0.jsonl").unlink()
    for _ in range(2):  # from the file, and from the index
        assert list_folder(tmp_path / "masks").entries == {LONG: entry}
    assert find_sample(tmp_path, "masks", LONG).is_file()


def test_a_sample_of_a_long_name_is_gone_when_its_file_is_and_removed_when_it_is_removed(tmp_path: Path) -> None:
    put(tmp_path, "masks", LONG, {"mask": torch.ones(5)})
    find_sample(tmp_path, "masks", LONG).unlink()
    assert list_folder(tmp_path / "masks").gone == (LONG,)
    put(tmp_path, "masks", LONG, {"mask": torch.ones(5)})
    remove_sample(tmp_path, "masks", LONG)
    assert list_folder(tmp_path / "masks").at_fault == frozenset()
    assert list((tmp_path / "masks" / "clips").iterdir()) == []


def test_of_a_long_name_our_file_counts_before_that_of_ltx_trainer(tmp_path: Path) -> None:
    entry = put(tmp_path, "masks", LONG, {"mask": torch.ones(5)})
    torch.save({"mask": torch.ones(7)}, tmp_path / "masks" / f"{LONG}.pt")
    assert list_folder(tmp_path / "masks").entries == {LONG: entry}


def test_a_header_that_claims_the_name_of_another_sample_is_not_believed(tmp_path: Path) -> None:
    put(tmp_path, "masks", "x" * 250, {"mask": torch.ones(5)})
    put(tmp_path, "masks", "y" * 250, {"mask": torch.ones(7)})
    xs, ys = (find_sample(tmp_path, "masks", letter * 250) for letter in "xy")
    xs.replace(ys)
    (tmp_path / "masks" / "manifest-0.jsonl").unlink()
    assert list(list_folder(tmp_path / "masks").entries) == [ys.stem]
    assert find_sample(tmp_path, "masks", ys.stem) == ys
