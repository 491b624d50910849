"""A set at an address is the same set: what is small is kept on this machine, and samples are read where they are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from helpers.encoded_sets import INPAINTING, inpainting_set, put, text, values
from helpers.slow_store import SlowStore, put_files, reads, slow_store
from ltxcore.addresses import Address
from ltxcore.encode.prompts import encode_prompts, missing_prompts, read_prompts
from ltxcore.encoded import index, mirror, remote
from ltxcore.encoded.folders import list_encoded
from ltxcore.encoded.manifest import read_manifest
from ltxcore.encoded.micro_batch import load_batch, verify
from ltxcore.encoded.mirror import opened
from ltxcore.encoded.remote import Store
from ltxcore.encoded.shards import in_shards
from ltxcore.encoded.upload import upload
from ltxcore.errors import DataError
from ltxcore.protocols import Batch

NAMES = ["a", "b", "clips/c", "clips/d", "e"]
FOLDERS = ["audio_latents", "audio_masks", "conditions"]
AT = Address("slow://bucket/set")


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[SlowStore]]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with slow_store() as store:
        yield store


@pytest.fixture
def root(tmp_path: Path) -> Path:
    inpainting_set(tmp_path / "set", NAMES)
    return tmp_path / "set"


def copied(root: Path, most: int = 10**9) -> None:
    upload(root, FOLDERS, Store.at(AT), most, lambda folder, samples: None)
    SlowStore.requests.clear()


def looked_at_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """As another process does, whatever this one has already seen."""
    monkeypatch.setattr(mirror, "FRESH", 0.0)
    SlowStore.requests.clear()


def loaded(root: Path, names: list[str] = NAMES[1:4]) -> Batch:
    return load_batch(root, INPAINTING, names, list(INPAINTING), read_manifest(root, INPAINTING))


def same(one: Batch, other: Batch) -> bool:
    assert one.stored_text is not None
    assert other.stored_text is not None
    return (
        one.names == other.names
        and torch.equal(one.latents["audio"].latents, other.latents["audio"].latents)
        and torch.equal(one.masks["audio.cond0.mask"], other.masks["audio.cond0.mask"])
        and torch.equal(one.stored_text.features["video"], other.stored_text.features["video"])
    )


def test_nothing_is_read_twice(root: Path, system: type[SlowStore], monkeypatch: pytest.MonkeyPatch) -> None:
    copied(root)
    there = opened(AT)
    assert opened(AT) == there
    begun = dict(system.requests)
    assert sorted(begun.values()) == [1] * 7  # a list, three manifests, three headers of shards
    assert same(loaded(there), loaded(root))
    read = {request: count for request, count in reads(system.requests).items() if request not in begun}
    assert sorted(read.values()) == [1] * 9  # of three samples, the files in three folders
    assert sum(end - start for _, _, start, end in read) == sum(
        (root / folder / f"{name}.safetensors").stat().st_size for folder in FOLDERS for name in NAMES[1:4]
    )
    looked_at_anew(monkeypatch)
    assert read_manifest(opened(AT), INPAINTING) == read_manifest(root, INPAINTING)
    assert dict(system.requests) == {("list", "/bucket/set"): 1}


def test_files_that_are_not_in_shards_are_each_read_in_one_request(root: Path, system: type[SlowStore]) -> None:
    put_files(system(), root, "/bucket/set")
    there = opened(AT)
    assert read_manifest(there, INPAINTING) == read_manifest(root, INPAINTING)
    system.requests.clear()
    assert same(loaded(there, ["clips/c"]), loaded(root, ["clips/c"]))
    sizes = {folder: (root / folder / "clips/c.safetensors").stat().st_size for folder in FOLDERS}
    assert system.requests == {("read", f"/bucket/set/{folder}/clips/c.safetensors", 0, size): 1 for folder, size in sizes.items()}


def test_of_many_shards_the_right_one_is_read(root: Path, system: type[SlowStore]) -> None:
    copied(root, most=1)
    assert sum("shard-" in path for path in system.store) == 15
    assert same(loaded(opened(AT), NAMES), loaded(root, NAMES))


def test_a_set_that_grows_is_fetched_only_where_it_changed(root: Path, system: type[SlowStore], monkeypatch: pytest.MonkeyPatch) -> None:
    copied(root)
    opened(AT)
    put(root, "audio_latents", "f", {"latents": values(8, 6, 16, seed=9)}, fingerprint="sound f", origin="f.wav")
    system().pipe_file("/bucket/set/audio_latents/f.safetensors", (root / "audio_latents" / "f.safetensors").read_bytes())
    system().pipe_file("/bucket/set/audio_latents/manifest-0.jsonl", (root / "audio_latents" / "manifest-0.jsonl").read_bytes())
    looked_at_anew(monkeypatch)
    there = opened(AT)
    assert [path for _, path, _, _ in reads(system.requests)] == ["/bucket/set/audio_latents/manifest-0.jsonl"]
    sources = {"audio": INPAINTING["audio"]}
    assert read_manifest(there, sources) == read_manifest(root, sources)
    assert "f" in read_manifest(there, sources).samples


def test_what_was_removed_there_is_gone_here(root: Path, system: type[SlowStore], monkeypatch: pytest.MonkeyPatch) -> None:
    copied(root)
    there = opened(AT)
    system().rm("/bucket/set/audio_masks", recursive=True)
    looked_at_anew(monkeypatch)
    opened(AT)
    assert sorted(path.name for path in there.iterdir() if not path.name.startswith(".")) == ["audio_latents", "conditions"]
    with pytest.raises(DataError, match=r'there is no folder "audio_masks" in slow://bucket/set\n'):
        read_manifest(there, INPAINTING)


def test_a_large_set_has_its_index_in_the_cache(root: Path, system: type[SlowStore], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "LARGE", 1)
    monkeypatch.setattr(index, "SETTLED", 0.0)
    copied(root)
    there = opened(AT)
    assert read_manifest(there, INPAINTING) == read_manifest(root, INPAINTING)
    assert index.open_index(there / "audio_latents") is not None
    looked_at_anew(monkeypatch)
    opened(AT)
    assert index.open_index(there / "audio_latents") is not None
    system().rm("/bucket/set/audio_latents/shard-00000.safetensors")
    opened(AT)
    assert index.open_index(there / "audio_latents") is None
    with pytest.raises(DataError, match='the manifest of "audio_latents" records 5 samples whose files are missing'):
        read_manifest(there, INPAINTING)


def test_a_sample_that_changed_in_place_is_found_when_all_its_bytes_are_compared(
    root: Path, system: type[SlowStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    put_files(system(), root, "/bucket/set")
    there = opened(AT)
    manifest = read_manifest(there, INPAINTING)
    assert verify(there, INPAINTING, NAMES, manifest) == 15
    path = "/bucket/set/audio_latents/b.safetensors"
    whole = system().cat_file(path)
    system().pipe_file(path, whole[:-4] + b"\0\0\0\1")
    with pytest.raises(DataError, match=r"^slow://bucket/set/audio_latents/b.safetensors: is damaged"):
        verify(there, INPAINTING, NAMES, manifest)
    system().pipe_file(path, whole[:-4])
    monkeypatch.setattr(remote, "WAITS", (0.0,) * 4)
    with pytest.raises(DataError, match=r"after 5 tries: OSError: [\d,]+ bytes were received instead of"):
        loaded(there, ["b"])


def test_a_header_that_is_longer_than_what_is_fetched_first_is_fetched_whole(
    root: Path, system: type[SlowStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "FIRST", 100)
    copied(root)
    assert same(loaded(opened(AT)), loaded(root))
    starts = [start for _, path, start, _ in reads(system.requests) if path.endswith("masks/shard-00000.safetensors")]
    assert starts[:2] == [0, 100]


def test_a_sample_that_is_named_like_a_shard_is_a_sample(root: Path, system: type[SlowStore]) -> None:
    put(root, "audio_latents", "shard-00007", {"latents": values(8, 6, 16)}, fingerprint="s", origin="s.wav")
    put_files(system(), root, "/bucket/set")
    assert "shard-00007" in read_manifest(opened(AT), {"audio": INPAINTING["audio"]}).samples


def test_samples_that_no_manifest_records_are_read_once(root: Path, system: type[SlowStore], monkeypatch: pytest.MonkeyPatch) -> None:
    before = list_encoded(root).folders[0].entries
    copied(root)
    system().rm("/bucket/set/audio_latents/manifest-0.jsonl")
    assert list_encoded(opened(AT)).folders[0].entries == before
    looked_at_anew(monkeypatch)
    assert list_encoded(opened(AT)).folders[0].entries == before
    assert reads(system.requests) == {}


def test_texts_of_prompts_are_kept_when_they_are_first_read(root: Path, system: type[SlowStore], monkeypatch: pytest.MonkeyPatch) -> None:
    class Encoder:
        """A text encoder whose features count letters."""

        fingerprint, length = "letters", 8

        def encode(self, prompts: list[str]) -> list[dict[str, torch.Tensor]]:
            return [text(len(prompt)) for prompt in prompts]

    assert encode_prompts(root, ["fox", "owl"], "letters", Encoder) == ["fox", "owl"]
    put_files(system(), root, "/bucket/set")
    there = opened(AT)
    system.requests.clear()
    assert missing_prompts(there, ["fox"], "letters") == []
    found = read_prompts(there, ["fox"], "letters")["fox"]
    assert torch.equal(found.features["video"], read_prompts(root, ["fox"], "letters")["fox"].features["video"])
    assert [count for _, count in system.requests.items()] == [1]
    assert encode_prompts(there, ["fox", "hen"], "letters", Encoder) == ["hen"]
    looked_at_anew(monkeypatch)
    assert missing_prompts(opened(AT), ["fox", "hen"], "letters") == []
    assert reads(system.requests) == {}


def test_what_is_no_set_is_refused(system: type[SlowStore]) -> None:
    with pytest.raises(DataError) as error:
        opened(AT)
    assert str(error.value) == (
        "slow://bucket/set: there is no encoded set\n    Correct the address, or copy a set there: `ltx shard SET --to ADDRESS`."
    )


def test_a_damaged_shard_is_named_by_its_address(root: Path, system: type[SlowStore]) -> None:
    copied(root)
    path = "/bucket/set/conditions/shard-00000.safetensors"
    system().pipe_file(path, system().cat_file(path)[:-10])
    with pytest.raises(DataError, match=r"^slow:/{2}bucket/set/conditions/shard-00000.safetensors: .*damaged or was not copied whole"):
        opened(AT)


def test_names_that_lead_elsewhere_are_left_alone(root: Path, system: type[SlowStore], tmp_path: Path) -> None:
    copied(root)
    system.store["/bucket/set/audio_latents/../../../evil.safetensors"] = system.store["/bucket/set/conditions/manifest-0.jsonl"]
    there = opened(AT)
    assert set(in_shards(there / "audio_latents")) == {f"{name}.safetensors" for name in NAMES}


def test_without_a_cache_that_can_be_written_its_folder_is_named(
    root: Path, system: type[SlowStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(root)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"its manifests cannot be kept: Not a directory\n    .*XDG_CACHE_HOME"):
        opened(AT)


def test_a_mirror_whose_list_is_torn_is_fetched_again(root: Path, system: type[SlowStore], monkeypatch: pytest.MonkeyPatch) -> None:
    copied(root)
    there = opened(AT)
    (there / mirror.LISTED).write_text(json.dumps(["torn"]))
    shutil.rmtree(there / "conditions")
    looked_at_anew(monkeypatch)
    assert same(loaded(opened(AT)), loaded(root))


def test_what_it_costs_to_wait_is_paid_by_several_readers_at_a_time(root: Path, system: type[SlowStore]) -> None:
    copied(root)
    there = opened(AT)
    manifest = read_manifest(there, INPAINTING)
    system.seconds = 0.02
    at_once: list[int] = []
    running = []
    plain = system.asked

    def asked(self: SlowStore, *request: object) -> str | None:
        running.append(request)
        at_once.append(len(running))
        try:
            return plain(self, *request)
        finally:
            running.remove(request)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(system, "asked", asked)
        assert verify(there, INPAINTING, NAMES, manifest) == 15
    assert max(at_once) > 1
