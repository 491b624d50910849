"""LoRA files with their strengths, as commands and run files name them, without torch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import NewType

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
    """A LoRA as the metadata of another file describe it. Two are equal if they have the same content and strength, whatever the file's
    name was.
    """

    name: str = attrs.field(eq=False)
    strength: float
    sha256: str

    def __str__(self) -> str:
        return str(Strength(Path(self.name), self.strength))


def said_of(loras: Iterable[Strength], before: Iterable[Said] = ()) -> str:
    """Return the name, strength and SHA-256 of each LoRA as JSON, for the metadata of a file; those `before` come first."""
    said = [*before, *(Said(each.path.name, each.strength, digest(each.path)) for each in loras)]
    return json.dumps([attrs.asdict(each) for each in said])


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
        return [Said(str(each["name"]), float(each["strength"]), str(each["sha256"])) for each in json.loads(metadata.get(key, "[]"))]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ConfigError(f"the metadata {key} cannot be read", where=where, remedy="Make the file again.") from error


def frozen_in(lora: Strength) -> list[Said]:
    """Return the LoRAs that a LoRA was trained on top of, as its metadata describe them.

    Raises:
        ConfigError: the metadata cannot be read.
    """
    return said_in(lora.metadata, FROZEN, str(lora.path))


def lacking_under(loras: Sequence[Strength]) -> Iterator[tuple[Strength, Said]]:
    """Yield each LoRA that was trained on top of one that is not among these LoRAs with the same strength, and the one that lacks.

    Raises:
        ConfigError: as in `frozen_in`.
    """
    wanted = [(lora, under) for lora in loras for under in frozen_in(lora)]
    used = {(digest(lora.path), lora.strength) for lora in loras} if wanted else set()
    yield from ((lora, under) for lora, under in wanted if (under.sha256, under.strength) not in used)


def not_under(loras: Sequence[Strength]) -> Iterator[str]:
    """For each LoRA that others of these were trained on top of, and that is not one of these with the same strength, yield what is wrong.

    Raises:
        ConfigError: as in `frozen_in`.
    """
    for lora, under in lacking_under(loras):
        yield f"{lora.path} was trained on top of {under}, which is not used"
