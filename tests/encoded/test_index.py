"""A large encoded set opens by an index, which is made once and read as long as nothing changed; a small set has none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest

from helpers.indexed_sets import FACTS, ROLES, entry_of, name_of, put_index, put_manifests, settle
from ltxcore.encoded import columns, index, listing
from ltxcore.encoded.columns import Building, Columns, columns_in
from ltxcore.encoded.index import open_index, places
from ltxcore.encoded.indexed_entries import IndexedEntries
from ltxcore.encoded.listing import Listing, list_folder
from ltxcore.encoded.manifest import append_entry, read_manifest, remove_sample, source_listing
from ltxcore.encoded.manifest_lines import Line, append_lines
from ltxcore.encoded.sample_names import sample_path
from ltxcore.errors import DataError
from ltxcore.protocols import Entry

COUNT = 40

Read = Callable[..., list[str]]


@pytest.fixture(autouse=True)
def _small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every folder with a manifest is large enough for an index."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(index, "LARGE", 1)
    monkeypatch.setattr(index, "SETTLED", 0.2)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An encoded set of 40 samples, written by two processes."""
    put_manifests(tmp_path / "set", COUNT, manifests=2)
    return tmp_path / "set"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the manifests that are read while the test runs."""
    found: list[str] = []
    own = index.read_lines

    def reading(path: Path) -> Any:
        found.append(path.name)
        return own(path)

    monkeypatch.setattr(index, "read_lines", reading)
    return found


def _is_indexed(listing: Listing) -> bool:
    return isinstance(listing.entries, IndexedEntries)


def test_an_index_has_the_entries_of_the_manifests(root: Path) -> None:
    expected = {folder: {name_of(number): entry_of(folder, number) for number in range(COUNT)} for folder in FACTS}
    for _ in range(2):  # made, then read
        listings = {folder: list_folder(root / folder) for folder in FACTS}
        assert all(map(_is_indexed, listings.values()))
        assert {folder: dict(listing.entries.items()) for folder, listing in listings.items()} == expected
        assert {listing.latest for listing in listings.values()} == {1.7e9}
        entries = listings["latents"].entries
        assert entries[name_of(7)] == entry_of("latents", 7)
        assert list(entries) == sorted(entries)
        assert name_of(COUNT) not in entries
        with pytest.raises(KeyError):
            entries["another"]


def test_a_folder_that_has_not_changed_is_neither_parsed_nor_looked_through(
    root: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = list_folder(root / "latents")
    assert read == ["manifest-0.jsonl", "manifest-1.jsonl"]
    monkeypatch.setattr(os, "scandir", lambda *_: pytest.fail("looks for files"))
    again = list_folder(root / "latents")
    assert len(read) == 2
    assert again == first


def test_only_the_manifest_that_changed_is_read_again(root: Path, read: list[str]) -> None:
    list_folder(root / "latents")
    read.clear()
    added = entry_of("latents", COUNT)
    (root / "latents" / f"{name_of(COUNT)}.safetensors").write_bytes(b"8 bytes.")
    append_entry(root, "latents", name_of(COUNT), added, rank=1)
    listing = list_folder(root / "latents")
    assert read == ["manifest-1.jsonl"]
    assert listing.entries[name_of(COUNT)] == added
    assert len(listing.entries) == COUNT + 1
    settle(root, seconds=50)
    assert list_folder(root / "latents") == listing


@pytest.mark.parametrize("what", ["removed", "added", "renamed", "replaced", "recorded as removed"])
def test_a_changed_folder_is_listed_anew(root: Path, what: str) -> None:
    before = list_folder(root / "latents")
    path = root / "latents" / f"{name_of(3)}.safetensors"
    expected: dict[str, Any] = {"gone": (), "changed": ()}
    if what == "removed":
        path.unlink()
        expected["gone"] = (name_of(3),)
    elif what == "added":
        path.with_name("own.safetensors").write_bytes(b"not a sample")
        expected["unreadable"] = ["own"]
    elif what == "renamed":
        path.rename(path.with_name("own.pt"))
        expected |= {"gone": (name_of(3),), "unreadable": ["own"]}
    elif what == "replaced":
        path.with_name("new").write_bytes(b"more than 8 bytes")
        path.with_name("new").replace(path)
        expected["changed"] = (name_of(3),)
    else:
        remove_sample(root, "latents", name_of(3))
    listing = list_folder(root / "latents", remember=False)
    assert listing != before
    assert name_of(3) not in listing.entries or what == "added"
    assert (listing.gone, listing.changed) == (expected["gone"], expected["changed"])
    assert list(listing.unreadable) == expected.get("unreadable", [])


def test_a_file_that_was_overwritten_in_place_is_found_where_every_file_is_looked_at(root: Path) -> None:
    list_folder(root / "latents")
    (root / "latents" / f"{name_of(3)}.safetensors").write_bytes(b"cut")
    assert not list_folder(root / "latents").changed
    assert list_folder(root / "latents", every_file=True).changed == (name_of(3),)
    assert source_listing(root, "latents").changed == (name_of(3),)  # which preprocessing encodes again


def test_a_run_reads_some_samples_of_an_index(root: Path) -> None:
    names = [name_of(number) for number in (5, 2, 30)]
    for only in (names, [*names, name_of(COUNT)]):
        entries = list_folder(root / "latents", only).entries
        assert dict(entries.items()) == {name_of(number): entry_of("latents", number) for number in (2, 5, 30)}
        assert name_of(3) not in entries
        assert [len(group) for _, group in read_manifest(root, ROLES, only=names).alike] == [2, 1]
    with pytest.raises(DataError, match=name_of(COUNT)):
        read_manifest(root, ROLES, only=[*names, name_of(COUNT)])


def test_a_folder_with_a_fault_or_with_own_files_has_no_index(root: Path) -> None:
    (root / "latents" / f"{name_of(3)}.safetensors").unlink()
    settle(root)
    for _ in range(2):
        assert list_folder(root / "latents").gone == (name_of(3),)
    assert not (places(root / "latents")[0] / index.SUMMARY).exists()


def test_removed_samples_and_samples_in_several_manifests_are_in_an_index_as_the_manifests_say(root: Path, read: list[str]) -> None:
    remove_sample(root, "latents", name_of(2), rank=1)
    again = attrs.evolve(entry_of("latents", 3), fingerprint="again")
    append_entry(root, "latents", name_of(3), again, rank=0)  # process 1 wrote it first
    now = time.time()
    os.utime(root / "latents" / f"{name_of(3)}.safetensors", (now, now))
    settle(root)
    for _ in range(2):
        listing = list_folder(root / "latents")
        assert _is_indexed(listing)
        assert list(listing.entries) == [name_of(number) for number in range(COUNT) if number != 2]
        assert listing.entries[name_of(3)] == again
        assert listing.entries[name_of(4)] == entry_of("latents", 4)
    assert len(read) == 2


def test_the_files_of_a_single_manifest_are_compared_without_an_object_for_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_manifests(tmp_path / "set", COUNT)
    folder, expected = tmp_path / "set" / "latents", {name_of(number): entry_of("latents", number) for number in range(COUNT)}
    with monkeypatch.context() as patch:
        patch.delattr(listing, "files_in")
        assert dict(list_folder(folder).entries.items()) == expected
        assert dict(list_folder(folder, [name_of(3)]).entries.items()) == {name_of(3): expected[name_of(3)]}
    assert open_index(folder) is not None
    (folder / f"{name_of(5)}.safetensors").write_bytes(b"9 bytes..")
    settle(tmp_path / "set", 50.0)
    assert list_folder(folder, every_file=True).changed == (name_of(5),)
    (folder / f"{name_of(5)}.safetensors").unlink()
    settle(tmp_path / "set", 40.0)
    assert list_folder(folder).gone == (name_of(5),)


@pytest.mark.parametrize("name", [f"{name_of(3)}.pt", "x" * 300])
def test_a_second_file_or_a_long_name_takes_the_longer_way_to_the_same_entries(tmp_path: Path, name: str) -> None:
    put_manifests(tmp_path / "set", COUNT)
    folder, expected = tmp_path / "set" / "latents", {name_of(number): entry_of("latents", number) for number in range(COUNT)}
    if name.endswith(".pt"):
        (folder / name).write_bytes(b"of ltx-trainer")
    else:
        entry = entry_of("latents", 1)
        path = sample_path(tmp_path / "set", "latents", name)
        path.write_bytes(b"8 bytes.")
        append_lines(folder / "manifest-0.jsonl", [Line(name, entry, 1.7e9)])
        expected[name] = entry
    settle(tmp_path / "set")
    found = list_folder(folder)
    assert dict(found.entries.items()) == expected
    assert _is_indexed(found)


@pytest.mark.parametrize("place", ["", "/no/such/folder"])
def test_columns_that_are_too_long_for_memory_are_the_same(tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = {name_of(number): entry_of("latents", number) for number in range(COUNT)}

    def made() -> Columns:
        building = Building()
        for name, entry in entries.items():
            building.add(Line(name, entry, 1.7e9))
        return building.columns()

    whole = made()
    monkeypatch.setattr(columns, "SPILLED", 7)
    monkeypatch.setattr(tempfile, "tempdir", place or str(tmp_path))
    spilled = made()
    assert all(np.array_equal(spilled.arrays[each], whole.arrays[each]) for each in whole.arrays)
    assert {name: spilled.entry(row) for row, name in enumerate(spilled.names)} == entries
    spilled.save(tmp_path / "saved.columns", {"id": "x"})
    again = columns_in(tmp_path / "saved.columns")
    assert again is not None
    assert {name: again.entry(row) for row, name in enumerate(again.names)} == entries


def test_a_small_folder_has_no_index(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "LARGE", 2**20)
    assert not _is_indexed(list_folder(root / "latents"))
    assert not places(root / "latents")[0].exists()


def test_nothing_is_written_where_nothing_is_to_be_remembered(root: Path) -> None:
    before = sorted(root.rglob("*"))
    list_folder(root / "latents", remember=False)
    assert sorted(root.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_the_index_of_a_read_only_folder_is_in_the_cache(root: Path) -> None:
    (root / "latents").chmod(0o500)
    try:
        list_folder(root / "latents")
        assert not places(root / "latents")[0].exists()
        assert (places(root / "latents")[1] / index.SUMMARY).exists()
    finally:
        (root / "latents").chmod(0o700)


def test_an_index_in_the_cache_is_found(root: Path, read: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    cache = places(root / "latents")[1]
    monkeypatch.setattr(index, "_writable", lambda folder: cache.mkdir(parents=True) or cache)
    first = list_folder(root / "latents")
    read.clear()
    assert list_folder(root / "latents") == first
    assert not read
    assert not places(root / "latents")[0].exists()


@pytest.mark.parametrize("damage", ["cut", "empty", "no JSON", "another version", "other columns"])
def test_a_damaged_index_is_made_again(root: Path, damage: str) -> None:
    expected = dict(list_folder(root / "latents").entries.items())
    place = places(root / "latents")[0]
    columns, summary = place / "samples.columns", place / index.SUMMARY
    if damage == "cut":
        columns.write_bytes(columns.read_bytes()[:-100])
    elif damage == "empty":
        columns.write_bytes(b"")
    elif damage == "no JSON":
        summary.write_text("{")
    elif damage == "another version":
        summary.write_text(json.dumps({**json.loads(summary.read_text()), "version": 0}))
    else:
        summary.write_text(json.dumps({**json.loads(summary.read_text()), "id": "another"}))
    index._open.clear()
    assert dict(list_folder(root / "latents").entries.items()) == expected


def test_a_manifest_that_changes_while_it_is_read_leaves_no_index(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = index.Indexing.finish

    def late(self: index.Indexing, *rest: Any) -> Any:
        append_entry(root, "latents", "late", Entry((1,)))
        return own(self, *rest)

    monkeypatch.setattr(index.Indexing, "finish", late)
    list_folder(root / "latents")
    assert not (places(root / "latents")[0] / index.SUMMARY).exists()


def test_names_that_no_letters_can_spell_are_kept(tmp_path: Path) -> None:
    names = ["ä", "b", "c\udcff", "\U0001f600"]
    folder = tmp_path / "latents"
    folder.mkdir()
    for name in names:
        (folder / os.fsdecode(os.fsencode(f"{name}.safetensors"))).write_bytes(b"8 bytes.")
        append_entry(tmp_path, "latents", name, entry_of("latents", 0))
    os.utime(folder, (1, 1))
    for _ in range(2):
        listing = list_folder(folder)
        assert _is_indexed(listing)
        assert list(listing.entries) == sorted(names)
        assert all(listing.entries[name] == entry_of("latents", 0) for name in names)


def test_a_long_reading_tells_how_far_it_is(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "STEP", 5)
    monkeypatch.setattr(index, "SAID", 10)
    said: list[str] = []
    monkeypatch.setattr(index, "inform", said.append)
    told: list[tuple[str, int, int]] = []
    list_folder(root / "latents", progress=lambda *progress: told.append(progress))
    assert told == [("latents", done, 20) for done in (5, 10, 15, 20)] * 2
    assert not said
    list_folder(root / "conditions")
    assert said == [f"indexing {root / 'conditions'}, once: {done} of 20 samples" for done in (10, 20)] * 2


PRIVATE = """
def private():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    # Not "Private_Dirty", which counts pages of mapped files too until the system has written them.
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Anonymous:", "Swap:"))) * 1024
"""

OPENING = (
    """
import gc, json, os, sys
from pathlib import Path
from helpers.indexed_sets import ROLES
from ltxcore.encoded.batches import order_of
from ltxcore.encoded.held_out import split
from ltxcore.encoded.manifest import read_manifest
from ltxcore.protocols import Manifest
import numpy, torch
"""
    + PRIVATE
    + """
calls = {"loads": 0, "stat": 0, "scandir": 0}
def counted(module, name):
    own = getattr(module, name)
    def call(*arguments, **options):
        calls[name] += 1
        return own(*arguments, **options)
    setattr(module, name, call)
for module, name in ((json, "loads"), (os, "stat"), (os, "scandir")):
    counted(module, name)


gc.collect()
before = private()
manifest = read_manifest(Path(sys.argv[1]), ROLES)
chosen = split(manifest, None)
order = order_of(manifest, chosen.train, 4, 0)
first = order.micro_batch(0)
shapes = {manifest.entries["video"][name].shape for name in first.names}
gc.collect()
print(json.dumps({
    "bytes": private() - before, "train": len(chosen.train), "held out": len(chosen.held_out),
    "counts": order.counts, "shapes": len(shapes), **calls,
}))
"""
)


MAKING = (
    """
import gc, json, sys, threading
from pathlib import Path
from ltxcore.encoded.indexed_entries import IndexedEntries
from ltxcore.encoded.listing import list_folder
import numpy, torch
"""
    + PRIVATE
    + """
gc.collect()
before = most = private()
done = threading.Event()
def watch():
    global most
    while not done.wait(0.005):
        most = max(most, private())
watching = threading.Thread(target=watch)
watching.start()
listing = list_folder(Path(sys.argv[1]))
done.set()
watching.join()
print(json.dumps({"bytes": most - before, "samples": len(listing.entries), "indexed": isinstance(listing.entries, IndexedEntries)}))
"""
)


def _in_a_process(code: str, folder: Path) -> dict[str, Any]:
    """What a program prints about a folder, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux tells how much memory is a process's own")
def test_a_million_samples_open_in_a_few_calls_and_200_megabytes(tmp_path: Path) -> None:
    put_index(tmp_path / "set", 1_000_000)
    found = _in_a_process(OPENING, tmp_path / "set")
    assert (found["train"], found["held out"], found["shapes"]) == (999_968, 32, 1)
    assert sum(found["counts"]) == 999_968
    assert found["bytes"] <= 200e6
    assert found["loads"] <= 20
    assert found["stat"] <= 60
    assert found["scandir"] == 0


@pytest.mark.slow  # twenty thousand files are written first
def test_making_an_index_takes_few_bytes_for_each_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 20_000
    monkeypatch.setattr(columns, "SPILLED", count // 20)  # what is in memory between two writes is not proportional to the samples
    put_manifests(tmp_path / "set", count, folders=["latents"])
    tracemalloc.start()
    try:
        listing = list_folder(tmp_path / "set" / "latents")
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert _is_indexed(listing)
    assert len(listing.entries) == count
    assert most <= 150 * count  # a million then take 150 MB, beside the 20 MB that are in memory between two writes


@pytest.mark.whole
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux tells how much memory is a process's own")
def test_the_index_of_a_million_samples_is_made_in_200_megabytes(tmp_path: Path) -> None:
    put_manifests(tmp_path / "set", 1_000_000, folders=["latents"])
    found = _in_a_process(MAKING, tmp_path / "set" / "latents")
    assert (found["samples"], found["indexed"]) == (1_000_000, True)
    assert found["bytes"] <= 200e6
