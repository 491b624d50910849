from __future__ import annotations

import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from helpers.raw_media import clip_file, dataset_file, encode, sound_file
from ltxcore.codecs.load_codecs import text_encoder
from ltxcore.codecs.source import Codecs
from ltxcore.codecs.tiny_text import TinyTextEncoder
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.dataset.rows import Sample
from ltxcore.encode.leases import Leases
from ltxcore.encode.ledger import Ledger
from ltxcore.encode.preprocess import preprocess
from ltxcore.encode.work import TEXT, CaptionWork, Share, batches_of, text_product
from ltxcore.encoded.store import read_stored
from ltxcore.encoded.stored import each_caption
from ltxcore.errors import ConfigError
from ltxcore.protocols import Clip, Codec, TextEncoder


class Counting(TinyTextEncoder):
    """The tiny encoder, which also writes down what it was given."""

    def encode(self, captions: Sequence[str]) -> list[dict[str, Tensor]]:
        given.append([*captions])
        return super().encode(captions)


given: list[list[str]] = []


def test_a_caption_of_several_samples_is_encoded_once_for_all_of_them(tmp_path: Path) -> None:
    captions = {"a": "a door", "a@000008": "a door", "b": "a window", "a@000016": "a door", "c": "a roof"}
    samples = [Sample(name, name, name, {}, caption) for name, caption in captions.items()]
    done = list[str]()
    given.clear()
    outcomes = CaptionWork(Ledger(tmp_path, [TEXT], 0), Counting(), 2, done.append, Leases(tmp_path)).encode(samples)
    assert given == [["a window", "a door"], ["a roof"]]
    assert [*outcomes] == [*captions]
    assert sorted(done) == sorted(captions)
    for name, caption in captions.items():
        (expected,) = TinyTextEncoder().encode([caption])
        found = load_file(tmp_path / TEXT / f"{name}.safetensors")
        assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())
    CaptionWork(Ledger(tmp_path, [TEXT], 0), Counting(), 2, done.append, Leases(tmp_path)).encode(samples)
    assert len(given) == 2, "all are up to date"


def test_a_batch_is_the_same_whatever_is_up_to_date_and_only_what_is_not_is_written(tmp_path: Path) -> None:
    samples = [Sample(name, name, name, {}, caption) for name, caption in {"a": "one", "b": "three", "c": "two", "d": "seventeen"}.items()]
    ledger = Ledger(tmp_path, [TEXT], 0)
    CaptionWork(ledger, Counting(), 2, lambda _: None, Leases(tmp_path)).encode(samples)
    first = ledger.counts[TEXT]
    given.clear()
    (tmp_path / TEXT / "b.safetensors").unlink()
    again = Ledger(tmp_path, [TEXT], 0)
    outcomes = CaptionWork(again, Counting(), 2, lambda _: None, Leases(tmp_path)).encode(samples)
    assert given == [["seventeen", "three"]]
    assert (first.done, again.counts[TEXT].done, again.counts[TEXT].reused, len(outcomes)) == (4, 1, 3, 4)


def test_batches_are_of_captions_of_about_the_same_length_the_longest_first() -> None:
    captions = [("a",), ("ccc", "c"), ("bb",), ("dddd",), ("e",)]
    assert batches_of(captions, 2) == [(("dddd",), ("ccc", "c")), (("bb",), ("a",)), (("e",),)]
    assert batches_of(captions[::-1], 1) == [(("dddd",),), (("ccc", "c"),), (("bb",),), (("a",),), (("e",),)]
    assert batches_of([], 2) == []


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_processes_of_a_launcher_begin_at_their_shares_and_leave_nothing_out(size: int) -> None:
    items = list(range(14))
    orders = [Share(rank, size).in_order(items, rank) for rank in range(size)]
    assert all(sorted(order) == items for order in orders)
    assert [order[0] for order in orders] == [rank * 14 // size for rank in range(size)]


def test_processes_that_were_started_alone_begin_far_from_each_other() -> None:
    assert [Share().in_order(range(16), number)[0] for number in range(8)] == [0, 8, 4, 12, 2, 10, 6, 14]
    assert Share().in_order("abc", 1) == ["b", "c", "a"]
    assert Share().in_order([], 3) == []


def test_the_environment_says_which_share_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert Share.of_environment() == Share(0, 1)
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert Share.of_environment() == Share(2, 4)
    assert str(Share(2, 4)) == "process 2 of 4"


@pytest.mark.parametrize(("rank", "size"), [("2", "2"), ("a", "2"), ("-1", "2")])
def test_an_environment_that_names_no_share_is_refused(monkeypatch: pytest.MonkeyPatch, rank: str, size: str) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(ConfigError) as error:
        Share.of_environment()
    assert str(error.value) == (
        f"environment: RANK={rank}, WORLD_SIZE={size} and LOCAL_RANK=0 do not describe a process of a run\n    Let a launcher such as torchrun set all three, or unset them."
    )


def test_all_captions_of_a_sample_are_encoded_and_only_their_change_encodes_them_again(tmp_path: Path) -> None:
    captions = {"a": ["rain", "the wind in the trees", "a bell"], "b": "the sea", "c": ["one", "two"]}
    for name in captions:
        sound_file(tmp_path / f"{name}.wav")

    def made(**options: object) -> int:
        data = dataset_file(tmp_path / "set.jsonl", [{"audio": f"{name}.wav", "caption": text} for name, text in captions.items()])
        return encode(data, tmp_path / "encoded", folders=("conditions", "audio_latents"), **options).folders["conditions"].done

    assert made(batch_size=2) == 3
    encoder = text_encoder("tiny")
    for name, own in captions.items():
        texts = own if isinstance(own, list) else [own]
        sample, _ = read_stored(tmp_path / f"encoded/conditions/{name}.safetensors")
        parts = each_caption(sample)
        assert len(parts) == len(texts)
        for part, features in zip(parts, encoder.encode(texts), strict=True):
            assert {key: tensor.tolist() for key, tensor in part.tensors.items()} == {
                key: tensor.to(torch.float32).tolist() for key, tensor in features.items()
            }
    assert made() == 0
    captions["a"] = ["rain", "a bell", "the wind in the trees"]
    assert made() == 1
    captions["a"] = "rain"
    assert made() == 1
    assert len(each_caption(read_stored(tmp_path / "encoded/conditions/a.safetensors")[0])) == 1


def test_a_single_caption_has_the_fingerprint_that_it_always_had() -> None:
    one = text_product(["rain"], 8, "e")
    assert one.ingredients == {"caption": "rain", "length": 8}
    assert text_product(["rain", "wind"], 8, "e").fingerprint != one.fingerprint


encoders: list[weakref.ref[TextEncoder]] = []
in_memory: list[int] = []


class Watching(Codecs):
    """The tiny codecs, which also write down how many text encoders are in memory when a clip is encoded."""

    def text(self) -> TextEncoder:
        encoder = super().text()
        encoders.append(weakref.ref(encoder))
        return encoder

    def video(self) -> Codec:
        return Watched(super().video())


@attrs.frozen
class Watched:
    codec: Codec

    def __getattr__(self, name: str) -> Any:
        return getattr(self.codec, name)

    def encode(self, clip: Clip) -> Tensor:
        in_memory.append(sum(encoder() is not None for encoder in encoders))
        return self.codec.encode(clip)


def test_the_text_encoder_makes_room_for_the_vae_also_if_what_is_ahead_was_told(tmp_path: Path) -> None:
    clip_file(tmp_path / "a.mp4", sound=False)
    path = dataset_file(tmp_path / "set.jsonl", [{"video": "a.mp4", "caption": "c"}])
    encoders.clear()
    in_memory.clear()
    told = list[int]()
    preprocess(
        path,
        None,
        PreprocessingTable(skip_audio=True),
        Watching("tiny", device="cpu"),
        progress=False,
        before=lambda seen, standing: told.append(standing.encodes),
    )
    assert (told, len(encoders), in_memory) == ([1], 1, [0])
