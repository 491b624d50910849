"""LoRA files with their strengths, as commands and run files name them, without torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, NewType

import attrs

from ltxcore.errors import ConfigError
from ltxcore.files import digest, is_file
from ltxcore.headers import read_file

LoraPath = NewType("LoraPath", str)
"""The type of a LoRA in a run file: an absolute path, and after a colon its strength, unless it is 1."""

MERGED = "merged_loras"
"""The metadata key of the LoRAs that a file contains, as `said_of` writes them."""

FROZEN = "frozen_loras"
"""The metadata key of the LoRAs that a LoRA was trained on top of, as `said_of` writes them."""

MERGE = "`ltx lora merge LORA... --model MODEL -o FILE`"
"""The command that merges LoRAs into a model, for remedies."""


@attrs.frozen
class Strength:
    """A LoRA file with its strength: 1 is as trained, 0 is off, and a negative strength subtracts the LoRA's change."""

    path: Path
    strength: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Strength:
        """Parse `FILE` or `FILE:STRENGTH`.

        Raises:
            ConfigError: there is no such file, or the strength is not a finite number.
        """
        found = cls.split(text)
        if not is_file(found.path):
            raise ConfigError(
                f"there is no file {found.path}", remedy="Name a LoRA file, such as lora.safetensors or lora.safetensors:0.8."
            )
        return found

    @classmethod
    def split(cls, text: str, folder: Path = Path()) -> Strength:
        """Parse `FILE` or `FILE:STRENGTH`, whether or not there is such a file. A relative path begins at `folder`.

        Raises:
            ConfigError: the strength is not a finite number.
        """
        path, colon, number = text.rpartition(":")
        try:
            found = cls(Path(path), float(number)) if colon and not is_file(folder / text) else cls(Path(text))
        except ValueError:  # the colon belongs to the file's name
            found = cls(Path(text))
        if not isfinite(found.strength):
            raise ConfigError(f"the strength {number} is not a finite number", where=path, remedy="Give a number, such as 0.8.")
        return found

    def __str__(self) -> str:
        return f"{self.path}" if self.strength == 1 else f"{self.path}:{self.strength!r}"

    @property
    def metadata(self) -> dict[str, str]:
        """The file's metadata.

        Raises:
            CheckpointError: the file is not a safetensors file.
        """
        return dict(read_file(self.path).metadata)


def strengths(loras: Iterable[LoraPath]) -> list[Strength]:
    """Return the LoRAs of a run file with their strengths."""
    return [Strength.split(each) for each in loras]


@attrs.frozen
class Said:
    """A LoRA as the metadata of another file describe it. Two objects are equal if the content and the strength are the same, whatever the
    names of the files.

    Attributes:
        name: the name of the file.
        strength: its strength.
        sha256: the SHA-256 of its content.
        merged: the LoRAs that were merged into this file.
    """

    name: str = attrs.field(eq=False)
    strength: float
    sha256: str
    merged: tuple[Said, ...] = attrs.field(default=(), eq=False)

    def all(self) -> Iterator[Said]:
        """Yield this LoRA, and the LoRAs that were merged into it, with the strengths that result from both."""
        yield self
        for each in self.merged:
            yield from attrs.evolve(each, strength=each.strength * self.strength).all()

    def __str__(self) -> str:
        return str(Strength(Path(self.name), self.strength))


def said_of(loras: Iterable[Strength], before: Iterable[Said] = ()) -> str:
    """Return the name, strength and SHA-256 of each LoRA, and which LoRAs were merged into it, as JSON for the metadata of a file; those
    `before` come first.
    """
    return json.dumps([_plain(each) for each in (*before, *map(_said, loras))])


def _said(lora: Strength) -> Said:
    return Said(lora.path.name, lora.strength, digest(lora.path), tuple(said_in(lora.metadata, MERGED, str(lora.path))))


def _plain(said: Said) -> dict[str, Any]:
    merged = {MERGED: [_plain(each) for each in said.merged]} if said.merged else {}
    return {"name": said.name, "strength": said.strength, "sha256": said.sha256, **merged}


def _read(plain: Mapping[str, Any]) -> Said:
    merged = tuple(_read(each) for each in plain.get(MERGED, ()))
    return Said(str(plain["name"]), float(plain["strength"]), str(plain["sha256"]), merged)


def said_in(metadata: Mapping[str, str], key: str, where: str) -> list[Said]:
    """Return the LoRAs that `said_of` wrote to the metadata of a file; none if it wrote nothing under this key.

    Args:
        metadata: the metadata.
        key: the metadata key.
        where: the file, for messages.

    Raises:
        ConfigError: the metadata cannot be read.
    """
    try:
        return [_read(each) for each in json.loads(metadata.get(key, "[]"))]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ConfigError(f"the metadata {key} cannot be read", where=where, remedy="Make the file again.") from error


def frozen_in(lora: Strength) -> list[Said]:
    """Return the LoRAs that a LoRA was trained on top of, as its metadata describe them.

    Raises:
        ConfigError: the metadata cannot be read.
    """
    return said_in(lora.metadata, FROZEN, str(lora.path))


def lacking_under(loras: Sequence[Strength]) -> Iterator[tuple[Strength, Said]]:
    """Yield each of these LoRAs that was trained on top of another one that is missing, together with the missing one. A LoRA with a
    different strength counts as missing.

    Raises:
        ConfigError: as in `frozen_in`.
    """
    for lora in loras:
        yield from ((lora, under) for under in lacking(frozen_in(lora), loras))


def lacking(wanted: Sequence[Said], loras: Sequence[Strength]) -> list[Said]:
    """Return the LoRAs that the metadata describe and that are missing: those that are neither among the given LoRAs nor merged into one of
    them, with the same strength.
    """
    used = [each for lora in loras for each in _said(lora).all()] if wanted else []
    return [each for each in wanted if each not in used]


def not_under_model(model: Path, loras: Sequence[Strength]) -> Iterator[str]:
    """Yield a message for each LoRA that a model was fine-tuned on top of, unless it is among these with the same strength.

    Raises:
        CheckpointError: the model is a file that cannot be read.
        ConfigError: the metadata cannot be read.
    """
    said = said_in(read_file(model).metadata, FROZEN, str(model)) if is_file(model) else []
    for under in lacking(said, loras):
        yield f"{model} was trained on top of {under}, which is not used"


def not_under(loras: Sequence[Strength]) -> Iterator[str]:
    """Yield a message for each LoRA that one of these was trained on top of, unless it is itself among these with the same strength.

    Raises:
        ConfigError: as in `frozen_in`.
    """
    for lora, under in lacking_under(loras):
        yield f"{lora.path} was trained on top of {under}, which is not used"
