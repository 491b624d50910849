"""Read the headers of safetensors and GGUF files, without torch and without reading the tensors. For 40 GB, this takes
milliseconds.

An incomplete file is refused here, before any tensor is read. The scales of 8-bit weights are also found here: code
that reads a tensor multiplies it by the scale that its `Slot` names, and never sees the scale as a separate tensor.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from ltxcore.errors import CheckpointError, listed
from ltxcore.files import is_file, text_in, why_unread
from ltxcore.gguf_files import BEGINNING, tensors_in
from ltxcore.model_config import json_object

BITS: Mapping[str, int] = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I8", "U8", "BOOL"), 8),
    "F4": 4,
}
"""The number of bits of a value, by the name of its dtype in a file."""

INDEX = ".index.json"
"""The ending that turns the name of a safetensors file into the name of the index of its parts."""

BF16 = "Use the bf16 file, and quantization under [acceleration]."
"""The remedy for weights in a format that is not supported."""

_PICKLE = "a PyTorch file (.ckpt, .pt, .bin), which may run programs when it is opened"
_SCALES = (".weight_scale", ".scale_weight")
"""The endings that replace `.weight` in the name of a weight's scale: the first in official and ComfyUI 8-bit files,
the second in older ComfyUI files.
"""

_BESIDE_WEIGHTS = (".input_scale", ".scale_input", ".comfy_quant")
"""The endings in the names of further tensors about an 8-bit weight: the scale of its inputs for 8-bit arithmetic, and
the format of the weight.
"""

_MARKER = "scaled_fp8"
"""The name of a tensor that older ComfyUI files contain if their weights have scales."""

FLOATING = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})
"""The dtypes of weights that are stored as plain numbers, with or without a scale."""

_READABLE = frozenset({"float8_e4m3fn", "float8_e5m2"})
"""ComfyUI's formats that store a weight as numbers to be multiplied by a scale."""

_OTHERS = {
    b"PK\x03\x04": _PICKLE,
    b"\x80\x02": _PICKLE,
    b"\x80\x04": _PICKLE,
}
"""Other kinds of model files, recognized by their first bytes."""

_LONGEST_HEADER = 100_000_000
_SAMPLES, _SAMPLE_BYTES = 64, 4096
_AT_ONCE = 2**20
_AGAIN = "Download or copy the file again."
_WHOLE_FOLDER = "Download the complete folder again."


@attrs.frozen
class Slot:
    """The place of a tensor in a file.

    Attributes:
        file: the file that holds the tensor.
        dtype: the dtype, under its name in safetensors.
        shape: the tensor's shape.
        start, end: the start and end of the tensor's bytes in the file.
        is_gguf: whether the file is a GGUF file; the dtype is then the type under its name in GGUF.
        scale: the name and place of the scale that the tensor is multiplied by, of shape `[]`, `[1]`, `[rows]` or
            `[rows, 1]`; None if the tensor has no scale.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int
    scale: tuple[str, Slot] | None = None
    is_gguf: bool = False

    @property
    def count(self) -> int:
        """The number of values of the tensor."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """The size of the tensor in bytes."""
        return self.end - self.start

    def content(self) -> bytes:
        """Read the bytes of the tensor, for a tensor that holds text or a file, such as a packed tokenizer."""
        with self.file.open("rb") as file:
            file.seek(self.start)
            return file.read(self.size)


@attrs.frozen
class Slots:
    """The tensors of one file, or of the parts of one folder, by name.

    Attributes:
        where: the file, index or folder.
        metadata: the metadata of the file, or of the first file in an index; empty for a folder.
        slots: the place of every tensor, by name.
    """

    where: Path
    metadata: Mapping[str, str]
    slots: Mapping[str, Slot]

    @property
    def files(self) -> list[Path]:
        """The files that hold the tensors, sorted."""
        return sorted({slot.file for slot in self.slots.values()})


def tensors_fingerprint(slots: Mapping[str, Slot], *others: str) -> str:
    """Return a fingerprint of tensors, of their names in `slots`, and of `others`. Only two samples of each tensor are
    read. The result does not depend on which files hold the tensors.

    Source: docs/explanation/model-files.md#fingerprints
    """
    digest = hashlib.sha256("/".join(others).encode())
    for name, slot in sorted(slots.items()):
        digest.update(f"{name} {slot.dtype} {slot.shape}".encode())
        for part in (slot, *(slot.scale[1:] if slot.scale else ())):
            with part.file.open("rb") as file:
                for start in (part.start, max(part.start, part.end - _SAMPLE_BYTES)):
                    file.seek(start)
                    digest.update(file.read(min(_SAMPLE_BYTES, part.end - start)))
    return digest.hexdigest()[:16]


def fingerprint(path: Path) -> str:
    """Return a hash of a file's size, its beginning and 64 samples spread over it. For 40 GB, this takes seconds rather
    than minutes. For a folder or an index, return the fingerprint of all its weights.
    """
    digest = hashlib.sha256()
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else read_file(path).files if is_index(path) else [path]
    for file in files:
        _add_samples(digest, file)
    return digest.hexdigest()[:32]


def _add_samples(digest: Any, path: Path) -> None:
    size = path.stat().st_size
    digest.update(str(size).encode())
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        left = min(length, size, _LONGEST_HEADER)
        while left > 0 and (read := file.read(min(left, _AT_ONCE))):
            digest.update(read)
            left -= len(read)
        for i in range(_SAMPLES):
            file.seek(i * max(0, size - _SAMPLE_BYTES) // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))


def is_index(path: Path) -> bool:
    """Return whether a path names an index, which lists the parts of a model."""
    return path.name.endswith(f".safetensors{INDEX}")


def read_file(path: Path) -> Slots:
    """Read the header of a safetensors or GGUF file or, given an index, of all parts that it lists.

    Raises:
        CheckpointError: the file is missing, truncated, neither a safetensors nor a GGUF file, or only a pointer to a file that was
            not downloaded; a part is missing or does not match the index; or a weight is stored in an unsupported
            format.
    """
    found = _read_index(path) if is_index(path) else _read_one(path)
    return attrs.evolve(found, slots=_with_scales(found.slots))


def _read_one(path: Path) -> Slots:
    """Read the header of one safetensors file, and return every tensor separately, including scales."""
    where = str(path)
    if not is_file(path):
        raise CheckpointError("there is no such file", where=where, remedy="Check the path, or download the file.")
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            first = file.read(8)
            length = int.from_bytes(first, "little")
            head = file.read(length) if 2 <= length <= _LONGEST_HEADER else b""
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror}", where=where, remedy="Check its permissions.") from None
    if first.startswith(BEGINNING):
        metadata, tensors = tensors_in(path)
        return Slots(path, metadata, {each.name: Slot(path, each.type, each.shape, each.start, each.end, is_gguf=True) for each in tensors})
    if first == b"version ":
        raise CheckpointError("is a pointer of Git LFS, not the file itself", where=where, remedy="Run `git lfs pull` in its folder.")
    begin = 8 + length
    try:
        header = json.loads(head)
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError("metadata that are not text")
        slots = {name: _slot(path, begin, told) for name, told in header.items()}
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError):
        _refuse_other_kinds(first, where)  # not checked earlier, since the length of a header may begin with the same bytes
        raise CheckpointError("is not a safetensors file, or its beginning is damaged", where=where, remedy=_AGAIN) from None
    end = max((slot.end for slot in slots.values()), default=begin)
    if size < end:
        raise CheckpointError(f"is truncated: only {size} of {end} bytes are there", where=where, remedy=_AGAIN)
    if size > end or sum(slot.size for slot in slots.values()) != end - begin:
        raise CheckpointError("is damaged: the tensors do not fill the file exactly", where=where, remedy=_AGAIN)
    return Slots(path, metadata, slots)


def _refuse_other_kinds(first: bytes, where: str) -> None:
    kind = next((told for beginning, told in _OTHERS.items() if first.startswith(beginning)), None)
    if kind is not None:
        raise CheckpointError(
            f"is {kind}, and only safetensors and GGUF files are read",
            where=where,
            remedy="Use the bf16 or fp8 safetensors file of the model; quantization under [acceleration] makes it smaller in memory.",
        )


def _with_scales(slots: Mapping[str, Slot]) -> dict[str, Slot]:
    """Attach the scales of 8-bit weights to their tensors, and drop the tensors that only describe how weights are
    stored.

    Raises:
        CheckpointError: a weight has an unsupported format, such as NVFP4, in which every few numbers of a row have
            their own scale.
    """
    found = dict(slots)
    for name in slots:
        owner, _, last = name.rpartition(".")
        weight = slots.get(f"{owner}.weight")
        if last == _MARKER and slots[name].dtype.startswith("F8"):
            del found[name]
        elif weight is None or weight.dtype not in FLOATING or f".{last}" not in (*_SCALES, *_BESIDE_WEIGHTS):
            continue
        elif f".{last}" in _SCALES:
            _refuse_blocks(name, slots[name], weight)
            found[f"{owner}.weight"] = attrs.evolve(weight, scale=(name, slots[name]))
            del found[name]
        else:
            if last == "comfy_quant":
                _refuse_formats(name, slots[name])
            del found[name]
    return found


def _refuse_blocks(name: str, scale: Slot, weight: Slot) -> None:
    rows = weight.shape[:1]
    if scale.dtype not in FLOATING or scale.shape not in ((), (1,), rows, (*rows, 1)):
        raise CheckpointError(
            f"{name} has dtype {scale.dtype} and shape {list(scale.shape)}; a weight must have one scale, or one scale per row",
            where=str(scale.file),
            remedy=BF16,
        )


def _refuse_formats(name: str, marker: Slot) -> None:
    """Refuse a weight in an unsupported format. ComfyUI names the format in a JSON object, stored in a tensor of bytes."""
    content = marker.content()
    try:
        told = json.loads(content)["format"]
    except (ValueError, TypeError, KeyError, RecursionError):
        told = content[:40]
    if told not in _READABLE:
        raise CheckpointError(
            f"{name} says that the weight is stored as {told!r}, which is not supported", where=str(marker.file), remedy=BF16
        )


def read_folder(folder: Path) -> Slots:
    """Read the headers of the weights in a folder of diffusers or transformers: one safetensors file, or several files
    and their index.

    Raises:
        CheckpointError: there are no files, a file in the index is missing, or a tensor is not in the file that the
            index names.
    """
    indices = sorted(folder.glob(f"*.safetensors{INDEX}"))
    return Slots(folder, {}, read_file(indices[0] if indices else _single(folder)).slots)


def _read_index(index: Path) -> Slots:
    folder, placed = index.parent, read_json(index).get("weight_map")
    if not isinstance(placed, dict) or not placed or not all(isinstance(name, str) for name in placed.values()):
        raise CheckpointError("does not say which files the tensors are in", where=str(index), remedy=_WHOLE_FOLDER)
    outside = sorted(name for name in set(placed.values()) if Path(name).name != name)
    if outside:
        raise CheckpointError(f"names files outside its folder: {listed(outside)}", where=str(index), remedy=_WHOLE_FOLDER)
    indices = sorted(name for name in set(placed.values()) if is_index(Path(name)))
    if indices:
        raise CheckpointError(f"names index files instead of files of tensors: {listed(indices)}", where=str(index), remedy=_WHOLE_FOLDER)
    missing = sorted(name for name in set(placed.values()) if not (folder / name).is_file())
    if missing:
        raise CheckpointError(
            f"lacks {len(missing)} of the {len(set(placed.values()))} files that {index.name} names: {listed(missing)}",
            where=str(folder),
            remedy="Download the rest of the folder.",
        )
    parts = {file: _read_one(folder / file) for file in sorted(set(placed.values()))}
    found = {name: (file, slot) for file, part in parts.items() for name, slot in part.slots.items()}
    astray = sorted(name for name in placed.keys() | found.keys() if name not in found or placed.get(name) != found[name][0])
    if astray:
        raise CheckpointError(f"{index.name} and the files that it names disagree about {listed(astray)}", where=str(folder), remedy=_AGAIN)
    return Slots(index, next(iter(parts.values())).metadata, {name: slot for name, (_, slot) in found.items()})


def _single(folder: Path) -> Path:
    files = sorted(folder.glob("*.safetensors"))
    if len(files) != 1:
        told = f"{len(files)} safetensors files and no index" if files else "no safetensors file"
        raise CheckpointError(f"this folder has {told}", where=str(folder), remedy=_WHOLE_FOLDER)
    return files[0]


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises:
        CheckpointError: the file is missing, cannot be read, or is not a JSON object.
    """
    try:
        value = json_object(text_in(path))
    except OSError as error:
        raise CheckpointError(why_unread(error), where=str(path), remedy=_WHOLE_FOLDER) from None
    except UnicodeDecodeError:
        value = None
    if value is None:
        raise CheckpointError("is not a JSON object", where=str(path), remedy=_AGAIN)
    return value


def _slot(path: Path, begin: int, told: Mapping[str, Any]) -> Slot:
    start, end = told["data_offsets"]
    shape = tuple(told["shape"])
    if not all(type(number) is int and number >= 0 for number in (start, end, *shape)):
        raise ValueError("a tensor without a valid place or shape")
    if (end - start) * 8 != math.prod(shape) * BITS[told["dtype"]]:
        raise ValueError("a tensor whose size does not match its shape")
    return Slot(path, told["dtype"], shape, begin + start, begin + end)
