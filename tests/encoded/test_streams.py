"""Samples may lack a modality where the run says so: then they are in none of its folders; in all others, they have to be."""

from pathlib import Path

import pytest

from helpers.mixed_sets import SAMPLES, mixed_set
from ltxcore.encoded.listing import whole_samples
from ltxcore.encoded.manifest import read_manifest, remove_sample
from ltxcore.encoded.micro_batch import load_batch, padded_text
from ltxcore.encoded.streams import absent_of, may_lack, placeholders, streams_in
from ltxcore.errors import DataError
from ltxcore.protocols import Manifest, Source

SOURCES = {
    "text": Source("conditions", "text"),
    "video": Source("latents", "latents", "video", may_be_absent=True),
    "audio": Source("audio_latents", "latents", "audio", may_be_absent=True),
    "audio.cond0.mask": Source("audio_masks", "mask", "audio", may_be_absent=True),
}
FOLDERS = {source.folder for source in SOURCES.values()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return mixed_set(tmp_path)


def test_samples_without_a_modality_are_listed_and_counted(root: Path) -> None:
    manifest = read_manifest(root, SOURCES)
    assert manifest.samples == tuple(sorted(SAMPLES))
    assert absent_of(manifest, "silent1") == {"audio"}
    assert absent_of(manifest, "sound0") == {"video"}
    assert absent_of(manifest, "clip3") == frozenset()
    assert streams_in(manifest) == "4 samples have video and audio, 4 video alone and 2 audio alone"
    assert streams_in(Manifest({role: manifest.entries[role] for role in ("text", "audio")})) == ""
    assert whole_samples(root, FOLDERS) == ("clip0", "clip1", "clip2", "clip3")
    assert whole_samples(root, FOLDERS, None, may_lack(SOURCES)) == manifest.samples


def test_a_sample_that_lacks_part_of_a_modality_is_refused(root: Path) -> None:
    remove_sample(root, "audio_masks", "clip1")
    with pytest.raises(DataError, match='"audio_masks" lacks 1 sample of "audio_latents", "conditions", "latents": clip1\n'):
        read_manifest(root, SOURCES)
    assert "clip1" not in whole_samples(root, FOLDERS, None, may_lack(SOURCES))


def test_a_sample_that_lacks_both_modalities_or_its_text_is_refused(root: Path) -> None:
    remove_sample(root, "latents", "silent1")
    remove_sample(root, "conditions", "sound1")
    with pytest.raises(DataError) as caught:
        read_manifest(root, SOURCES)
    said = str(caught.value)
    assert '"latents" lacks 2 samples of "audio_latents", "audio_masks", "conditions": silent1, sound1' in said
    assert '"conditions" lacks 1 sample of "audio_latents", "audio_masks": sound1' in said
    assert "silent0" not in said


def test_what_no_sample_has_needs_no_folder(tmp_path: Path) -> None:
    root = mixed_set(tmp_path, {"a": ("video",), "b": ("video",)})
    manifest = read_manifest(root, SOURCES)
    assert absent_of(manifest, "a") == {"audio"}
    assert placeholders(manifest) == {"video": (128, 1, 1, 1)}
    with pytest.raises(DataError, match='there is no folder "audio_latents"'):
        read_manifest(root, {**SOURCES, "audio": Source("audio_latents", "latents", "audio")})


def test_a_cell_of_zeros_takes_the_place_of_latents_that_are_not_there(root: Path) -> None:
    manifest = read_manifest(root, SOURCES)
    batch = load_batch(root, SOURCES, ["silent0", "silent2"], set(SOURCES), manifest)
    assert batch.absent == {"audio"}
    assert batch.latents["video"].latents.shape == (2, 128, 3, 2, 2)
    assert batch.latents["audio"].latents.shape == (2, 8, 1, 16)
    assert not batch.latents["audio"].latents.any()
    assert batch.masks == {}
    assert set(padded_text(batch).features) == {"video", "audio"}
    alone = Manifest({role: {name: entry for name, entry in held.items() if name == "silent0"} for role, held in manifest.entries.items()})
    assert load_batch(root, SOURCES, ["silent0"], set(SOURCES), alone, {"audio": (8, 1, 16)}).latents["audio"].latents.shape == (
        1,
        8,
        1,
        16,
    )
