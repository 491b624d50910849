"""The tables of modalities in a run file, with their conditions and choices, and the faults in them that do not depend on data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf
from typing import ClassVar

import attrs

from ltxcore.conditions import ConditionUse
from ltxcore.drawn import OneOf
from ltxcore.errors import listed

Finding = tuple[tuple[str | int, ...], str, str]
"""A fault: the key path inside the strategy's table, what is wrong, and the remedy."""

FIELD = "one_of"

MARKER = "mark_first_frame"
"""The key in the run file and in the metadata of a saved LoRA ("true" or "false"). It is only used for models that take
the marker.
"""


@attrs.frozen
class Choice:
    """A table of `[[training_strategy.video.choices]]`, or of audio: one of several lists of conditions is drawn for each sample."""

    one_of: list[list[ConditionUse]] = attrs.field(
        metadata={"help": "lists of conditions; each sample draws one list, and an empty list stands for no condition"}
    )
    weights: list[float] | None = attrs.field(
        default=None, metadata={"help": "how often each list is drawn, compared with the others; numbers above 0"}
    )
    together: bool = attrs.field(
        default=False,
        metadata={"help": "true: draw the list with the same number as the choice of the other modality that also sets this key"},
    )

    @property
    def appends(self) -> bool:
        """Whether one of the lists appends tokens."""
        return any(use.appends for uses in self.one_of for use in uses)

    @property
    def lists(self) -> OneOf:
        """The numbers of the lists, with their weights."""
        return OneOf(tuple(range(len(self.one_of))), None if self.weights is None else tuple(self.weights))

    def label(self, number: int) -> str:
        """Return the name of a list in metrics: its number and its conditions."""
        return f"{number}_{'+'.join(use.type for use in self.one_of[number]) or 'nothing'}"


@attrs.frozen
class ModalityTable:
    """The keys of `[training_strategy.audio]`; `[training_strategy.video]` has all of them too."""

    not_here: ClassVar[Mapping[str, tuple[str, str]]] = {
        MARKER: ("is for video: audio has no frames to mark", "Write it in [training_strategy.video], or remove it.")
    }
    """Keys that a user might write in this table by mistake, each with an explanation and a remedy."""

    is_generated: bool = attrs.field(
        metadata={"help": "true: denoised and in the loss; false: frozen, it stays clean and only conditions the other modality"}
    )
    latents_dir: str = attrs.field(metadata={"help": "folder of the encoded latents"})
    conditions: list[ConditionUse] = attrs.field(factory=list, metadata={"help": "the conditions, which say what is given or added"})
    choices: list[Choice] = attrs.field(
        factory=list,
        kw_only=True,
        metadata={"help": "further conditions: each entry has several lists of conditions, and each sample draws one of them"},
    )


@attrs.frozen
class VideoTable(ModalityTable):
    """The keys of `[training_strategy.video]`."""

    mark_first_frame: bool = attrs.field(
        default=True,
        metadata={"help": "pass the first-frame marker to models that have one (LTX-2.5); others ignore it"},
    )


def of_video(table: ModalityTable | None) -> VideoTable | None:
    """Return the table of video; if the keys that only video has are missing, they get their defaults."""
    if table is None or isinstance(table, VideoTable):
        return table
    return VideoTable(table.is_generated, table.latents_dir, table.conditions, choices=table.choices)


@attrs.frozen
class Place:
    """The place of a condition in the table of its modality.

    Attributes:
        modality: the modality.
        name: "cond0" in `conditions`, "choice0.list1.cond0" in a choice.
        type: the registered name of the condition.
        path: the keys that lead to the condition.
        choice: the number of the choice; None in `conditions`.
        number: the number of the list in the choice.
    """

    modality: str
    name: str
    type: str
    path: tuple[str | int, ...]
    choice: int | None = None
    number: int = 0

    @property
    def key(self) -> str:
        """The key of the condition, which names its draws and its metrics."""
        return f"{self.modality}.{self.name}.{self.type}"

    @property
    def where(self) -> str:
        """The place for messages."""
        return ".".join(["training_strategy", self.modality, *map(str, self.path)])

    def role(self, name: str) -> str:
        """Return the name that a role of the condition has among the roles of the run's data."""
        return f"{self.modality}.{self.name}.{name}"


def placed(modality: str, table: ModalityTable) -> Iterator[tuple[Place, ConditionUse]]:
    """Yield all conditions of a modality, those of choices included, each with its place."""
    for index, use in enumerate(table.conditions):
        yield Place(modality, f"cond{index}", use.type, ("conditions", index)), use
    for at, choice in enumerate(table.choices):
        for number, uses in enumerate(choice.one_of):
            for index, use in enumerate(uses):
                path = ("choices", at, FIELD, number, index)
                yield Place(modality, f"choice{at}.list{number}.cond{index}", use.type, path, at, number), use


def condition_faults(tables: Mapping[str, ModalityTable]) -> Iterator[Finding]:
    """Yield the faults of conditions that do not depend on the data."""
    for name, table in tables.items():
        for place, use in placed(name, table):
            path = (name, *place.path, "type")
            if name not in use.modalities:
                yield path, f'the condition "{use.type}" does not work on {name}', f"It works on {listed(sorted(use.modalities))}."
            elif not table.is_generated and not use.appends:
                yield path, *_meaningless(use.type, name)


def choice_faults(tables: Mapping[str, ModalityTable]) -> Iterator[Finding]:
    """Yield the faults of choices that do not depend on the data."""
    for name, table in tables.items():
        for at, choice in enumerate(table.choices):
            path = (name, "choices", at)
            if not any(choice.one_of):
                yield (*path, FIELD), "has no condition to choose", 'Write lists of conditions: [[{ type = "..." }], []].'
            if choice.weights is not None and len(choice.weights) != len(choice.one_of):
                many = f"{len(choice.weights)} weight{'' if len(choice.weights) == 1 else 's'}"
                yield (*path, "weights"), f"has {many} for {len(choice.one_of)} lists of {FIELD}", "Write one weight for each list."
            for index, weight in enumerate(choice.weights or []):
                if not 0 < weight < inf:
                    yield (*path, "weights", index), f"must be a finite number above 0, not {weight:g}", "To never draw a list, remove it."
        others = [other for modality, other in tables.items() if modality != name]
        for place, at in enumerate(together(table)):
            key = (name, "choices", at, "together")
            pairs = [other.choices[together(other)[place]] for other in others if place < len(together(other))]
            if not pairs:
                what = "shares its draw with a choice of the other modality, but there is none with together = true"
                yield key, what, "Write such a choice there too, or remove together."
            elif any(not _alike(table.choices[at], pair) for pair in pairs):
                what = "shares its draw with a choice of the other modality that has another number of lists, or other weights"
                yield key, what, "Write as many lists in both, with the same weights; an empty list stands for no condition."


def together(table: ModalityTable) -> list[int]:
    """Return the numbers of those choices of a modality that are drawn together with choices of the other modality."""
    return [at for at, choice in enumerate(table.choices) if choice.together]


def _meaningless(type_: str, modality: str) -> tuple[str, str]:
    return (
        f'the condition "{type_}" makes no sense on the frozen {modality}, which is already given',
        f"Remove the condition, or set is_generated = true for {modality}.",
    )


def _alike(one: Choice, other: Choice) -> bool:
    return len(one.one_of) == len(other.one_of) and [part.weight for part in one.lists.parts] == [part.weight for part in other.lists.parts]
