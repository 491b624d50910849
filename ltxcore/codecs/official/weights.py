"""Weights of a file or folder, read one tensor at a time, and held against what they should be.

What is not whole is refused by its header (`ltxcore.headers`), before a tensor is read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import attrs
from torch import Tensor

from ltxcore.errors import CheckpointError, Problem, listed
from ltxcore.headers import Slot, Slots, read_file, read_folder, scaled

_FLOATING = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})


@attrs.frozen(eq=False)
class Weights:
    """The tensors of one file, or of the parts of one folder.

    Attributes:
        header: what the file or folder says of itself.
    """

    header: Slots

    @property
    def where(self) -> Path:
        """The file or folder."""
        return self.header.where

    @property
    def metadata(self) -> Mapping[str, str]:
        """Of the file; empty for a folder."""
        return self.header.metadata

    @property
    def slots(self) -> Mapping[str, Slot]:
        """Every tensor, by name."""
        return self.header.slots

    def read(self, names: Collection[str], device: str = "cpu") -> Iterator[tuple[str, Tensor]]:
        """These tensors as they are stored, mapped into memory (CPU) or straight to `device`; 8-bit weights with a scale multiplied by it; file by file.

        Raises:
            CheckpointError: a file that changed since its header was read.
        """
        from safetensors import SafetensorError, safe_open

        for path in sorted({self.slots[name].file for name in names}):
            try:
                with safe_open(path, framework="pt", device=device) as file:
                    for name in names:
                        if self.slots[name].file == path:
                            yield name, self._scaled(name, file.get_tensor(name))
            except (OSError, SafetensorError) as error:
                raise CheckpointError(f"is damaged: {error}", where=str(path), remedy="Download or copy it again.") from None

    def _scaled(self, name: str, stored: Tensor) -> Tensor:
        from safetensors import safe_open

        found = self.slots[name].scale
        if found is None:
            return stored
        scale, place = found
        with safe_open(place.file, framework="pt") as file:
            return scaled(stored, file.get_tensor(scale).to(stored.device))

    def bytes_of(self, name: str) -> bytes:
        """The content of a tensor that holds a file, such as a packed tokenizer."""
        slot = self.slots[name]
        with slot.file.open("rb") as file:
            file.seek(slot.start)
            return file.read(slot.end - slot.start)


def open_file(path: Path) -> Weights:
    """The weights of a safetensors file.

    Raises:
        CheckpointError: missing, no safetensors file, or not whole.
    """
    return Weights(read_file(path))


def open_folder(folder: Path) -> Weights:
    """The weights of a folder written by diffusers or transformers.

    Raises:
        CheckpointError: none, or not all that its index names.
    """
    return Weights(read_folder(folder))


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
