"""Small models as repackagers publish them and ComfyUI users have them: a file for each part, found by nothing but the names in it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from helpers.official_text import HIDDEN, WORDS, language_model, tensors_of
from helpers.whole_models import unified

MARK = "\u2581"

GEMMA: dict[str, Any] = {
    "model_type": "gemma3",
    "text_config": {
        "model_type": "gemma3_text",
        "vocab_size": 512,
        "hidden_size": HIDDEN,
        "intermediate_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "sliding_window": 1024,
        "max_position_embeddings": 131072,
        "query_pre_attn_scalar": 256,
        "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
    },
}
"""The published settings of Gemma 3 12B, with small sizes."""


def pieces() -> list[tuple[str, float, int]]:
    """Text, score and type of each piece: marks, one that its user added, bytes, letters, and what they are joined to."""
    letters = sorted({MARK, *"".join(WORDS[4:])})
    joined: list[str] = []
    for word in WORDS[4:]:
        for end in range(2, len(word) + 2):
            joined += [] if (piece := f"{MARK}{word}"[:end]) in joined or len(piece) < 2 else [piece]
    joined += ["is", "se"]
    found = [("<pad>", 0.0, 3), ("<eos>", 0.0, 3), ("<bos>", 0.0, 3), ("<unk>", 0.0, 2), ("\n\n", 0.0, 4)]
    found += [(f"<0x{byte:02X}>", 0.0, 6) for byte in range(256)]
    return [*found, *((text, -float(number), 1) for number, text in enumerate([*joined, *letters]))]


def _field(number: int, kind: int, content: bytes) -> bytes:
    return bytes([number << 3 | kind]) + (bytes([len(content)]) if kind == 2 else b"") + content


def sentencepiece(found: Sequence[tuple[str, float, int]]) -> bytes:
    """A ModelProto of SentencePiece: field 1 is a piece, of a string, a float and an enum; field 2, the training, has more."""
    made = b""
    for text, score, kind in found:
        inner = _field(1, 2, text.encode()) + _field(2, 5, struct.pack("<f", score)) + (_field(3, 0, bytes([kind])) if kind != 1 else b"")
        made += _field(1, 2, inner)
    return made + _field(2, 2, _field(4, 0, b"\x80\x02") + _field(1, 2, b"a.txt"))


def write_gemma_file(path: Path) -> Path:
    """A text encoder as ComfyUI reads it."""
    tensors = tensors_of(language_model(GEMMA), "model.")
    save_file({**tensors, "spiece_model": torch.frombuffer(bytearray(sentencepiece(pieces())), dtype=torch.uint8)}, path)
    return path


def separate(folder: Path) -> dict[str, Path]:
    """LTX-2.3 in files of parts. That of the transformer has no prefix and no metadata; those of the VAEs keep the whole configuration."""
    from safetensors import safe_open

    source = unified(folder / "source")["model_path"]
    with safe_open(source, framework="pt") as file:
        metadata = file.metadata()
    tensors, prefix, there = load_file(source), "model.diffusion_model.", folder / "parts"
    (there / "vae").mkdir(parents=True)
    apart = {name for name in tensors if "embeddings_connector" in name or name.startswith("text_embedding_projection.")}
    inner = {name for name in tensors if name.startswith(prefix)} - apart
    sound = {name for name in tensors if name.startswith(("audio_vae.", "vocoder."))}
    save_file({name.removeprefix(prefix): tensors[name] for name in inner}, there / "a.safetensors")
    save_file({name: tensors[name] for name in apart}, there / "b.safetensors")
    save_file({name: tensors[name] for name in sound}, there / "vae" / "c.safetensors", metadata=metadata)
    pictures = {name.removeprefix("vae."): tensors[name] for name in tensors if name.startswith("vae.")}
    save_file(pictures, there / "vae" / "d.safetensors", metadata=metadata)
    write_gemma_file(there / "e.safetensors")
    assert len(inner) + len(apart) + len(sound) + len(pictures) == len(tensors)
    return {"model_path": there}
