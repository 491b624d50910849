"""Read the headers and the tensors of GGUF files, in which weights are packed in a few bits. The package `gguf` does both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from ltxcore.errors import CheckpointError

if TYPE_CHECKING:
    from numpy.typing import NDArray

BEGINNING = b"GGUF"
"""The first bytes of every GGUF file."""

PACKED = frozenset({"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"})
"""The types of packed weights that are read, under their names in GGUF files."""

_SHAPE = "comfy.gguf.orig_shape."
"""The beginning of the keys that give shapes of tensors which were reshaped to be packed."""

_AGAIN = "Download or copy the file again."


@attrs.frozen
class Packed:
    """A tensor of a GGUF file: its name, its type, its shape, and the start and end of its bytes in the file."""

    name: str
    type: str
    shape: tuple[int, ...]
    start: int
    end: int


def tensors_in(path: Path) -> tuple[Mapping[str, str], list[Packed]]:
    """Return the metadata that are text, and the tensors, of a GGUF file.

    Raises:
        CheckpointError: the package is missing, or the file is damaged or cut short.
    """
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise CheckpointError(
            f"is a GGUF file, and the package that reads such files cannot be imported: {error}",
            where=str(path),
            remedy='Install it: pip install "ltx[gguf]". Or use the bf16 or fp8 safetensors file of the model.',
        ) from None
    try:
        reader = GGUFReader(path)
        said = {name: field.contents() for name, field in reader.fields.items()}
        found = [_packed(tensor, said.get(f"{_SHAPE}{tensor.name}")) for tensor in reader.tensors]
    except Exception:  # noqa: BLE001 - the reader raises whatever reading beyond the end of a file or an unknown number raises
        raise CheckpointError("is a GGUF file that is damaged or cut short", where=str(path), remedy=_AGAIN) from None
    if len({tensor.name for tensor in found}) < len(found) or any(tensor.end > path.stat().st_size for tensor in found):
        raise CheckpointError("is a GGUF file that is damaged or cut short", where=str(path), remedy=_AGAIN)
    return {name: value for name, value in said.items() if isinstance(value, str)}, found


def _packed(tensor: Any, shape: Any) -> Packed:
    start = int(tensor.data_offset)
    sizes = reversed(tensor.shape.tolist()) if shape is None else shape
    return Packed(str(tensor.name), tensor.tensor_type.name, tuple(map(int, sizes)), start, start + int(tensor.n_bytes))


def unpacked(path: Path, type: str, count: int, start: int, end: int, at_once: int) -> Iterator[NDArray[Any]]:
    """Yield the values of a tensor in pieces, flat, float32 or, if they are stored so, float64.

    Args:
        path: the file.
        type: the type of the tensor, under its name in GGUF.
        count: the number of values.
        start, end: the start and end of the tensor's bytes in the file.
        at_once: about how many values a piece has, so that a large tensor takes little memory.

    Raises:
        CheckpointError: the file has changed since its header was read.
    """
    import numpy as np
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    kind = GGMLQuantizationType[type]
    values, size = GGML_QUANT_SIZES[kind]
    step = max(1, at_once // values) * size
    try:
        # Pages are copied when they are written to, since torch does not take arrays that cannot be written to.
        content = np.memmap(path, mode="c", offset=start, shape=(end - start,))
        if len(content) * values != count * size:
            raise ValueError(f"{len(content)} bytes do not hold {count} values")
        for begin in range(0, len(content), step):
            piece = content[begin : begin + step]
            yield piece.view(np.float64) if type == "F64" else dequantize(piece, kind)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"is damaged: {error}", where=str(path), remedy=_AGAIN) from None
