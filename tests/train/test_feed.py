"""Samples that stay in memory, and what the model sees of a batch."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection
from pathlib import Path

import attrs
import pytest
import torch

from helpers.training_runs import message, put, put_sound
from ltxcore.encoded.manifest import read_manifest
from ltxcore.encoded.micro_batch import as_taken, joined, load_batch, padded_text
from ltxcore.encoded.stored import of_captions
from ltxcore.errors import DataError
from ltxcore.flow.draws import CountedDraws, generator
from ltxcore.flow.sigmas import Uniform
from ltxcore.modalities.audio import AudioModality
from ltxcore.modality_tables import ModalityTable
from ltxcore.protocols import Batch, Draws, ModelInput, Setting, Source, Strategy, Text
from ltxcore.strategy import Flexible
from ltxcore.train.feed import CHECKED, Samples, made, prepared

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
    ours, theirs = padded_text(one), padded_text(other)
    assert all(torch.equal(features, theirs.features[name]) for name, features in ours.features.items())
    assert torch.equal(ours.mask, theirs.mask)


def test_samples_loaded_one_by_one_are_the_batch_that_is_read_at_once(samples: Samples) -> None:
    same(samples.load(NAMES), load_batch(samples.root, SOURCES, NAMES, SOURCES.keys(), samples.manifest))


def test_inputs_that_were_made_ahead_are_those_that_are_made_in_the_step(samples: Samples) -> None:
    class Twice:
        """A model whose connectors double the text."""

        def connect(self, text: Text, modalities: Collection[str]) -> Text:
            return attrs.evolve(text, features={name: 2 * each for name, each in text.features.items()}, is_connected=True, is_whole=True)

    @attrs.frozen
    class Shouts:
        """A strategy that changes the text, perhaps according to its values, which it must see after the connectors."""

        inner: Strategy
        reads: bool

        def prepare(self, batch: Batch, draws: Draws) -> dict[str, ModelInput]:
            added = float(not self.reads or bool(batch.text.features["audio"].any()))
            return {name: attrs.evolve(each, context=each.context + added) for name, each in self.inner.prepare(batch, draws).items()}

    draws, cpu = CountedDraws(1, 0, tuple(NAMES), "0.0"), torch.device("cpu")
    plain = Flexible(audio=ModalityTable(True, "audio_latents")).build(Setting({"audio": AudioModality()}, Uniform()))
    for each, added in ((plain, 0), (Shouts(plain, reads=False), 1), (Shouts(plain, reads=True), 1)):
        batch, ahead = made(each, samples.load(NAMES), draws, cpu)
        found, expected = (prepared(each, Twice(), batch, draws, cpu, None, *given)["audio"] for given in ((ahead,), ()))
        assert found.context.equal(expected.context)
        assert found.context.equal(2 * padded_text(batch).features["audio"] + added)
        assert found.context_mask is None
        assert found.tokens.equal(expected.tokens)
        assert found.velocity.equal(expected.velocity)
        assert bool(ahead) == (each is plain)
        assert not ahead or found.tokens is ahead["audio"].tokens


def test_inputs_that_follow_from_the_text_are_made_in_the_step(samples: Samples) -> None:
    class AsItIs:
        """A model whose connectors leave the text as it is."""

        def connect(self, text: Text, modalities: Collection[str]) -> Text:
            return text

    @attrs.frozen
    class Reads:
        """A strategy that finds something out from the words of each sample, and passes its text on."""

        inner: Strategy
        way: Callable[[ModelInput, Text], ModelInput]

        def prepare(self, batch: Batch, draws: Draws) -> dict[str, ModelInput]:
            return {name: self.way(each, batch.text) for name, each in self.inner.prepare(batch, draws).items()}

    def tells(given: ModelInput, text: Text) -> ModelInput:
        return attrs.evolve(given, applied={**given.applied, "long": text.mask.sum(1) > 1})

    def scales(given: ModelInput, text: Text) -> ModelInput:
        return attrs.evolve(given, tokens=given.tokens.clone().mul_(text.mask.sum(1)[:, None, None]))

    def holds(given: ModelInput, text: Text) -> ModelInput:
        return attrs.evolve(given, applied={**given.applied, "words": text.mask})

    draws, cpu = CountedDraws(1, 0, tuple(NAMES), "0.0"), torch.device("cpu")
    plain = Flexible(audio=ModalityTable(True, "audio_latents")).build(Setting({"audio": AudioModality()}, Uniform()))
    expected = plain.prepare(as_taken(samples.load(NAMES)), draws)["audio"]
    mask = padded_text(samples.load(NAMES)).mask
    found = {}
    for way in (tells, scales, holds):
        batch, ahead = made(Reads(plain, way), samples.load(NAMES), draws, cpu)
        assert not ahead
        found[way] = prepared(Reads(plain, way), AsItIs(), batch, draws, cpu, None, ahead)["audio"]
    assert found[tells].applied["long"].equal(mask.sum(1) > 1)
    assert found[scales].tokens.equal(expected.tokens * mask.sum(1)[:, None, None])
    assert found[holds].applied["words"].equal(mask)


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


def test_what_is_kept_is_counted_as_it_is_stored_without_padding(samples: Samples) -> None:
    for name in NAMES:
        put(samples.root, "audio_latents", name, {"latents": torch.ones(8, 8, 16, dtype=torch.bfloat16)}, fingerprint="half")
    found = Samples(samples.root, SOURCES, read_manifest(samples.root, SOURCES))
    found.load(NAMES)
    stored = sum(entry.bytes for own in found.manifest.entries.values() for entry in own.values())
    headers = sum(8 + struct.unpack("<Q", path.read_bytes()[:8])[0] for path in samples.root.rglob("*.safetensors"))
    assert found._bytes == stored - headers + 3 * 4  # and the rate of each sample


def test_one_read_in_a_hundred_is_compared_with_its_checksum(samples: Samples) -> None:
    found = Samples(samples.root, SOURCES, samples.manifest, limit=0)
    found.load(NAMES[:1])
    path = samples.root / "audio_latents" / f"{NAMES[0]}.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"\x00\x00\xc0\x7f")
    for _ in range(CHECKED - 1):
        assert found.load(NAMES[:1]).latents["audio"].latents.isnan().any()
    with pytest.raises(DataError) as error:
        found.load(NAMES[:1])
    assert "audio_latents/sound00.safetensors: is damaged" in message(error.value, samples.root)
    assert [problem.where for problem in found.damaged(NAMES)] == [str(path)]


def test_an_optional_source_is_read_only_where_it_is_wanted(samples: Samples) -> None:
    for name in NAMES:
        put(samples.root, "reference_audio_latents", name, {"latents": torch.zeros(8, 4, 16)})
    samples.sources = {**SOURCES, "audio.cond1.reference": Source("reference_audio_latents", "latents", "audio", optional=True)}
    samples.manifest = read_manifest(samples.root, samples.sources)
    assert samples.load(NAMES).latents.keys() == {"audio"}
    assert samples.load(NAMES, frozenset({"audio.cond1.reference"})).latents.keys() == {"audio", "audio.cond1.reference"}


def test_a_sample_that_comes_twice_has_its_text_twice(samples: Samples) -> None:
    text, alone = padded_text(samples.load([NAMES[0], NAMES[1], NAMES[0]])), padded_text(samples.load(NAMES[:2]))
    for name, features in text.features.items():
        assert features.equal(alone.features[name][[0, 1, 0]])
    assert text.mask.equal(alone.mask[[0, 1, 0]])


def test_one_batch_joined_is_itself(samples: Samples) -> None:
    batch = samples.load(NAMES[:1])
    assert joined([batch]) is batch


def captions(name: str, count: int) -> list[torch.Tensor]:
    """The features of captions of 1, 2, ... words."""
    return [torch.full((words + 1, 128), float(10 * int(name[-2:]) + words)) for words in range(count)]


@pytest.fixture
def captioned(samples: Samples) -> Samples:
    """The samples with three captions, one caption and two."""
    for name, count in zip(NAMES, (3, 1, 2), strict=True):
        features = of_captions([{"video": each, "audio": each} for each in captions(name, count)])
        put(samples.root, "conditions", name, features, shape=(4,), fingerprint=f"{name} again", encoder="e")
    return Samples(samples.root, SOURCES, read_manifest(samples.root, SOURCES))


def test_the_text_of_several_captions_is_counted_once(captioned: Samples) -> None:
    captioned.load(NAMES)
    stored = sum(entry.bytes for own in captioned.manifest.entries.values() for entry in own.values())
    headers = sum(8 + struct.unpack("<Q", path.read_bytes()[:8])[0] for path in captioned.root.rglob("*.safetensors"))
    counts = (3 + 2) * 4  # how long each of several captions is
    assert captioned._bytes == stored - headers - counts + 3 * 4


def chosen(text: Text) -> list[int]:
    """The number of the caption of each sample, which its last word says."""
    return [int(number) % 10 for number in text.features["audio"][:, -1, 0].tolist()]


def test_the_caption_of_a_pass_depends_on_the_sample_and_the_pass_alone(captioned: Samples) -> None:
    def drawn(seed: int, epoch: int, name: str, count: int) -> int:
        return int(count * torch.rand((), generator=generator(seed, "sample", "caption.u", epoch, name)))

    seen = set()
    for seed in (1, 2):
        for epoch in range(12):
            wanted = {name: drawn(seed, epoch, name, count) for name, count in zip(NAMES, (3, 1, 2), strict=True)}
            for names in (NAMES, NAMES[::-1], NAMES[:2], NAMES[2:]):  # other ranks, and a resumed run, deal other micro-batches
                batch = captioned.load(names, draws=CountedDraws(seed, epoch, tuple(names), "any"))
                assert chosen(padded_text(batch)) == [wanted[name] for name in names]
                seen.add(wanted[NAMES[0]])
    assert seen == {0, 1, 2}


def test_a_drawn_caption_is_padded_as_if_it_were_the_only_one(captioned: Samples) -> None:
    draws = CountedDraws(1, 0, (NAMES[0],), "any")
    batch = captioned.load(NAMES[:1], draws=draws)
    (number,) = chosen(padded_text(batch))
    (alone,) = (captions(NAMES[0], 3)[number],)
    put(captioned.root, "conditions", NAMES[0], {"video": alone, "audio": alone}, shape=(4,), fingerprint="alone", encoder="e")
    again = Samples(captioned.root, SOURCES, read_manifest(captioned.root, SOURCES))
    same(batch, again.load(NAMES[:1], draws=draws))


def test_without_draws_the_first_caption_is_used(captioned: Samples) -> None:
    assert chosen(padded_text(captioned.load(NAMES))) == [0, 0, 0]
    same(captioned.load(NAMES), load_batch(captioned.root, SOURCES, NAMES, SOURCES.keys(), captioned.manifest))


def test_a_sample_with_one_caption_draws_nothing(samples: Samples) -> None:
    class Never(CountedDraws):
        def uniform(self, key: str, shape: object = ()) -> torch.Tensor:
            raise AssertionError(key)

    same(samples.load(NAMES), samples.load(NAMES, draws=Never(1, 0, tuple(NAMES), "any")))


def test_samples_that_are_kept_share_no_memory_and_those_that_are_not_are_one_piece(samples: Samples) -> None:
    found = Samples(samples.root, SOURCES, samples.manifest, limit=0)
    for _ in range(3):
        same(found.load(NAMES), samples.load(NAMES))
    (first, _), (second, _), _ = found._found(NAMES, frozenset(SOURCES))
    one, other = first.latents["audio"].latents, second.latents["audio"].latents
    assert one.data_ptr() + one.nbytes == other.data_ptr()
    assert not found._kept
    kept = [batch.latents["audio"].latents.untyped_storage() for batch, _ in samples._kept.values()]
    assert len({each.data_ptr() for each in kept}) == len(NAMES)
    assert {each.nbytes() for each in kept} == {one.nbytes}
