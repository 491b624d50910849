"""GGUF files byte by byte, from the description of the format and of its blocks. Nothing here knows how ltx reads them."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

TYPES = {"F32": 0, "F16": 1, "Q8_0": 8, "Q4_K": 12, "IQ4_NL": 20, "F64": 28, "BF16": 30}
ALIGNMENT = 32
TEXT = 8


def plain(tensor: Tensor, type: str) -> bytes:
    dtype = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}[type]
    return tensor.to(dtype).contiguous().view(torch.uint8).numpy().tobytes()


def q8_0(tensor: Tensor) -> tuple[bytes, Tensor]:
    """Blocks of 32: a float16, and 32 signed bytes to be multiplied by it. Also what they stand for."""
    blocks = tensor.float().reshape(-1, 32)
    scale = (blocks.abs().amax(dim=1, keepdim=True) / 127).half()
    numbers = (blocks / scale.float()).round().clamp(-127, 127).to(torch.int8)
    made = b"".join(each.numpy().tobytes() + row.numpy().tobytes() for each, row in zip(scale, numbers, strict=True))
    return made, (scale.float() * numbers.float()).reshape(tensor.shape)


def q4_k(shape: tuple[int, ...], seed: int) -> tuple[bytes, Tensor]:
    """Blocks of 256 from a seed: two float16, eight scales and eight least values of 6 bits in 12 bytes, and 256 numbers of 4 bits."""
    chance, made, meant = np.random.default_rng(seed), b"", []
    for _ in range(int(np.prod(shape)) // 256):
        both = np.array([chance.uniform(1e-4, 2e-4), chance.uniform(1e-4, 2e-4)], dtype=np.float16)
        scales, least = chance.integers(1, 64, 8), chance.integers(0, 64, 8)
        numbers = chance.integers(0, 16, (8, 32))
        packed = [int(scales[n]) | int(scales[n + 4]) >> 4 << 6 for n in range(4)]
        packed += [int(least[n]) | int(least[n + 4]) >> 4 << 6 for n in range(4)]
        packed += [int(scales[n + 4]) & 15 | (int(least[n + 4]) & 15) << 4 for n in range(4)]
        nibbles = b"".join((numbers[2 * n] | numbers[2 * n + 1] << 4).astype(np.uint8).tobytes() for n in range(4))
        made += both.tobytes() + bytes(packed) + nibbles
        step, off = both.astype(np.float32)
        meant.append(step * scales[:, None] * numbers - off * least[:, None])
    return made, torch.tensor(np.stack(meant), dtype=torch.float32).reshape(shape)


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def write_gguf(path: Path, tensors: Mapping[str, tuple[str, tuple[int, ...], bytes]], **metadata: str) -> Path:
    """Write tensors, each with its type, shape and bytes, and metadata."""
    told = {"general.architecture": "ltxv", **metadata}
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(told))
    head += b"".join(_text(name) + struct.pack("<I", TEXT) + _text(value) for name, value in told.items())
    content = b""
    for name, (type, shape, values) in tensors.items():
        content += bytes(-len(content) % ALIGNMENT)
        head += _text(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape)) + struct.pack("<IQ", TYPES[type], len(content))
        content += values
    path.write_bytes(head + bytes(-len(head) % ALIGNMENT) + content)
    return path
