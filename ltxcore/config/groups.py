# ruff: noqa: RUF009 (`key` makes an attrs field, not a shared default)
"""The groups of `[lora]` and of `[optimization]`: tables with settings for some of the modules."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import attrs

from ltxcore.config.tables import Finding, key

WIDEST = 16_384
"""The width of the largest matrix of any model of the family, above which no LoRA rank makes sense."""

OF_B = "lora_B"
"""The name of the parameter group of the B matrices if `lora_plus_ratio` is set; no other group may have this name."""

RANGE = re.compile(r"(\d+)(?:(-)(\d+)?)?")


def in_blocks(blocks: str, number: int | None) -> bool:
    """Return whether `blocks`, such as "0-3,40-47", includes the number of a block; None stands for a module outside all blocks."""
    return number is not None and any(first <= number <= (number if last is None else last) for first, last in ranges(blocks))


def ranges(blocks: str) -> list[tuple[int, int | None]]:
    """Return the first and the last number of each range in `blocks`; the last is None for a range to the end.

    Raises:
        ValueError: the text is not a list of ranges.
    """
    found = []
    for part in blocks.split(","):
        match = RANGE.fullmatch("".join(part.split()))
        if match is None or len(match[1]) > 6:
            raise ValueError(f'"{part.strip()}" is not a range of blocks')
        last = int(match[3]) if match[3] else None if match[2] else int(match[1])
        if last is not None and last < int(match[1]):
            raise ValueError(f'"{part.strip()}" ends before it begins')
        found.append((int(match[1]), last))
    return found


@attrs.frozen(kw_only=True)
class Group:
    """The modules of a group: all modules that match each of its keys."""

    name: str | None = key(None, help='name of the group in metrics and messages; by default "group_1", "group_2", ...')
    modules: list[str] | None = key(
        None, help='parts of module names, from dot to dot, with * for any text between dots: "attn1.to_k", "audio_*", "ff"; by default all'
    )
    blocks: str | None = key(None, help='numbers of blocks: "0-23", "40-" to the end, or several, "0-3,40-47"; by default all')
    modality: Literal["video", "audio", "cross"] | None = key(
        None, help='the modality of the modules; "cross" is the attention between video and audio; by default all'
    )

    sets: ClassVar[tuple[str, ...]] = ()

    def problems(self) -> list[Finding]:
        found: list[Finding] = []
        if self.name is not None and (not re.fullmatch(r"[\w.-]+", self.name) or self.name == OF_B):
            found.append((("name",), f'"{self.name}" cannot be the name of a group', "Use letters, digits, dots, - and _."))
        if self.modules == []:
            found.append((("modules",), "names no module", "Name at least one, such as to_k, or remove the key."))
        if self.blocks is not None:
            try:
                ranges(self.blocks)
            except ValueError as error:
                found.append((("blocks",), str(error), 'Write numbers as in "0-23", "40-" or "0-3,40-47".'))
        if self.modules is None and self.blocks is None and self.modality is None:
            found.append(((), "names no modules, blocks or modality", "Settings for all modules belong outside of groups."))
        if all(getattr(self, each) is None for each in self.sets):
            found.append(((), "sets nothing", f"Set one of {', '.join(self.sets)}."))
        return found


@attrs.frozen(kw_only=True)
class OptimizationGroup(Group):
    """`[[optimization.groups]]`: modules with their own learning rate or weight decay, for LoRA and full fine-tuning."""

    learning_rate: float | None = key(None, help="peak learning rate of these modules", above=0, at_most=100)
    weight_decay: float | None = key(None, help="weight decay of these modules", at_least=0, at_most=100)

    sets: ClassVar[tuple[str, ...]] = ("learning_rate", "weight_decay")

    @property
    def is_rated(self) -> bool:
        """Return whether the group sets a learning rate or a weight decay."""
        return self.learning_rate is not None or self.weight_decay is not None


@attrs.frozen(kw_only=True)
class LoraGroup(OptimizationGroup):
    """`[[lora.groups]]`: LoRA targets with their own rank, alpha, dropout, learning rate or weight decay."""

    rank: int | None = key(None, help="rank of these modules' adapters", at_least=1, at_most=WIDEST)
    alpha: int | None = key(
        None,
        help="alpha of these modules' adapters; by default in the same ratio to their rank as lora.alpha to lora.rank",
        at_least=1,
        at_most=10**6,
    )
    dropout: float | None = key(None, help="dropout of these modules' adapters", at_least=0, below=1)

    sets: ClassVar[tuple[str, ...]] = ("rank", "alpha", "dropout", "learning_rate", "weight_decay")


def names_of(groups: Sequence[Group]) -> list[str]:
    """Return the names of groups, by default their numbers."""
    return [f"group_{number}" if group.name is None else group.name for number, group in enumerate(groups, 1)]


def twice(groups: Sequence[Group]) -> list[Finding]:
    """Find groups with the same name as another group."""
    names = names_of(groups)
    return [
        (("groups", index), f'has the same name as another group, "{name}"', "Give each group its own name.")
        for index, name in enumerate(names)
        if name in names[:index]
    ]


def told(groups: Sequence[Group]) -> Iterator[tuple[str, str]]:
    """Yield the name of each group, with a description of its settings and modules."""
    for name, group in zip(names_of(groups), groups, strict=True):
        of = [", ".join(group.modules)] if group.modules else []
        of += [f"blocks {group.blocks}"] if group.blocks else []
        of += [group.modality] if group.modality else []
        said = [f"{each.replace('_', ' ')} {value:g}" for each in group.sets if (value := getattr(group, each)) is not None]
        yield name, f"{', '.join(said)} for {', '.join(of)}"
