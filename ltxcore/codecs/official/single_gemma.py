"""Gemma 3 in one file, as ComfyUI users have it: its tensors and the model of SentencePiece, but neither a configuration nor a tokenizer.json.

Sizes follow from the shapes of tensors; all other values are those of Gemma 3 12B.

Source: docs/explanation/model-files.md#text-encoders
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from ltxcore.errors import CheckpointError
from ltxcore.headers import Slot, Slots

PIECES = "spiece_model"
"""The name of the tensor whose bytes are the model of SentencePiece."""

_FULL = 6
"""Every layer whose number, counted from 1, is divisible by this number attends to all positions; the others attend to a window."""

_NORMAL, _UNKNOWN, _CONTROL, _CHOSEN = 1, 2, 3, 4
"""The types of pieces in SentencePiece: learned, the unknown word, marks such as the end of a text, and those that its user added."""


def config_of(weights: Slots) -> dict[str, Any]:
    """Return the configuration of Gemma 3 that follows from its tensors, `model.layers....`.

    Raises:
        CheckpointError: the tensors are not those of Gemma 3.
    """
    shapes, layer = {name: slot.shape for name, slot in weights.slots.items()}, "model.layers.0."
    try:
        vocabulary, hidden = shapes["model.embed_tokens.weight"]
        (size,) = shapes[f"{layer}self_attn.q_norm.weight"]
        heads, pairs = (shapes[f"{layer}self_attn.{name}_proj.weight"][0] // size for name in "qk")
        inner = shapes[f"{layer}mlp.gate_proj.weight"][0]
        assert shapes[f"{layer}pre_feedforward_layernorm.weight"] == (hidden,)
    except (KeyError, IndexError, ValueError, ZeroDivisionError, AssertionError):
        raise CheckpointError(
            "the tensors of this text encoder are not those of Gemma 3",
            where=str(weights.where),
            remedy="Set text_encoder_path under [model] to Gemma 3 12B.",
        ) from None
    layers = len({name.split(".")[2] for name in shapes if name.startswith("model.layers.")})
    told = {
        "model_type": "gemma3_text",
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": pairs,
        "head_dim": size,
        "layer_types": ["sliding_attention" if number % _FULL else "full_attention" for number in range(1, layers + 1)],
        "sliding_window": 1024,
        "query_pre_attn_scalar": 256,
        "max_position_embeddings": 131_072,
        "rope_theta": 1e6,
        "rope_local_base_freq": 1e4,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 2,
    }
    return {"model_type": "gemma3", "text_config": told}


@attrs.frozen
class Piece:
    """A piece of SentencePiece: its text, its score, and its type."""

    text: str
    score: float
    type: int


def tokenizer_of(slot: Slot) -> bytes:
    """Return, as bytes, the tokenizer.json that splits texts as the model of SentencePiece in a tensor does.

    Raises:
        CheckpointError: the tensor is not a model of SentencePiece.
    """
    from tokenizers import AddedToken, Tokenizer, models, normalizers

    try:
        pieces = list(pieces_in(slot.content()))
        unknown = next(piece.text for piece in pieces if piece.type == _UNKNOWN)
    except (ValueError, IndexError, StopIteration, struct.error):
        raise CheckpointError(
            f"{PIECES} is not a tokenizer of SentencePiece", where=str(slot.file), remedy="Download the file again."
        ) from None
    numbers = {piece.text: number for number, piece in enumerate(pieces)}
    found = Tokenizer(models.BPE(numbers, _merges(pieces, numbers), unk_token=unknown, fuse_unk=True, byte_fallback=True))
    found.normalizer = normalizers.Replace(" ", "\u2581")
    found.add_special_tokens([AddedToken(each.text, normalized=False, special=True) for each in pieces if each.type == _CONTROL])
    found.add_tokens([AddedToken(each.text, normalized=True, special=False) for each in pieces if each.type == _CHOSEN])
    text: str = found.to_str()
    return text.encode()


def _merges(pieces: list[Piece], numbers: Mapping[str, int]) -> list[tuple[str, str]]:
    """Return the pairs of pieces that join to a longer piece, in the order in which SentencePiece joins them: higher scores first."""
    merges: list[tuple[str, str]] = []
    for piece in sorted((each for each in pieces if each.type == _NORMAL), key=lambda each: -each.score):
        pairs = ((piece.text[:cut], piece.text[cut:]) for cut in range(1, len(piece.text)))
        merges += sorted(
            (pair for pair in pairs if pair[0] in numbers and pair[1] in numbers), key=lambda pair: (numbers[pair[0]], numbers[pair[1]])
        )
    return merges


def pieces_in(content: bytes) -> Iterator[Piece]:
    """Yield the pieces of a model of SentencePiece, a message of Protocol Buffers whose field 1 is a piece.

    Raises:
        ValueError: the bytes are no such message.

    Source: https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto
    """
    for field, value in _fields(content):
        if field == 1:
            inner = dict(_fields(_bytes(value)))
            yield Piece(_bytes(inner.get(1)).decode(), float(inner.get(2, 0.0)), int(inner.get(3, _NORMAL)))


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a number in place of bytes")
    return value


def _fields(content: bytes) -> Iterator[tuple[int, Any]]:
    """Yield the number and the value of each field of a message: a number, or bytes."""
    place = 0
    while place < len(content):
        tag, place = _number(content, place)
        field, kind = tag >> 3, tag & 7
        if kind == 0:
            value, place = _number(content, place)
            yield field, value
        elif kind == 1:
            yield field, struct.unpack("<d", content[place : place + 8])[0]
            place += 8
        elif kind == 5:
            yield field, struct.unpack("<f", content[place : place + 4])[0]
            place += 4
        elif kind == 2:
            length, place = _number(content, place)
            if place + length > len(content):
                raise ValueError("a field that is cut short")
            yield field, content[place : place + length]
            place += length
        else:
            raise ValueError("a field of an unknown kind")


def _number(content: bytes, place: int) -> tuple[int, int]:
    """Return a number of variable length, and the place after it."""
    found = shift = 0
    while True:
        byte = content[place]
        found |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return found, place
        if shift > 63:
            raise ValueError("a number of too many bytes")
