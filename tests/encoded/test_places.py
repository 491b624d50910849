"""The table of places: whatever order files come in, each is found, and a mapped table takes no memory."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from helpers.encoded_sets import inpainting_set
from ltxcore.encoded import shards
from ltxcore.encoded.places import Place, Places, PlacesMade, places_at
from ltxcore.encoded.shards import in_shards, pack, place_in
from ltxcore.encoded.user_cache import index_in_cache

FOLDER = Path("/data/set/latents")


def made(**files: Mapping[str, tuple[int, int]]) -> Places:
    """The table of shards, each with the bytes before each of its files and their sizes."""
    table = PlacesMade()
    for number, (shard, own) in enumerate(files.items()):
        table.add_shard(shard, 100 + number, own)
    return table.places(FOLDER)


def test_each_file_is_found_in_its_shard() -> None:
    found = made(one={"a": (8, 5), "c": (13, 7)}, two={"d/e": (8, 1), "ß": (9, 2)})
    assert [*found] == ["a", "c", "d/e", "ß"]
    assert dict(found) == {
        "a": Place(FOLDER / "one", 8, 5, 100),
        "c": Place(FOLDER / "one", 13, 7, 100),
        "d/e": Place(FOLDER / "two", 8, 1, 101),
        "ß": Place(FOLDER / "two", 9, 2, 101),
    }
    assert [found.get(name) for name in ("", "b", "d", "z", "ßß")] == [None] * 5


def test_of_several_places_the_last_counts_whatever_their_order() -> None:
    found = made(one={"b": (8, 1), "c": (9, 1)}, two={"a": (8, 2), "c": (10, 2)}, three={"b": (8, 3)})
    assert {name: (place.shard.name, place.bytes) for name, place in found.items()} == {"a": ("two", 2), "b": ("three", 3), "c": ("two", 2)}
    table = PlacesMade()
    table.add_shard("one", 1, {"a": (8, 1)})
    table.add_file("a", 5, 2)
    assert dict(table.places(FOLDER)) == {"a": Place(FOLDER / "a", 0, 5, 2)}


@pytest.mark.parametrize("seed", range(3))
def test_many_files_in_any_order_are_found(seed: int) -> None:
    draw = random.Random(seed)
    names = [f"{draw.choice('äzAñ')}/{number}" for number in range(500)]
    draw.shuffle(names)
    parts = {f"shard{index}": {name: (draw.randrange(1000), draw.randrange(1000)) for name in names[index::7]} for index in range(7)}
    found = made(**parts)
    assert [*found] == sorted(names, key=str.encode)
    assert {name: (found[name].begin, found[name].bytes) for name in names} == {
        name: each for own in parts.values() for name, each in own.items()
    }


def test_a_saved_table_is_the_same_if_it_was_made_from_the_same(tmp_path: Path) -> None:
    found, path = made(one={"a": (8, 5), "c": (13, 7)}, two={"d/e": (8, 1)}), tmp_path / "latents.places"
    assert places_at(path, "mark", FOLDER) is None
    found.save(path, "mark")
    again = places_at(path, "mark", FOLDER)
    assert again == found
    assert places_at(path, "another mark", FOLDER) is None
    for damaged in (
        b"",
        path.read_bytes()[:30],
        b"\xff" * 100,
        path.read_bytes()[:8] + b"[]" + path.read_bytes()[10:],
        path.read_bytes()[:-2],
    ):
        path.write_bytes(damaged)
        assert places_at(path, "mark", FOLDER) is None


def test_an_empty_table_holds_nothing(tmp_path: Path) -> None:
    empty = PlacesMade().places(FOLDER)
    assert dict(empty) == {}
    empty.save(tmp_path / "places", "")
    assert places_at(tmp_path / "places", "", FOLDER) == {}


def test_files_on_another_machine_are_fetched_by_their_shard() -> None:
    asked = []

    def fetch(relative: str, begin: int, size: int) -> memoryview:
        asked.append((relative, begin, size))
        return memoryview(bytearray(size))

    table = PlacesMade()
    table.add_shard("shard-00000.safetensors", 1, {"a": (8, 5)})
    table.add_file("b", 3, 2)
    found = table.places(FOLDER, fetch)
    for name in ("a", "b"):
        place = found[name]
        assert place.fetch is not None
        place.fetch(place.begin, place.bytes)
    assert asked == [("shard-00000.safetensors", 8, 5), ("b", 0, 3)]


def test_the_headers_of_many_shards_are_read_once_until_a_shard_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(shards, "MANY", 2)
    inpainting_set(tmp_path, ["a", "b", "c"])
    folder = tmp_path / "audio_masks"
    pack(folder, [(f"{name}.safetensors", (folder / f"{name}.safetensors").stat().st_size) for name in "abc"], 1)
    read = []
    header = shards._header
    monkeypatch.setattr(shards, "_header", lambda path: read.append(path.name) or header(path))
    shards._known.clear()
    before = dict(in_shards(folder))
    assert len(read) == 3
    assert index_in_cache(folder).with_suffix(".places").is_file()
    shards._known.clear()  # as in another process
    assert dict(in_shards(folder)) == before
    assert len(read) == 3
    (folder / "shard-00001.safetensors").unlink()
    assert sorted(in_shards(folder)) == ["a.safetensors", "c.safetensors"]
    assert place_in(folder, "b.safetensors") is None
    assert len(read) == 5
