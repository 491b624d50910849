"""Micro-batches are read as stored, checked against what the run was planned with."""

import json
from pathlib import Path

import attrs
import pytest
import torch

from helpers.encoded_sets import AUDIO, INPAINTING, REFERENCE, TEXT, VIDEO, inpainting_set, message, put, put_text, text, values
from ltxcore.encoded.manifest import read_manifest
from ltxcore.encoded.micro_batch import as_taken, load_batch, load_samples, to_verify, verify
from ltxcore.encoded.store import write_sample
from ltxcore.errors import DataError
from ltxcore.protocols import Batch, Entry, Manifest, Source, StoredText

REDO = "\n    Run `ltx preprocess --verify` on its dataset, which encodes damaged files again."


def _video_set(root: Path) -> dict[str, Source]:
    for number, (name, rate) in enumerate([("a", 16.0), ("b", None)]):
        put_text(root, name)
        put(root, "latents", name, {"latents": values(16, 3, 2, 2, seed=number, dtype=torch.bfloat16)}, rate=rate)
        put(root, "reference_latents", name, {"latents": values(16, 2, 1, 1, seed=number)}, rate=8.0)
    return {"text": TEXT, "video": VIDEO, "video.cond1.reference": REFERENCE}


def test_a_micro_batch_is_stacked_in_the_order_of_its_names(tmp_path: Path) -> None:
    sources = inpainting_set(tmp_path, ["a", "b", "c"])
    batch = load_batch(tmp_path, sources, ["c", "a"], list(sources), read_manifest(tmp_path, sources))
    assert batch.names == ("c", "a")
    assert torch.equal(batch.latents["audio"].latents, torch.stack([values(8, 6, 16, seed=2), values(8, 6, 16, seed=0)]))
    assert torch.equal(batch.masks["audio.cond0.mask"], torch.linspace(0, 1, 6).expand(2, 6))


def test_stored_bfloat16_stays_as_it_is_until_a_strategy_takes_it_in_float32_with_the_same_values(tmp_path: Path) -> None:
    sources = _video_set(tmp_path)
    batch = load_batch(tmp_path, sources, ["a"], list(sources), read_manifest(tmp_path, sources))
    stored = values(16, 3, 2, 2, dtype=torch.bfloat16)
    taken = as_taken(batch).latents["video"].latents
    for found, expected in ((batch.latents["video"].latents[0], stored), (taken[0], stored.float())):
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)


def test_each_sample_has_its_own_rate_and_video_that_does_not_say_has_24(tmp_path: Path) -> None:
    sources = _video_set(tmp_path)
    batch = load_batch(tmp_path, sources, ["a", "b"], list(sources), read_manifest(tmp_path, sources))
    assert batch.latents["video"].rate.tolist() == [16.0, 24.0]
    assert batch.latents["video.cond1.reference"].rate.tolist() == [8.0, 8.0]


def test_audio_has_25_steps_a_second(tmp_path: Path) -> None:
    sources = inpainting_set(tmp_path, ["a", "b"])
    batch = load_batch(tmp_path, sources, ["a", "b"], list(sources), read_manifest(tmp_path, sources))
    assert batch.latents["audio"].rate.tolist() == [25.0, 25.0]


def test_text_is_padded_on_the_left_with_zeros_to_its_length(tmp_path: Path) -> None:
    for name, words in (("a", 0), ("b", 3), ("c", 8)):
        put_text(tmp_path, name, words=words)
        put(tmp_path, "audio_latents", name, {"latents": values(8, 6, 16)})
    sources = {"text": TEXT, "audio": AUDIO}
    batch = load_batch(tmp_path, sources, ["a", "b", "c"], list(sources), read_manifest(tmp_path, sources))
    assert batch.stored_text is not None
    assert batch.stored_text.words == (0, 3, 8)
    assert {modality: features.shape for modality, features in batch.stored_text.features.items()} == {"video": (11, 8), "audio": (11, 6)}
    padded = batch.stored_text.padded()
    assert padded.mask.tolist() == [[0] * 8, [0] * 5 + [1] * 3, [1] * 8]
    assert padded.mask.dtype == torch.float32
    for modality, width in (("video", 8), ("audio", 6)):
        features = padded.features[modality]
        assert features.shape == (3, 8, width)
        assert features.dtype == torch.float32
        assert not features[0].any()
        assert not features[1, :5].any()
        assert torch.equal(features[1, 5:], text(3)[modality])
        assert torch.equal(features[2], text(8)[modality])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("is_connected", [False, True])
def test_text_of_its_whole_length_is_not_padded(dtype: torch.dtype, is_connected: bool) -> None:
    stored = torch.randn(2 * 5, 3).to(dtype)
    padded = StoredText({"video": stored}, (5, 5), 5, is_connected).padded()
    assert torch.equal(padded.features["video"], torch.stack([stored[:5], stored[5:]]).float())
    assert (padded.features["video"].data_ptr() == stored.data_ptr()) == (dtype == torch.float32)
    assert torch.equal(padded.mask, torch.ones(2, 5))
    assert (padded.is_connected, padded.is_whole) == (is_connected, is_connected)


def test_only_the_roles_asked_for_are_read(tmp_path: Path) -> None:
    sources = _video_set(tmp_path)
    manifest = read_manifest(tmp_path, sources)
    (tmp_path / "reference_latents" / "a.safetensors").unlink()
    batch = load_batch(tmp_path, sources, ["a"], ["text", "video"], manifest)
    assert set(batch.latents) == {"video"}


def test_without_the_text_role_there_is_no_text(tmp_path: Path) -> None:
    sources = _video_set(tmp_path)
    batch = load_batch(tmp_path, sources, ["a", "b"], ["video"], read_manifest(tmp_path, sources))
    assert batch.stored_text is None
    assert dict(batch.text.features) == {}
    assert batch.text.mask.shape == (2, 0)


# ---- a share of them read in full before a run


def test_the_samples_that_are_read_in_full_follow_from_seed_and_names_alone() -> None:
    names = [f"clips/{number}" for number in range(1000)]
    chosen = to_verify(names, 0.01, 42)
    assert len(chosen) == 10
    assert chosen == to_verify(names[::-1], 0.01, 42)
    assert chosen != to_verify(names, 0.01, 43)
    assert set(chosen) < set(to_verify(names, 0.02, 42))
    assert [len(to_verify(names, share, 42)) for share in (0.0, 1e-6, 0.07, 1.0)] == [0, 1, 70, 1000]
    assert len(to_verify(names[:3], 0.01, 42)) == 1
    assert to_verify([], 1.0, 42) == ()


def test_all_damaged_files_of_the_samples_are_named(tmp_path: Path) -> None:
    sources = inpainting_set(tmp_path, ["a", "b", "c"])
    manifest = read_manifest(tmp_path, sources)
    assert verify(tmp_path, sources, ["a", "b", "c"], manifest) == 9
    for folder, name in (("conditions", "a"), ("audio_masks", "a"), ("audio_latents", "c")):
        path = tmp_path / folder / f"{name}.safetensors"
        data = bytearray(path.read_bytes())
        data[-3] ^= 4
        path.write_bytes(data)
    assert verify(tmp_path, sources, ["b"], manifest) == 3
    with pytest.raises(DataError) as caught:
        verify(tmp_path, sources, ["a", "b", "c"], manifest)
    damaged = [f"ROOT/{each}.safetensors: is damaged" for each in ("conditions/a", "audio_latents/c", "audio_masks/a")]
    assert message(caught.value, tmp_path) == "\n".join(f"{each}: its content differs from what was written{REDO}" for each in damaged)


def test_files_of_0_1_0_which_have_no_checksum_are_held_to_what_their_manifest_says(tmp_path: Path) -> None:
    sources = inpainting_set(tmp_path, ["a", "b"])
    for path in tmp_path.rglob("manifest-0.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({key: value for key, value in line.items() if key != "checksum"}) + "\n" for line in lines))
    manifest = read_manifest(tmp_path, sources)
    assert verify(tmp_path, sources, ["a", "b"], manifest) == 0
    write_sample(tmp_path, "audio_latents", "b", {"latents": torch.full((8, 6, 16), torch.nan)}, manifest.entries["audio"]["b"])
    with pytest.raises(DataError, match='the sample "b" holds NaN or infinite values'):
        verify(tmp_path, sources, ["a", "b"], manifest)


# ---- refusals


def _planned(root: Path) -> Manifest:
    return read_manifest(root, inpainting_set(root, ["a", "b"]))


def _refused(root: Path, manifest: Manifest) -> str:
    with pytest.raises(DataError) as caught:
        load_batch(root, INPAINTING, ["a", "b"], list(INPAINTING), manifest)
    return message(caught.value, root)


@pytest.mark.parametrize(
    ("latents", "told", "what"),
    [
        (values(8, 7, 16), {}, "size was {before} and is {now}"),
        (values(8, 6, 16), {"fingerprint": "sound c"}, "fingerprint was sound b and is sound c"),
        (values(8, 3, 32), {"fingerprint": "sound b"}, "shape was (8, 6, 16) and is (8, 3, 32)"),
    ],
)
def test_a_file_that_changed_since_the_run_was_planned_is_refused(
    tmp_path: Path, latents: torch.Tensor, told: dict[str, str], what: str
) -> None:
    manifest = _planned(tmp_path)
    before = manifest.entries["audio"]["b"].bytes
    after = write_sample(tmp_path, "audio_latents", "b", {"latents": latents}, Entry((), origin="b.wav", **told))
    expected = f"ROOT/audio_latents/b.safetensors: has changed since it was listed: its {what.format(before=before, now=after.bytes)}"
    assert _refused(tmp_path, manifest) == f"{expected}\n    Run `ltx preprocess` again, and do not change the data while a run reads it."


def test_a_rate_that_changed_is_refused(tmp_path: Path) -> None:
    sources = _video_set(tmp_path)
    manifest = read_manifest(tmp_path, sources)
    write_sample(tmp_path, "latents", "a", {"latents": values(16, 3, 2, 2, dtype=torch.bfloat16)}, Entry((), rate=17.0))
    with pytest.raises(DataError) as caught:
        load_batch(tmp_path, sources, ["a"], list(sources), manifest)
    expected = "ROOT/latents/a.safetensors: has changed since it was listed: its rate was 16.0 and is 17.0"
    assert (
        message(caught.value, tmp_path) == f"{expected}\n    Run `ltx preprocess` again, and do not change the data while a run reads it."
    )


def _with_nan(root: Path) -> None:
    path = root / "audio_latents" / "b.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"\x00\x00\xc0\x7f")


def _checked(root: Path, manifest: Manifest) -> str:
    with pytest.raises(DataError) as caught:
        load_samples(root, INPAINTING, ["b"], list(INPAINTING), manifest, check=["b"])
    return message(caught.value, root)


def test_values_that_changed_after_listing_are_found_where_the_bytes_are_compared_with_their_checksum(tmp_path: Path) -> None:
    manifest = _planned(tmp_path)
    load_samples(tmp_path, INPAINTING, ["b"], list(INPAINTING), manifest, check=["b"])
    _with_nan(tmp_path)
    expected = f"ROOT/audio_latents/b.safetensors: is damaged: its content differs from what was written{REDO}"
    assert _checked(tmp_path, manifest) == expected
    ((batch, _),) = load_samples(tmp_path, INPAINTING, ["b"], list(INPAINTING), manifest)
    assert batch.latents["audio"].latents.isnan().sum() == 1


def test_nan_that_came_after_listing_is_named_with_its_sample_where_there_is_no_checksum(tmp_path: Path) -> None:
    manifest = _planned(tmp_path)
    _with_nan(tmp_path)
    entries = {role: {name: attrs.evolve(entry, checksum="") for name, entry in own.items()} for role, own in manifest.entries.items()}
    expected = f'ROOT/audio_latents/b.safetensors: the sample "b" holds NaN or infinite values{REDO}'
    assert _checked(tmp_path, Manifest(entries)) == expected


def test_all_files_at_fault_are_named_at_once(tmp_path: Path) -> None:
    manifest = _planned(tmp_path)
    (tmp_path / "audio_latents" / "a.safetensors").unlink()
    (tmp_path / "audio_masks" / "b.safetensors").write_bytes(b"torn")
    expected = [
        "ROOT/audio_latents/a.safetensors: there is no such file\n    Run `ltx preprocess` again.",
        f"ROOT/audio_masks/b.safetensors: is truncated or not a safetensors file: it has 4 bytes{REDO}",
    ]
    assert _refused(tmp_path, manifest) == "\n".join(expected)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    manifest = _planned(tmp_path)
    (tmp_path / "audio_latents" / "a.safetensors").replace(tmp_path / "audio_masks" / "a.safetensors")
    (tmp_path / "audio_latents" / "a.safetensors").symlink_to(tmp_path / "audio_masks" / "a.safetensors")
    assert _refused(tmp_path, manifest) == "ROOT/audio_masks/a.safetensors: holds audio latents, not an audio mask"


def test_samples_of_two_shapes_do_not_stack(tmp_path: Path) -> None:
    inpainting_set(tmp_path, ["a"])
    inpainting_set(tmp_path, ["b"], steps=7)
    expected = 'a micro-batch has samples of different shapes in the role "audio": [8, 6, 16] (a), [8, 7, 16] (b)'
    assert _refused(tmp_path, read_manifest(tmp_path, INPAINTING)) == expected


def test_text_of_two_widths_does_not_stack(tmp_path: Path) -> None:
    for name, width in (("a", 6), ("b", 12)):
        put(tmp_path, "conditions", name, {"video": values(3, width)}, shape=(8,))
    sources = {"text": TEXT}
    with pytest.raises(DataError) as caught:
        load_batch(tmp_path, sources, ["a", "b"], ["text"], read_manifest(tmp_path, sources))
    assert str(caught.value) == 'a micro-batch has samples of different shapes in the role "text": [8, 6] (a), [8, 12] (b)'


def test_a_loaded_micro_batch_is_a_batch_of_the_protocol(tmp_path: Path) -> None:
    assert isinstance(load_batch(tmp_path, INPAINTING, ["a"], list(INPAINTING), _planned(tmp_path)), Batch)
