"""Files of weights: what their headers say, and their tensors one at a time. A file that is not whole is refused before a tensor is read."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
from torch import Tensor

from ltxcore.errors import CheckpointError, Problem, listed

_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I8", "U8", "BOOL"), 8),
    "F4": 4,
}
_FLOATING = frozenset({"F64", "F32", "F16", "BF16"})
_LONGEST_HEADER = 100_000_000
_AGAIN = "Download or copy it again."


@attrs.frozen
class Slot:
    """Where a tensor lies: its file, dtype (as safetensors names it), shape, and its bytes from `start` to `end`."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@attrs.frozen(eq=False)
class Weights:
    """The tensors of one file, or of the parts of one folder, by name.

    Attributes:
        where: the file or folder.
        metadata: of the file; empty for a folder.
        slots: every tensor.
    """

    where: Path
    metadata: Mapping[str, str]
    slots: Mapping[str, Slot]

    def read(self, names: Collection[str], device: str = "cpu") -> Iterator[tuple[str, Tensor]]:
        """These tensors as they are stored, mapped into memory (CPU) or straight to `device`; file by file.

        Raises:
            CheckpointError: a file that changed since its header was read.
        """
        from safetensors import SafetensorError, safe_open

        for path in sorted({self.slots[name].file for name in names}):
            try:
                with safe_open(path, framework="pt", device=device) as file:
                    for name in names:
                        if self.slots[name].file == path:
                            yield name, file.get_tensor(name)
            except (OSError, SafetensorError) as error:
                raise CheckpointError(f"is damaged: {error}", where=str(path), remedy=_AGAIN) from None

    def bytes_of(self, name: str) -> bytes:
        """The content of a tensor that holds a file, such as a packed tokenizer."""
        slot = self.slots[name]
        with slot.file.open("rb") as file:
            file.seek(slot.start)
            return file.read(slot.end - slot.start)


def open_file(path: Path) -> Weights:
    """The header of a safetensors file.

    Raises:
        CheckpointError: missing, no safetensors file, or truncated.
    """
    metadata, slots = _header(path)
    return Weights(path, metadata, slots)


def open_folder(folder: Path) -> Weights:
    """The weights of a folder written by diffusers or transformers: one safetensors file, or several and their index.

    Raises:
        CheckpointError: none, or not all that the index names, or tensors that are not in the file that the index says.
    """
    indices = sorted(folder.glob("*.safetensors.index.json"))
    if not indices:
        return _single(folder)
    placed: dict[str, str] = read_json(indices[0]).get("weight_map", {})
    missing = sorted({name for name in placed.values() if not (folder / name).is_file()})
    if missing:
        raise CheckpointError(
            f"{len(missing)} of the {len(set(placed.values()))} files that {indices[0].name} names are missing: {listed(missing)}",
            where=str(folder),
            remedy="Download the rest of the folder.",
        )
    found = {name: (file, slot) for file in sorted(set(placed.values())) for name, slot in _header(folder / file)[1].items()}
    astray = sorted(name for name in placed.keys() | found.keys() if name not in found or placed.get(name) != found[name][0])
    if astray:
        raise CheckpointError(
            f"{indices[0].name} and the files that it names do not agree about {listed(astray)}", where=str(folder), remedy=_AGAIN
        )
    return Weights(folder, {}, {name: slot for name, (_, slot) in found.items()})


def _single(folder: Path) -> Weights:
    files = sorted(folder.glob("*.safetensors"))
    if len(files) != 1:
        told = f"{len(files)} safetensors files and no index" if files else "no safetensors file"
        raise CheckpointError(f"this folder has {told}", where=str(folder), remedy="Download the whole folder again.")
    return Weights(folder, {}, _header(files[0])[1])


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        CheckpointError: missing, or no JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError("there is no such file", where=str(path), remedy="Download the whole folder again.") from None
    except (OSError, ValueError):
        value = None
    if not isinstance(value, dict):
        raise CheckpointError("is no JSON object", where=str(path), remedy=_AGAIN)
    return value


def _header(path: Path) -> tuple[dict[str, str], dict[str, Slot]]:
    where = str(path)
    if not path.is_file():
        raise CheckpointError("there is no such file", where=where, remedy="Check the path, or download the file.")
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        begin = 8 + length
        head = file.read(length) if 2 <= length <= _LONGEST_HEADER else b""
    try:
        header = json.loads(head)
        metadata = header.pop("__metadata__", {})
        slots = {name: _slot(path, begin, told) for name, told in header.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        raise CheckpointError("is no safetensors file, or its beginning is damaged", where=where, remedy=_AGAIN) from None
    end = max((slot.end for slot in slots.values()), default=begin)
    if size < end:
        raise CheckpointError(f"is truncated: {size} of {end} bytes are there", where=where, remedy=_AGAIN)
    if size > end or sum(slot.end - slot.start for slot in slots.values()) != end - begin:
        raise CheckpointError("is damaged: its tensors do not fill it exactly", where=where, remedy=_AGAIN)
    return metadata, slots


def _slot(path: Path, begin: int, told: Mapping[str, Any]) -> Slot:
    start, end = told["data_offsets"]
    shape = tuple(int(side) for side in told["shape"])
    if (end - start) * 8 != math.prod(shape) * _BITS[told["dtype"]]:
        raise ValueError("a tensor whose size is not that of its shape")
    return Slot(path, told["dtype"], shape, begin + start, begin + end)


def check_names(part: str, expected: Mapping[str, tuple[int, ...]], found: Mapping[str, Slot], where: str) -> None:
    """Refuse tensors that are not exactly those that a part is made of.

    Args:
        part: what they are tensors of, for the message.
        expected: shape by name.
        found: those that the file or folder has for this part.
        where: the file or folder.

    Raises:
        CheckpointError: for all tensors that are missing, unexpected, of another shape, or not of a floating-point type.
    """
    both = expected.keys() & found.keys()
    missing = sorted(expected.keys() - found.keys())
    foreign = sorted(found.keys() - expected.keys())
    wrong = [
        f"{name} is {list(found[name].shape)} and should be {list(expected[name])}"
        for name in sorted(both)
        if found[name].shape != expected[name]
    ]
    packed = [f"{name} ({found[name].dtype})" for name in sorted(both) if found[name].dtype not in _FLOATING]
    problems = []
    if missing:
        problems.append(Problem(f"{_tensors(missing)} of the {part} {_are(missing)} missing: {listed(missing)}", where))
    if foreign:
        problems.append(Problem(f"{_tensors(foreign)} {_are(foreign)} not part of the {part}: {listed(foreign)}", where))
    if wrong:
        problems.append(
            Problem(f"{_tensors(wrong)} of the {part} {'has' if len(wrong) == 1 else 'have'} the wrong shape: {listed(wrong)}", where)
        )
    if packed:
        problems.append(
            Problem(f"{_tensors(packed)} of the {part} {_are(packed)} stored in fewer bits, which is not read: {listed(packed)}", where)
        )
    if problems:
        raise CheckpointError.of(problems)


def _tensors(names: Collection[str]) -> str:
    return f"{len(names)} tensor{'' if len(names) == 1 else 's'}"


def _are(names: Collection[str]) -> str:
    return "is" if len(names) == 1 else "are"
