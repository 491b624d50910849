"""Samples are read straight into the rows of a micro-batch, with the same bits as if each were read alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from helpers.encoded_sets import AUDIO, AUDIO_MASK, TEXT, VIDEO, message, put, values
from ltxcore.encoded import rows
from ltxcore.encoded.manifest import read_manifest
from ltxcore.encoded.micro_batch import joined, load_samples
from ltxcore.encoded.rows import Wanted, in_rows, joined_rows
from ltxcore.encoded.sample_names import files_in
from ltxcore.encoded.shards import pack
from ltxcore.encoded.store import read_stored
from ltxcore.encoded.stored import Stored, of_captions
from ltxcore.errors import DataError
from ltxcore.protocols import Batch, Manifest, Source

NAMES = ["a", "b", "clips/c", "d"]
PICTURES = Source("pictures", "pictures", "video")
VALUES = Source("speeds", "values")
SOURCES = {"text": TEXT, "video": VIDEO, "audio": AUDIO, "mask": AUDIO_MASK, "pictures": PICTURES, "speed": VALUES}


def _set(root: Path, names: list[str] = NAMES) -> Manifest:
    """Samples of every kind: latents in bfloat16, texts of one to four positions, one of which begins at an odd number of bytes."""
    for number, name in enumerate(names):
        own = {"video": values(number + 1, 4, seed=number, dtype=torch.bfloat16), "audio": values(number + 1, 3, seed=number)}
        put(root, "conditions", name, own, shape=(8,), origin="x" * number)
        put(root, "latents", name, {"latents": values(16, 3, 2, 2, seed=number, dtype=torch.bfloat16)}, rate=16.0 + number)
        put(root, "audio_latents", name, {"latents": values(8, 6, 16, seed=number)})
        put(root, "audio_masks", name, {"mask": torch.linspace(0, 1 / (number + 1), 6)})
        put(root, "pictures", name, {"pictures": values(2, 16, 1, 2, 2, seed=number), "frames": torch.tensor([0.0, 8.0 + number])})
        put(root, "speeds", name, {"values": values(3, 5, seed=number, dtype=torch.float64)})
    return read_manifest(root, SOURCES)


def _tensors(batch: Batch) -> dict[str, Tensor]:
    assert batch.stored_text is not None
    found: Mapping[str, Any] = {
        **{role: each.latents for role, each in batch.latents.items()},
        **{f"{role} rate": each.rate for role, each in batch.latents.items()},
        **batch.masks,
        **batch.tensors,
        **{f"{role} frames": each.frames for role, each in batch.pictures.items()},
        **{role: each.latents for role, each in batch.pictures.items()},
        **{f"text {name}": each for name, each in batch.stored_text.features.items()},
    }
    return dict(found)


def _read(root: Path, manifest: Manifest, names: list[str] = NAMES, **rest: Any) -> tuple[list[Batch], Batch]:
    parts = [batch for batch, _ in load_samples(root, SOURCES, names, SOURCES, manifest, **rest)]
    return parts, joined(parts)


def _one_by_one(root: Path, manifest: Manifest, names: list[str] = NAMES) -> Batch:
    return joined([_read(root, manifest, [name])[1] for name in names])


def _same(one: Batch, other: Batch) -> None:
    ours, theirs = _tensors(one), _tensors(other)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype
        assert tensor.is_contiguous()
        assert torch.equal(tensor, theirs[name])
    assert one.names == other.names
    assert one.stored_text is not None
    assert other.stored_text is not None
    assert one.stored_text.words == other.stored_text.words


@pytest.mark.parametrize("place", ["files", "shards", "long headers"])
def test_samples_that_are_read_together_have_the_bits_of_those_read_alone(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = _set(tmp_path)
    if place == "shards":
        for folder in ("latents", "audio_latents", "audio_masks", "conditions", "pictures", "speeds"):
            pack(tmp_path / folder, [(each.relative, each.bytes) for each in files_in(tmp_path / folder).values()], 10**9)
        manifest = read_manifest(tmp_path, SOURCES)
    elif place == "long headers":
        monkeypatch.setattr(rows, "HEAD", 16)
    parts, batch = _read(tmp_path, manifest)
    _same(batch, _one_by_one(tmp_path, manifest))
    shares = {name: tensor.data_ptr() == _tensors(parts[0])[name].data_ptr() for name, tensor in _tensors(batch).items()}
    assert shares == {name: place != "long headers" and "rate" not in name for name in shares}


def test_the_order_of_the_samples_and_a_sample_that_comes_twice_are_kept(tmp_path: Path) -> None:
    manifest, names = _set(tmp_path), ["d", "a", "d"]
    _same(_read(tmp_path, manifest, names)[1], _one_by_one(tmp_path, manifest, names))


def test_a_sample_that_is_compared_with_its_checksum_takes_its_row_too(tmp_path: Path) -> None:
    manifest = _set(tmp_path)
    parts, batch = _read(tmp_path, manifest, check=["b"])
    _same(batch, _one_by_one(tmp_path, manifest))
    assert batch.latents["video"].latents.data_ptr() == parts[0].latents["video"].latents.data_ptr()
    path = tmp_path / "latents" / "b.safetensors"
    path.write_bytes(path.read_bytes()[:-2] + b"\x00\x00")
    with pytest.raises(DataError, match="is damaged"):
        _read(tmp_path, manifest, check=["b"])


def test_each_of_several_captions_is_a_text_of_its_own(tmp_path: Path) -> None:
    source = {"text": TEXT}
    for number, name in enumerate(["a", "b"]):
        captions = [{"video": values(words, 4, seed=words), "audio": values(words, 3, seed=words)} for words in (2, 3 + number)]
        put(tmp_path, "conditions", name, of_captions(captions), shape=(8,))
    manifest = read_manifest(tmp_path, source)
    together = load_samples(tmp_path, source, ["a", "b"], source, manifest)
    for (_, texts), name in zip(together, ["a", "b"], strict=True):
        ((_, alone),) = load_samples(tmp_path, source, [name], source, manifest)
        assert [text.words for text in texts] == [text.words for text in alone]
        assert all(torch.equal(ours.features["video"], own.features["video"]) for ours, own in zip(texts, alone, strict=True))
    batch = joined([each for each, _ in together])
    assert batch.stored_text is not None
    assert batch.stored_text.words == (2, 2)
    assert torch.equal(batch.stored_text.features["audio"], torch.cat([values(2, 3, seed=2)] * 2))


def _wanted(root: Path, manifest: Manifest) -> list[Wanted]:
    return [Wanted(root / "audio_latents" / f"{name}.safetensors", name, manifest.entries["audio"][name]) for name in NAMES]


def test_a_file_that_is_cut_while_it_is_read_is_refused_and_the_others_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, opening = _wanted(tmp_path, _set(tmp_path)), rows._open

    def cut(path: Path, stack: ExitStack) -> Any:
        opened = opening(path, stack)
        if path.name == "b.safetensors":
            os.truncate(path, path.stat().st_size - 4)
        return opened

    monkeypatch.setattr(rows, "_open", cut)
    first, second, *others = in_rows(AUDIO, wanted)
    assert isinstance(second, DataError)
    size = wanted[1].entry.bytes
    assert f"ROOT/audio_latents/b.safetensors: is truncated: only {size - 4} of {size} bytes are there" in message(second, tmp_path)
    for found, each in zip([first, *others], [wanted[0], *wanted[2:]], strict=True):
        assert isinstance(found, Stored)
        assert torch.equal(found.tensors["latents"], read_stored(each.path)[0].tensors["latents"])


def test_a_file_that_no_row_can_be_made_of_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    wanted = _wanted(tmp_path, _set(tmp_path))
    wanted[2].path.unlink()
    os.mkfifo(wanted[2].path)  # which nobody writes to, so that opening it would wait forever
    found = in_rows(AUDIO, wanted)
    assert [isinstance(each, DataError) for each in found] == [False, False, True, False]


@pytest.mark.parametrize("change", ["gap", "other dtype", "other memory", "transposed", "other order"])
def test_tensors_that_do_not_follow_each_other_are_copied(change: str) -> None:
    whole = values(6, 4, 4)
    tensors = [whole[:2], whole[2:3], whole[3:]]
    assert joined_rows(tensors).data_ptr() == whole.data_ptr()
    tensors = {
        "gap": [whole[:2], whole[3:]],
        "other dtype": [whole[:2], whole[2:].double()],
        "other memory": [whole[:2], whole[2:].clone()],
        "transposed": [each.transpose(1, 2) for each in tensors],
        "other order": tensors[::-1],
    }[change]
    found = joined_rows(tensors)
    assert found.data_ptr() != whole.data_ptr()
    assert torch.equal(found, torch.cat(tensors))
