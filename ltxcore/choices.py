"""Draw a list of conditions for each sample, where a run file has choices between several lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from ltxcore.conditions import ConditionUse
from ltxcore.drawn import Value, drawn_part, written
from ltxcore.drawn_conditions import VALUE, Appended
from ltxcore.modality_tables import FIELD, Choice, ModalityTable, together
from ltxcore.protocols import Draws


@attrs.frozen
class ChoiceUse:
    """A choice of a modality, with everything that its draw depends on.

    Attributes:
        modality: the modality.
        at: the number of the choice in the table of the modality.
        choice: the choice.
        drawn_as: the name of the draw, which choices that are drawn together share.
        by_batch: whether all samples of a micro-batch draw the same list. They do if a list of this choice, or of a choice that is drawn
            together with it, appends tokens.
    """

    modality: str
    at: int
    choice: Choice
    drawn_as: str
    by_batch: bool

    @property
    def key(self) -> str:
        return f"{self.modality}.choice{self.at}"

    def drawn(self, draws: Draws) -> list[int]:
        """Draw the number of a list for every sample.

        Source: docs/explanation/arithmetic.md#choices
        """
        key, parts = f"{self.drawn_as}{VALUE}{FIELD}", self.choice.lists.parts
        numbers = [draws.shared_uniform(key)] * draws.size if self.by_batch else draws.uniform(key).tolist()
        return [drawn_part(parts, number)[1] for number in numbers]

    def reported(self, numbers: Sequence[int]) -> dict[str, list[Value]]:
        """Return the list of each sample, with its name in metrics, by "CHOICE/KEY"."""
        return {f"{self.key}/{FIELD}": [Value(number, self.choice.label(number)) for number in numbers]}


def choice_uses(tables: Mapping[str, ModalityTable]) -> list[ChoiceUse]:
    """Return the choices of all modalities. Of the choices with `together`, the first choices of the modalities are drawn together, and so
    are the second choices, and so on.
    """
    shared = [[table.choices[at] for at in together(table)] for table in tables.values()]
    by_batch = [any(choice.appends for choice in each) for each in zip(*shared, strict=False)]
    found = []
    for name, table in tables.items():
        among = together(table)
        for at, choice in enumerate(table.choices):
            if choice.together:
                found.append(ChoiceUse(name, at, choice, f"choice.together{among.index(at)}", by_batch[among.index(at)]))
            else:
                found.append(ChoiceUse(name, at, choice, f"{name}.choice{at}", choice.appends))
    return found


def drawn_lists(
    uses: Sequence[ChoiceUse], draws: Draws, appended: Callable[[ChoiceUse, int], Appended]
) -> dict[tuple[str, int], list[int]]:
    """Draw a list of each choice for every sample, and return the numbers of the lists, by the modality and the number of the choice.

    Args:
        uses: the choices of all modalities.
        draws: the random numbers. If they are `LargestDraws`, the lists that append the most tokens are chosen.
        appended: a function that returns the most that a list of a choice can append.
    """
    found = {}
    for use in uses:
        if use.by_batch and getattr(draws, "are_largest", False):
            same = [each for each in uses if each.drawn_as == use.drawn_as]
            sizes = [Appended.by_all([appended(each, number) for each in same]) for number in range(len(use.choice.one_of))]
            found[use.modality, use.at] = [sizes.index(max(sizes))] * draws.size
        else:
            found[use.modality, use.at] = use.drawn(draws)
    return found


def every_list(uses: Sequence[ChoiceUse]) -> Iterator[tuple[str, str, float]]:
    """Yield each list of each choice once: its name in metrics, the key of the choice's draw as "CHOICE/KEY", and a number from 0 to 1 that
    stands for the list. Of choices that are drawn together, the first stands for all.
    """
    first = dict[str, ChoiceUse]()
    for use in uses:
        first.setdefault(use.drawn_as, use)
    for use in first.values():
        weights = [part.weight for part in use.choice.lists.parts]
        for number, weight in enumerate(weights):
            yield (
                f"{use.key}/every_{use.choice.label(number)}",
                f"{use.drawn_as}/{FIELD}",
                (sum(weights[:number]) + weight / 2) / sum(weights),
            )


def metadata_of(uses: Sequence[ChoiceUse]) -> dict[str, Any]:
    """Return the metadata of a LoRA that record its choices, by the key of the choice."""
    return {
        use.key: {
            FIELD: [[_recorded(each) for each in listed] for listed in use.choice.one_of],
            **({} if use.choice.weights is None else {"weights": use.choice.weights}),
            **({"together": True} if use.choice.together else {}),
        }
        for use in uses
    }


def _recorded(use: ConditionUse) -> dict[str, Any]:
    own = {name: value for name, value in attrs.asdict(use.condition, recurse=False).items() if name not in use.unset}
    probability = {} if use.probability == 1 else {"probability": use.probability}
    return {"type": use.type, **probability, **own, **{field: written(drawn) for field, drawn in use.drawn.items()}}
