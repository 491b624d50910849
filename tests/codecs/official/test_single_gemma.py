"""Gemma 3 in one file, with SentencePiece's tokenizer inside, is the text encoder that a folder of the same weights is."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from helpers.eight_bits import in_eight_bits
from helpers.official_text import write_model
from helpers.separate_files import GEMMA, MARK, pieces, sentencepiece, write_gemma_file
from ltxcore.codecs.official import text
from ltxcore.codecs.official.single_gemma import pieces_in, tokenizer_of
from ltxcore.codecs.official.text import Placement
from ltxcore.errors import CheckpointError
from ltxcore.headers import read_file

EXACT = Placement(dtype=torch.float32)


def joined(words: str) -> list[str]:
    """The pieces of a text: of all neighbours that make a piece, the first of those with the highest score are joined, until none do."""
    scores = {piece: score for piece, score, kind in pieces() if kind == 1}
    found = list(words.replace(" ", MARK))
    while True:
        best = max(((scores[a + b], -place) for place, (a, b) in enumerate(pairwise(found)) if a + b in scores), default=None)
        if best is None:
            return found
        place = -best[1]
        found[place : place + 2] = [found[place] + found[place + 1]]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = write_gemma_file(tmp_path_factory.mktemp("gemma") / "gemma.safetensors")
    return Tokenizer.from_buffer(tokenizer_of(read_file(path).slots["spiece_model"]))


@pytest.mark.parametrize("words", ["a red disc rises", "disc falls and hums", "low  high", "redrises", "arises low"])
def test_texts_are_split_as_sentencepiece_splits_them(words: str, tokenizer: Tokenizer) -> None:
    assert tokenizer.encode(words, add_special_tokens=False).tokens == joined(words)


def test_unknown_letters_become_bytes_and_pieces_of_the_user_are_kept_whole(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("é", add_special_tokens=False).tokens == ["<0xC3>", "<0xA9>"]
    assert tokenizer.encode("a\n\na", add_special_tokens=False).tokens == ["a", "\n\n", "a"]
    assert [tokenizer.token_to_id(name) for name in ("<pad>", "<eos>", "<bos>", "<unk>")] == [0, 1, 2, 3]


@pytest.mark.parametrize("bits", [16, 8])
def test_one_file_makes_the_features_of_a_folder_with_the_same_weights(bits: int, tmp_path: Path) -> None:
    single, folder = write_gemma_file(tmp_path / "gemma.safetensors"), tmp_path / "gemma"
    meant = in_eight_bits(single, "comfy", "layers.") if bits == 8 else {}
    slots = read_file(single).slots
    tensors = {**load_file(single), **meant}
    folder.mkdir()
    save_file({name: tensors[name] for name in slots if name != "spiece_model"}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(GEMMA))
    (folder / "tokenizer.json").write_bytes(tokenizer_of(slots["spiece_model"]))
    model = write_model(tmp_path / "ltx.safetensors", "2.3")
    first, second = (text.load(model, place, EXACT).encode(["a red disc rises", "hums"]) for place in (single, folder))
    for one, other in zip(first, second, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in ("video", "audio"))


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = write_gemma_file(tmp_path / "gemma.safetensors")
    tensors = load_file(path)
    model = write_model(tmp_path / "ltx.safetensors", "2.3")
    empty = torch.tensor([10, 2, 24, 1], dtype=torch.uint8)  # a piece with a type, but no text
    faults = [
        ("not a tokenizer", {"spiece_model": empty}),
        ("not a tokenizer of SentencePiece", {"spiece_model": tensors["spiece_model"][:-3].clone()}),
        ("tensors of this text encoder are not those of Gemma 3", {"model.layers.0.self_attn.q_norm.weight": torch.zeros(2, 2)}),
        ("tensors of this text encoder are not those of Gemma 3", {"model.layers.0.self_attn.q_proj.weight": torch.tensor(0.0)}),
        ("tensors of this text encoder are not those of Gemma 3", {"model.layers.0.mlp.gate_proj.weight": torch.tensor(0.0)}),
        ("of the wrong shape|has the wrong shape", {"model.layers.1.mlp.up_proj.weight": torch.zeros(2, 2)}),
    ]
    for told, spoiled in faults:
        save_file({**tensors, **spoiled}, path)
        with pytest.raises(CheckpointError, match=told):
            text.load(model, path, EXACT)


def test_a_message_is_read_field_by_field() -> None:
    assert [(each.text, each.score, each.type) for each in pieces_in(sentencepiece(pieces()))] == pieces()
