"""Samples come back bit for bit, and a file that is none says why."""

import errno
import hashlib
import json
import os
import struct
from pathlib import Path

import attrs
import pytest
import safetensors
import safetensors.torch
import torch

from helpers.encoded_sets import message, read_latents, read_text, text, values
from ltxcore.encoded.sample_names import find_sample
from ltxcore.encoded.store import (
    OWN,
    checksum,
    damage,
    read_mask,
    read_recorded,
    read_stored,
    redo,
    told_name,
    write_sample,
)
from ltxcore.errors import DataError
from ltxcore.protocols import Entry

REDO = f"\n    {OWN}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(128, 3, 2, 2), (8, 27, 16)])
def test_latents_come_back_bit_for_bit(tmp_path: Path, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    latents = values(*shape, dtype=dtype)
    write_sample(tmp_path, "latents", "clips/a", {"latents": latents}, Entry((), rate=29.97002997002997))
    found, rate = read_latents(tmp_path / "latents" / "clips" / "a.safetensors")
    assert found.dtype == dtype
    assert torch.equal(found, latents)
    assert rate == (29.97002997002997 if len(shape) == 4 else None)


@pytest.mark.parametrize("shape", [(3, 2, 2), (27,)])
def test_masks_come_back_with_their_soft_values(tmp_path: Path, shape: tuple[int, ...]) -> None:
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    write_sample(tmp_path, "masks", "a", {"mask": mask}, Entry(()))
    assert torch.equal(read_mask(tmp_path / "masks" / "a.safetensors"), mask)


@pytest.mark.parametrize("words", [0, 1, 8])
def test_text_comes_back_without_padding_and_with_its_length(tmp_path: Path, words: int) -> None:
    features = text(words)
    write_sample(tmp_path, "conditions", "a", features, Entry((8,)))
    found, length = read_text(tmp_path / "conditions" / "a.safetensors")
    assert length == 8
    assert set(found) == {"video", "audio"}
    assert all(torch.equal(found[key], features[key]) for key in features)


def test_the_entry_that_comes_back_knows_what_was_measured(tmp_path: Path) -> None:
    told = Entry((), rate=24.0, fingerprint="f", origin="a.mp4", encoder="dct-1")
    entry = write_sample(tmp_path, "latents", "a", {"latents": values(128, 3, 2, 2)}, told)
    data = (tmp_path / "latents" / "a.safetensors").read_bytes()
    measured = Entry((128, 3, 2, 2), 24.0, True, len(data), "f", "a.mp4", "dct-1", "latents", "video")
    assert entry == attrs.evolve(measured, checksum=checksum(data))


def test_the_entry_of_text_has_its_padded_length_and_its_modalities(tmp_path: Path) -> None:
    entry = write_sample(tmp_path, "conditions", "a", text(3), Entry((32,)))
    assert (entry.shape, entry.kind, entry.modality) == ((32,), "text", "video+audio")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_one_value_that_is_not_finite_is_told_by_the_entry(tmp_path: Path, value: float) -> None:
    latents = values(8, 27, 16)
    latents[3, 5, 7] = value
    assert not write_sample(tmp_path, "audio_latents", "a", {"latents": latents}, Entry(())).finite


def test_the_header_says_what_is_known_of_the_sample(tmp_path: Path) -> None:
    told = Entry((), rate=25, fingerprint="f", origin="ä.mp4", encoder="dct-1")
    write_sample(tmp_path, "latents", "a", {"latents": values(128, 3, 2, 2)}, told)
    with safetensors.safe_open(tmp_path / "latents" / "a.safetensors", "pt") as file:
        assert file.metadata() == {
            "kind": "latents", "modality": "video", "rate": "25.0", "fingerprint": "f", "origin": "ä.mp4", "encoder": "dct-1",
        }  # fmt: skip
    sample, size = read_stored(tmp_path / "latents" / "a.safetensors")
    assert sample.entry(size) == Entry((128, 3, 2, 2), 25.0, True, size, "f", "ä.mp4", "dct-1", "latents", "video")


def test_a_file_made_by_hand_without_a_header_of_ours_is_read(tmp_path: Path) -> None:
    safetensors.torch.save_file({"mask": torch.ones(5)}, tmp_path / "a.safetensors")
    assert torch.equal(read_mask(tmp_path / "a.safetensors"), torch.ones(5))


def test_views_that_share_memory_are_stored_apart(tmp_path: Path) -> None:
    both = values(5, 8)
    write_sample(tmp_path, "conditions", "a", {"video": both[:, :6], "audio": both[:, :6]}, Entry((8,)))
    found, _ = read_text(tmp_path / "conditions" / "a.safetensors")
    assert torch.equal(found["audio"], both[:, :6])


def test_a_name_that_climbs_out_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        write_sample(tmp_path / "root", "latents", "../../a", {"latents": values(8, 3, 16)}, Entry(()))
    assert list(tmp_path.iterdir()) == []


def test_an_entry_of_another_shape_than_the_tensors_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"says shape \(8, 4, 16\), the tensors \(8, 3, 16\)"):
        write_sample(tmp_path, "latents", "a", {"latents": values(8, 3, 16)}, Entry((8, 4, 16)))


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError) as caught:
        write_sample(tmp_path, "latents", "a", {"latents": values(8, 3, 16)}, Entry(()))
    expected = "ROOT/latents/a.safetensors: cannot be written: No space left on device\n    Free some space, or name another data root."
    assert message(caught.value, tmp_path) == expected
    assert list((tmp_path / "latents").iterdir()) == []


WRONG = {
    "nothing": (
        {},
        Entry(()),
        'this file holds no tensors; a sample holds "latents", "mask", "pictures" and "frames", "values", or text features named "video" and "audio"',
    ),
    "other names": (
        {"latent": torch.zeros(8, 3, 16), "mask": torch.zeros(3)},
        Entry(()),
        'this file holds latent, mask; a sample holds "latents", "mask", "pictures" and "frames", "values", or text features named "video" and "audio"',
    ),
    "whole numbers": ({"latents": torch.zeros(8, 3, 16, dtype=torch.int64)}, Entry(()), "latents is of type int64, not floating point"),
    "two axes": (
        {"latents": torch.zeros(6, 128)},
        Entry(()),
        "latents of shape [6, 128] are neither video [C, F, H, W] nor audio [C, T, M]",
    ),
    "no frames": (
        {"latents": torch.zeros(128, 0, 2, 2)},
        Entry(()),
        "latents of shape [128, 0, 2, 2] are neither video [C, F, H, W] nor audio [C, T, M]",
    ),
    "mask of two axes": (
        {"mask": torch.zeros(3, 2)},
        Entry(()),
        "a mask of shape [3, 2] fits neither a video, [F, H, W], nor a sound, [T]",
    ),
    "mask of pixels": (
        {"mask": torch.tensor([0.0, 255.0])},
        Entry(()),
        "the mask has values from 0 to 255; they must lie between 0 (generated) and 1 (given)",
    ),
    "rate of nothing": ({"latents": torch.zeros(8, 3, 2, 2)}, Entry((), rate=0.0), "a rate of 0 frames per second is not possible"),
    "rate of NaN": (
        {"latents": torch.zeros(8, 3, 2, 2)},
        Entry((), rate=float("nan")),
        "a rate of nan frames per second is not possible",
    ),
    "text without length": ({"video": torch.zeros(5, 8)}, Entry(()), "text features do not say what length they are padded to"),
    "text too long": ({"video": torch.zeros(5, 8)}, Entry((4,)), "text features have 5 tokens, but their stated length is 4"),
    "text of two lengths": (
        {"video": torch.zeros(5, 8), "audio": torch.zeros(4, 8)},
        Entry((8,)),
        "text features must be [l, E] with the same l for every modality, not audio [4, 8], video [5, 8]",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_sample_is_not_written(tmp_path: Path, case: str) -> None:
    tensors, entry, what = WRONG[case]
    with pytest.raises(DataError) as caught:
        write_sample(tmp_path, "folder", "a", tensors, entry)
    assert message(caught.value, tmp_path) == f"ROOT/folder/a.safetensors: {what}"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("case", [case for case in WRONG if not case.startswith(("text", "rate"))])
def test_what_is_no_sample_is_not_read(tmp_path: Path, case: str) -> None:
    tensors, _, what = WRONG[case]
    safetensors.torch.save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(DataError) as caught:
        read_stored(tmp_path / "a.safetensors")
    assert message(caught.value, tmp_path) == f"ROOT/a.safetensors: {what}{REDO}"


def test_a_header_whose_rate_is_no_number_is_named(tmp_path: Path) -> None:
    safetensors.torch.save_file({"latents": torch.zeros(8, 3, 2, 2)}, tmp_path / "a.safetensors", metadata={"rate": "fast"})
    with pytest.raises(DataError) as caught:
        read_stored(tmp_path / "a.safetensors")
    what = "the header says rate 'fast' and length None; if given, each must be a number"
    assert message(caught.value, tmp_path) == f"ROOT/a.safetensors: {what}{REDO}"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_latents(tmp_path / "a.safetensors")
    assert message(caught.value, tmp_path) == "ROOT/a.safetensors: there is no such file\n    Run `ltx preprocess` again."


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").mkdir()
    with pytest.raises(DataError) as caught:
        read_latents(tmp_path / "a.safetensors")
    assert message(caught.value, tmp_path) == "ROOT/a.safetensors: cannot be read: Is a directory"


def test_a_truncated_file_says_how_much_is_there(tmp_path: Path) -> None:
    entry = write_sample(tmp_path, "latents", "a", {"latents": values(8, 3, 16)}, Entry(()))
    path = tmp_path / "latents" / "a.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError) as caught:
        read_latents(path)
    assert message(caught.value, tmp_path) == f"ROOT/latents/a.safetensors: is truncated: only 1000 of {entry.bytes} bytes are there{REDO}"


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "is truncated or not a safetensors file: it has 0 bytes"),
        (b"\x00\x00\x00", "is truncated or not a safetensors file: it has 3 bytes"),
        (b"not a tensor in sight", "is truncated or not a safetensors file: it has no readable header"),
        (struct.pack("<Q", 2) + b"[]" + bytes(8), "is truncated or not a safetensors file: it has no readable header"),
    ],
)
def test_a_file_that_is_not_safetensors_is_named(tmp_path: Path, data: bytes, what: str) -> None:
    (tmp_path / "a.safetensors").write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_latents(tmp_path / "a.safetensors")
    assert message(caught.value, tmp_path) == f"ROOT/a.safetensors: {what}{REDO}"


def test_a_header_that_does_not_describe_its_bytes_is_named(tmp_path: Path) -> None:
    header = json.dumps({"latents": {"dtype": "F32", "shape": [8, 3, 16], "data_offsets": [0, 8]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    with pytest.raises(DataError) as caught:
        read_latents(tmp_path / "a.safetensors")
    assert message(caught.value, tmp_path).startswith("ROOT/a.safetensors: is a damaged safetensors file: ")
    assert message(caught.value, tmp_path).endswith(REDO)


def test_a_file_cut_at_any_byte_is_an_error_that_names_it(tmp_path: Path) -> None:
    write_sample(tmp_path, "masks", "a", {"mask": torch.ones(7)}, Entry((), fingerprint="f", origin="o"))
    path = tmp_path / "masks" / "a.safetensors"
    data = path.read_bytes()
    for cut in range(len(data)):
        path.write_bytes(data[:cut])
        with pytest.raises(DataError) as caught:
            read_mask(path)
        assert message(caught.value, tmp_path).startswith("ROOT/masks/a.safetensors: is truncated")


def test_a_file_of_another_kind_says_what_it_holds(tmp_path: Path) -> None:
    for name, tensors in (("video", {"latents": values(8, 3, 2, 2)}), ("mask", {"mask": torch.ones(3)}), ("text", text())):
        write_sample(tmp_path, "any", name, tensors, Entry((8,) if name == "text" else ()))

    def refused(read: object, name: str) -> str:
        with pytest.raises(DataError) as caught:
            read(tmp_path / "any" / f"{name}.safetensors")  # type: ignore[operator]
        return message(caught.value, tmp_path)

    assert refused(read_mask, "video") == "ROOT/any/video.safetensors: holds video latents, not a mask"
    assert refused(read_latents, "mask") == "ROOT/any/mask.safetensors: holds an audio mask, not latents"
    assert refused(read_latents, "text") == "ROOT/any/text.safetensors: holds text features, not latents"
    assert refused(read_text, "video") == "ROOT/any/video.safetensors: holds video latents, not text features"


# ---- the same bytes, and a checksum of them


def test_a_sample_that_is_written_again_has_the_same_bytes(tmp_path: Path) -> None:
    told = Entry((), rate=25.0, fingerprint="f", origin="clips/ä.mp4", encoder="dct-1")
    written = {
        write_sample(tmp_path / str(number), "latents", "a", {"latents": values(16, 3, 2, 2)}, told).checksum for number in range(12)
    }
    assert len(written) == 1
    features = {write_sample(tmp_path / str(number), "conditions", "a", text(4), Entry((8,), encoder="e")).checksum for number in range(12)}
    assert len(features) == 1
    files = [path.read_bytes() for path in sorted(tmp_path.rglob("latents/a.safetensors"))]
    assert len(files) == 12
    assert set(files) == {files[0]}


def test_the_values_begin_where_a_processor_likes_them_to(tmp_path: Path) -> None:
    for number in range(9):  # safetensors wants a multiple of 8
        write_sample(tmp_path, "masks", "a", {"mask": torch.ones(7)}, Entry((), fingerprint="f" * number))
        assert struct.unpack("<Q", (tmp_path / "masks" / "a.safetensors").read_bytes()[:8])[0] % 8 == 0


def test_the_checksum_is_of_the_bytes_that_were_written_and_that_are_read(tmp_path: Path) -> None:
    entry = write_sample(tmp_path, "latents", "a", {"latents": values(16, 3, 2, 2)}, Entry(()))
    path = tmp_path / "latents" / "a.safetensors"
    assert entry.checksum == checksum(path.read_bytes()) == hashlib.sha256(path.read_bytes()).hexdigest()[:32]
    assert read_recorded(path)[1] == entry


def test_any_flipped_bit_is_noticed(tmp_path: Path) -> None:
    entry = write_sample(tmp_path, "masks", "a", {"mask": torch.full((7,), 0.5)}, Entry((), fingerprint="f"))
    path = tmp_path / "masks" / "a.safetensors"
    whole = path.read_bytes()
    assert damage(path, entry) is None
    for bit in range(0, 8 * len(whole), 11):
        path.write_bytes(whole[: bit // 8] + bytes([whole[bit // 8] ^ 1 << bit % 8]) + whole[bit // 8 + 1 :])
        problem = damage(path, entry)
        assert problem is not None
        told = message(DataError.of([problem]), tmp_path)
        assert told == f"ROOT/masks/a.safetensors: is damaged: its content differs from what was written{REDO}"


def test_a_file_without_a_checksum_is_taken_as_it_is_as_long_as_it_can_be_read(tmp_path: Path) -> None:
    entry = attrs.evolve(write_sample(tmp_path, "masks", "a", {"mask": torch.ones(7)}, Entry(())), checksum="")
    path = tmp_path / "masks" / "a.safetensors"
    path.write_bytes(bytes(entry.bytes))
    assert damage(path, entry) is None
    path.unlink()
    problem = damage(path, entry)
    assert problem is not None
    assert problem.what == "there is no such file"


def test_an_origin_that_is_no_text_is_spelled_out_and_the_sample_is_read_again(tmp_path: Path) -> None:
    told = Entry((), origin=os.fsdecode(b"caf\xe9.mp4"))
    entry = write_sample(tmp_path, "masks", os.fsdecode(b"caf\xe9"), {"mask": torch.ones(7)}, told)
    assert entry.origin == "caf\\udce9.mp4"
    (path,) = (tmp_path / "masks").iterdir()
    assert read_recorded(path)[1] == entry


@pytest.mark.parametrize("name", ["x" * 250, "clips/" + "猫" * 84, os.fsdecode(b"\xe9" * 250)])
def test_a_file_whose_name_was_shortened_says_the_whole_name(tmp_path: Path, name: str) -> None:
    write_sample(tmp_path, "masks", name, {"mask": torch.ones(7)}, Entry(()))
    path = find_sample(tmp_path, "masks", name)
    assert told_name(path) == name
    assert torch.equal(read_mask(path), torch.ones(7))


def test_a_file_whose_name_fits_says_no_name(tmp_path: Path) -> None:
    write_sample(tmp_path, "masks", "a", {"mask": torch.ones(7)}, Entry(()))
    path = tmp_path / "masks" / "a.safetensors"
    assert told_name(path) == ""
    for data in (b"", b"short", bytes(100), struct.pack("<Q", 2) + b"[]", struct.pack("<Q", 10**18)):
        path.write_bytes(data)
        assert told_name(path) == ""


def test_a_file_is_made_anew_and_never_deleted_and_only_what_preprocessing_made_by_preprocessing(tmp_path: Path) -> None:
    own, made = tmp_path / "speed" / "clips" / "a.safetensors", tmp_path / "latents" / "clips" / "a.safetensors"
    for path in (own, made):
        path.parent.mkdir(parents=True)
    (tmp_path / "latents" / "manifest-0.jsonl").touch()
    assert redo(own) == OWN
    assert redo(made) == "Run `ltx preprocess --verify` on its dataset, which encodes damaged files again."
    assert not [text for text in (redo(own), redo(made)) if "elete" in text or "emove" in text]
