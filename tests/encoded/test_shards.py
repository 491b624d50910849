"""A folder of samples may keep its files in shards: each has the same bytes there, and everything else stays as it is."""

from __future__ import annotations

import errno
import json
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch

from helpers.encoded_sets import INPAINTING, inpainting_set, message, put, values
from ltxcore.encoded import shards
from ltxcore.encoded.listing import list_folder
from ltxcore.encoded.manifest import read_manifest, remove_sample
from ltxcore.encoded.micro_batch import load_batch, verify
from ltxcore.encoded.sample_names import files_in, find_sample
from ltxcore.encoded.shards import in_shards, pack, place_in, unpack
from ltxcore.encoded.store import read_recorded, read_stored
from ltxcore.errors import DataError
from ltxcore.protocols import Entry

NAMES = ["a", "b", "clips/c", "clips/d", "e"]


def packed(folder: Path, most: int = 10**9) -> int:
    own = [file for file in files_in(folder).values() if file.path.exists()]
    return pack(folder, [(file.path.relative_to(folder).as_posix(), file.bytes) for file in own], most)


def contents(root: Path) -> Mapping[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*.*")) if path.is_file()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    inpainting_set(tmp_path, NAMES)
    return tmp_path


def test_a_set_in_shards_is_the_same_set(root: Path) -> None:
    before, manifest = contents(root), read_manifest(root, INPAINTING)
    batch = load_batch(root, INPAINTING, NAMES[1:4], list(INPAINTING), manifest)
    for folder in ("audio_latents", "audio_masks", "conditions"):
        assert packed(root / folder) == 1
        assert [path.name for path in sorted((root / folder).rglob("*.safetensors"))] == ["shard-00000.safetensors"]
    again = read_manifest(root, INPAINTING)
    assert again == manifest
    found = load_batch(root, INPAINTING, NAMES[1:4], list(INPAINTING), again)
    assert torch.equal(found.latents["audio"].latents, batch.latents["audio"].latents)
    assert torch.equal(found.masks["audio.cond0.mask"], batch.masks["audio.cond0.mask"])
    assert found.stored_text is not None
    assert batch.stored_text is not None
    assert torch.equal(found.stored_text.features["video"], batch.stored_text.features["video"])
    assert verify(root, INPAINTING, NAMES, again) == 15
    assert sum(unpack(root / folder) for folder in ("audio_latents", "audio_masks", "conditions")) == 15
    assert contents(root) == before


def test_a_set_without_manifests_is_indexed_from_its_shards(root: Path) -> None:
    entries = list_folder(root / "audio_latents").entries
    packed(root / "audio_latents")
    (root / "audio_latents" / "manifest-0.jsonl").unlink()
    assert list_folder(root / "audio_latents").entries == entries


def test_files_of_ltx_trainer_can_be_in_shards(tmp_path: Path) -> None:
    (tmp_path / "latents").mkdir()
    torch.save({"latents": values(16, 3, 2, 2), "fps": 24.0}, tmp_path / "latents" / "a.pt")
    expected = read_recorded(tmp_path / "latents" / "a.pt")[1]
    packed(tmp_path / "latents")
    assert list_folder(tmp_path / "latents").entries == {"a": expected}
    assert read_recorded(find_sample(tmp_path, "latents", "a"))[1] == expected


def test_a_shard_is_a_safetensors_file_with_the_bytes_of_each_file(root: Path) -> None:
    before = contents(root / "audio_latents")
    packed(root / "audio_latents", most=5000)
    found = {}
    for path in sorted((root / "audio_latents").glob("shard-*")):
        with safetensors.safe_open(path, "pt") as file:
            found |= {name: bytes(file.get_tensor(name).numpy()) for name in file.keys()}  # noqa: SIM118 (no mapping)
    assert found == {name: data for name, data in before.items() if name.endswith(".safetensors")}


def test_a_shard_ends_with_the_sample_that_fills_it(root: Path) -> None:
    size = files_in(root / "audio_latents")["a"].bytes
    assert packed(root / "audio_latents", most=2 * size) == 3
    assert [path.name for path in sorted((root / "audio_latents").glob("shard-*"))] == [f"shard-0000{n}.safetensors" for n in range(3)]


def test_only_the_place_of_a_sample_is_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed(root / "audio_latents")
    place = in_shards(root / "audio_latents")["clips/c.safetensors"]
    with place.shard.open("r+b") as file:  # whatever is before and behind it
        file.seek(place.begin - 8)
        file.write(b"spoiled!")
        file.seek(place.begin + place.bytes)
        file.write(b"spoiled!")
    assert torch.equal(read_stored(root / "audio_latents/clips/c.safetensors")[0].tensors["latents"], values(8, 6, 16, seed=2))


def test_samples_that_are_encoded_again_or_added_count_and_are_moved_into_further_shards(root: Path) -> None:
    packed(root / "audio_latents")
    put(root, "audio_latents", "b", {"latents": values(8, 6, 16, seed=70)}, fingerprint="sound b again", rank=1)
    put(root, "audio_latents", "new", {"latents": values(8, 6, 16, seed=71)}, rank=1)
    expected = list_folder(root / "audio_latents").entries
    assert expected["b"].fingerprint == "sound b again"
    assert len(expected) == 6
    assert packed(root / "audio_latents") == 1
    assert list_folder(root / "audio_latents").entries == expected
    assert torch.equal(read_stored(root / "audio_latents/b.safetensors")[0].tensors["latents"], values(8, 6, 16, seed=70))
    assert packed(root / "audio_latents") == 0


class Killed(Exception):
    pass


@pytest.mark.parametrize("after", range(5))
def test_work_that_was_interrupted_anywhere_loses_nothing_and_is_done_by_the_next_call(root: Path, after: int) -> None:
    expected = list_folder(root / "audio_latents").entries
    own = [(file.path.relative_to(root / "audio_latents").as_posix(), file.bytes) for file in files_in(root / "audio_latents").values()]
    copies = {relative: (root / "audio_latents" / relative).read_bytes() for relative, _ in own}
    done: list[None] = []

    def stop() -> None:
        done.append(None)
        if len(done) > after:
            raise Killed

    with pytest.raises(Killed):
        pack(root / "audio_latents", own, 9000, stop)
    last = own[after][0]  # killed after the shard was written, and before the file was removed
    (root / "audio_latents" / last).write_bytes(copies[last])
    assert list_folder(root / "audio_latents").entries == expected
    packed(root / "audio_latents")
    assert list_folder(root / "audio_latents").entries == expected
    assert len(in_shards(root / "audio_latents")) == 5
    assert not (root / "audio_latents" / last).exists()


def test_a_shard_whose_number_would_be_too_high_to_be_read_is_not_written(root: Path) -> None:
    folder = root / "audio_latents"
    pack(folder, [("a.safetensors", (folder / "a.safetensors").stat().st_size)], 1)
    (folder / "shard-00000.safetensors").rename(folder / "shard-99998.safetensors")
    before = contents(folder)
    with pytest.raises(DataError, match=r"would have more than 100,000 shards.*\n.*with a larger --size"):
        packed(folder, most=1)
    assert contents(folder) == before
    assert packed(folder) == 1
    assert sorted(files_in(folder)) == NAMES


def test_a_disk_that_is_full_leaves_every_file_where_it_is(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(root)

    def full(source: object, target: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shards, "_copied", full)
    with pytest.raises(OSError, match="No space left"):
        packed(root / "audio_latents")
    assert contents(root) == before


def test_a_run_that_reads_while_files_are_moved_finds_them(root: Path) -> None:
    manifest = read_manifest(root, INPAINTING)
    assert place_in(root / "audio_latents", "a.safetensors") is None  # so the folder is known to have no shards
    packed(root / "audio_latents")
    assert load_batch(root, INPAINTING, ["a"], list(INPAINTING), manifest).names == ("a",)


def test_a_shard_that_is_gone_is_as_if_its_samples_were_gone(root: Path) -> None:
    manifest = read_manifest(root, INPAINTING)
    packed(root / "audio_latents")
    (root / "audio_latents" / "shard-00000.safetensors").unlink()
    assert list_folder(root / "audio_latents").gone == tuple(NAMES)
    with pytest.raises(DataError) as caught:
        load_batch(root, INPAINTING, ["a"], list(INPAINTING), manifest)
    assert message(caught.value, root) == "ROOT/audio_latents/a.safetensors: there is no such file\n    Run `ltx preprocess` again."


@pytest.mark.parametrize("cut", [1, 3000])
def test_a_shard_that_was_not_copied_whole_is_named(root: Path, cut: int) -> None:
    packed(root / "audio_latents")
    path = root / "audio_latents" / "shard-00000.safetensors"
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(DataError) as caught:
        list_folder(root / "audio_latents")
    assert (
        message(caught.value, root)
        == "ROOT/audio_latents/shard-00000.safetensors: cannot be read: the shard is damaged or was not copied whole"
    )


def test_a_damaged_sample_in_a_shard_costs_itself_alone(root: Path) -> None:
    manifest = read_manifest(root, INPAINTING)
    packed(root / "audio_latents")
    place = in_shards(root / "audio_latents")["b.safetensors"]
    with place.shard.open("r+b") as file:
        file.seek(place.begin + place.bytes - 4)
        file.write(b"\x00\x00\xc0\x7f")
    with pytest.raises(DataError) as caught:
        verify(root, INPAINTING, NAMES, manifest)
    (problem,) = caught.value.problems
    assert (problem.where, problem.what[:10]) == (str(root / "audio_latents/b.safetensors"), "is damaged")


def test_a_sample_called_like_a_shard_is_a_sample(tmp_path: Path) -> None:
    put(tmp_path, "audio_latents", "shard-00000", {"latents": values(8, 6, 16)})
    assert list(list_folder(tmp_path / "audio_latents").entries) == ["shard-00000"]
    assert in_shards(tmp_path / "audio_latents") == {}


def test_a_sample_called_like_a_shard_never_replaces_the_shard(root: Path) -> None:
    packed(root / "audio_latents")
    with pytest.raises(DataError, match="a shard with other samples has this name"):
        put(root, "audio_latents", "shard-00000", {"latents": values(8, 6, 16)})
    assert sorted(list_folder(root / "audio_latents").entries) == NAMES


def test_a_sample_in_a_shard_counts_before_a_file_of_ltx_trainer_of_the_same_name(root: Path) -> None:
    torch.save({"latents": values(8, 6, 16, seed=9)}, root / "audio_latents/a.pt")
    expected = list_folder(root / "audio_latents")
    packed(root / "audio_latents")
    assert list_folder(root / "audio_latents") == expected
    assert not expected.at_fault
    assert files_in(root / "audio_latents")["a"].path == find_sample(root, "audio_latents", "a")


def test_a_sample_that_is_encoded_again_while_it_is_moved_is_kept(root: Path) -> None:
    again: list[Entry] = []

    def encode_again() -> None:
        if not again:  # after the first file was moved, and before the others are removed
            again.append(put(root, "audio_latents", "e", {"latents": values(8, 6, 16, seed=70)}, fingerprint="again", rank=1))

    files = [(f"{name}.safetensors", files_in(root / "audio_latents")[name].bytes) for name in NAMES]
    pack(root / "audio_latents", files, 10**9, encode_again)
    assert torch.equal(read_stored(root / "audio_latents/e.safetensors")[0].tensors["latents"], values(8, 6, 16, seed=70))
    assert list_folder(root / "audio_latents").entries["e"].fingerprint == "again"


def test_a_shortened_name_is_read_in_a_shard(tmp_path: Path) -> None:
    name = "long " * 60
    put(tmp_path, "audio_latents", name, {"latents": values(8, 6, 16)})
    (tmp_path / "audio_latents/manifest-0.jsonl").unlink()
    packed(tmp_path / "audio_latents")
    assert list(list_folder(tmp_path / "audio_latents").entries) == [name]


@pytest.mark.parametrize(
    "slot", [{"dtype": "F32"}, {"data_offsets": [1, 0]}, {"data_offsets": [-1, 1]}, {"data_offsets": [0.0, 1.0]}, {"data_offsets": [0, 2]}]
)
def test_places_in_a_shard_that_are_no_places_are_refused(tmp_path: Path, slot: dict[str, object]) -> None:
    (tmp_path / "latents").mkdir()
    slots = {"a.safetensors": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1], **slot}}
    header = json.dumps({"__metadata__": {"layout": shards.LAYOUT}, **slots})
    (tmp_path / "latents" / "shard-00000.safetensors").write_bytes(struct.pack("<Q", len(header)) + header.encode() + b"x")
    with pytest.raises(DataError, match="is damaged"):
        list_folder(tmp_path / "latents")


@pytest.mark.parametrize("name", ["../a.safetensors", "/a.safetensors", "clips/../../a.safetensors", "clips//a.safetensors"])
def test_names_in_a_shard_that_lead_out_of_its_folder_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "latents").mkdir()
    header = json.dumps({"__metadata__": {"layout": shards.LAYOUT}, name: {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}})
    (tmp_path / "latents" / "shard-00000.safetensors").write_bytes(struct.pack("<Q", len(header)) + header.encode() + b"x")
    with pytest.raises(DataError, match="is damaged"):
        list_folder(tmp_path / "latents")


def test_a_sample_in_a_shard_cannot_be_removed_before_the_set_is_unpacked(root: Path) -> None:
    packed(root / "audio_latents")
    with pytest.raises(DataError) as caught:
        remove_sample(root, "audio_latents", "b")
    assert message(caught.value, root) == (
        "ROOT/audio_latents/b.safetensors: cannot be removed, because it is in the shard shard-00000.safetensors\n"
        "    Run `ltx shard --unpack ROOT`, and then the same command again."
    )
    unpack(root / "audio_latents")
    remove_sample(root, "audio_latents", "b")
    assert "b" not in list_folder(root / "audio_latents").entries


def test_a_copy_of_a_set_in_shards_is_the_same_set(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    manifest = read_manifest(root, INPAINTING)
    packed(root / "audio_latents")
    copy = shutil.copytree(root, tmp_path_factory.mktemp("copy") / "set")
    assert read_manifest(copy, INPAINTING) == manifest
