"""Samples that stay in memory, and what the model sees of a batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from helpers.training_runs import message, put, put_sound
from ltxcore.encoded.manifest import read_manifest
from ltxcore.encoded.micro_batch import load_batch
from ltxcore.errors import DataError
from ltxcore.protocols import Batch, Source
from ltxcore.train.feed import Samples, joined

SOURCES = {
    "text": Source("conditions", "text"),
    "audio": Source("audio_latents", "latents", "audio"),
    "audio.cond0.mask": Source("audio_masks", "mask", "audio"),
}
NAMES = ["sound00", "sound01", "sound02"]


@pytest.fixture
def samples(tmp_path: Path) -> Samples:
    for number in range(3):
        put_sound(tmp_path, number)
    return Samples(tmp_path, SOURCES, read_manifest(tmp_path, SOURCES))


def same(one: Batch, other: Batch) -> None:
    assert one.names == other.names
    assert one.latents.keys() == other.latents.keys()
    assert one.masks.keys() == other.masks.keys()
    for role, stored in one.latents.items():
        assert torch.equal(stored.latents, other.latents[role].latents)
        assert torch.equal(stored.rate, other.latents[role].rate)
    for role, mask in one.masks.items():
        assert torch.equal(mask, other.masks[role])
    assert all(torch.equal(features, other.text.features[name]) for name, features in one.text.features.items())
    assert torch.equal(one.text.mask, other.text.mask)


def test_samples_loaded_one_by_one_are_the_batch_that_is_read_at_once(samples: Samples) -> None:
    same(samples.load(NAMES), load_batch(samples.root, SOURCES, NAMES, SOURCES.keys(), samples.manifest))


def test_a_sample_is_read_once_while_there_is_room(samples: Samples) -> None:
    before = samples.load(NAMES)
    for folder in ("audio_latents", "audio_masks", "conditions"):
        (samples.root / folder / "sound01.safetensors").unlink()
    same(samples.load(NAMES), before)


def test_a_sample_that_does_not_fit_is_read_each_time(samples: Samples) -> None:
    samples.limit = 3 * 8 * 8 * 16 * 4  # the latents of three sounds, but no masks and no text
    samples.load(NAMES)
    path = samples.root / "audio_latents" / "sound02.safetensors"
    path.unlink()
    samples.load(NAMES[:2])
    with pytest.raises(DataError) as error:
        samples.load(NAMES)
    assert "sound02" in message(error.value, samples.root)


def test_an_optional_source_is_read_only_where_it_is_wanted(samples: Samples) -> None:
    for name in NAMES:
        put(samples.root, "reference_audio_latents", name, {"latents": torch.zeros(8, 4, 16)})
    samples.sources = {**SOURCES, "audio.cond1.reference": Source("reference_audio_latents", "latents", "audio", optional=True)}
    samples.manifest = read_manifest(samples.root, samples.sources)
    assert samples.load(NAMES).latents.keys() == {"audio"}
    assert samples.load(NAMES, frozenset({"audio.cond1.reference"})).latents.keys() == {"audio", "audio.cond1.reference"}


def test_one_batch_joined_is_itself(samples: Samples) -> None:
    batch = samples.load(NAMES[:1])
    assert joined([batch]) is batch
