"""The core's use of objectives: what a run learns, how often, and with what weight."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import attrs

from ltxcore.flow.draws import generator
from ltxcore.flow.loss import total_loss
from ltxcore.protocols import MODALITIES, Pass, Prepared, Role, Source, Strategy

if TYPE_CHECKING:
    from torch import Tensor

KEYS_OF_THE_CORE = ("type", "weight", "probability")
"""The keys that the core adds to the tables of every objective."""

SEEN = "own"
"""The name of the pass of a run that names no objective."""


@attrs.frozen
class ObjectiveUse:
    """An objective as a run file uses it.

    Attributes:
        type: its registered name.
        objective: an object of the registered class.
        weight: the factor of its loss, for all modalities or by modality; a modality that is not named has 1.
        probability: the share of optimizer steps in which it is learned.
        sources: the folder of each of its roles that has one, by role.
    """

    type: str
    objective: Any
    weight: float | Mapping[str, float] = 1.0
    probability: float = 1.0
    sources: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def passes(self) -> tuple[Pass, ...]:
        return tuple(self.objective.passes)

    @property
    def roles(self) -> tuple[Any, ...]:
        """The roles for which the run file names a folder."""
        return tuple(role for role in getattr(self.objective, "roles", ()) if role.name in self.sources)

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted loss of a micro-batch, a scalar, from the losses of its samples by modality."""
        return total_loss({name: loss if (weight := self.weight_of(name)) == 1 else loss * weight for name, loss in losses.items()})

    def weight_of(self, modality: str) -> float:
        """Return the factor of the loss of a modality."""
        return self.weight.get(modality, 1.0) if isinstance(self.weight, Mapping) else self.weight


@attrs.frozen
class OwnLoss:
    """The objective of a run that names none: the loss of its strategy."""

    passes = (Pass(SEEN),)

    def loss(self, predicted: Mapping[str, Mapping[str, Tensor]], prepared: Prepared) -> Mapping[str, Tensor]:
        """Return the strategy's own loss."""
        return prepared.own_loss(predicted[SEEN], prepared.inputs[SEEN])


DEFAULT = ObjectiveUse("", OwnLoss())
"""What is learned by a run that names no objective."""


def labelled(uses: Sequence[ObjectiveUse]) -> dict[str, ObjectiveUse]:
    """Return objectives by their names in metrics: its type, followed by its number if it is not the first of that type."""
    found: dict[str, ObjectiveUse] = {}
    for index, use in enumerate(uses):
        number = sum(other.type == use.type for other in uses[: index + 1])
        found[use.type if number == 1 else f"{use.type}_{number}"] = use
    return found


def drawn(uses: Mapping[str, ObjectiveUse], seed: int, step: int) -> dict[str, ObjectiveUse]:
    """Return the objectives that are learned in an optimizer step: the same on every process, and in a resumed run.

    Source: docs/explanation/arithmetic.md#objectives-of-a-step
    """
    import torch

    def draw(index: int) -> float:
        return float(torch.rand((), generator=generator(seed, "objective", step, index)))

    return {label: use for index, (label, use) in enumerate(uses.items()) if use.probability >= 1 or draw(index) < use.probability}


def faults_of(name: str, cls: Any) -> Iterator[str]:
    """Find what is wrong with a class of objectives, as it follows its name."""
    if name in MODALITIES or "/" in name:
        yield f"cannot have this name, since its losses are reported as loss/{name}; choose another"
    parameters = list(inspect.signature(cls.loss).parameters)
    if len(parameters) != 3:
        yield f"has loss({', '.join(parameters)}); it takes (self, predicted, prepared)"
    if not hasattr(cls, "passes"):
        yield "has no passes; they are a tuple of ltxcore.api.objectives.Pass, or a property that returns one"
    roles = getattr(cls, "roles", ())
    if not isinstance(roles, tuple) or not all(isinstance(role, Role) for role in roles):
        yield f"has roles {roles!r}; they are a tuple of ltxcore.api.Role"
        return
    for role in roles:
        if role.kind != "mask" or role.modality not in MODALITIES:
            yield f'has a role "{role.name}" that is no "mask" of a modality; write Role(..., kind="mask", modality="video")'
    keys = [*KEYS_OF_THE_CORE, *(role.source_key for role in roles), *(field.alias or field.name for field in attrs.fields(cls))]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        yield f'has a field or role "{twice[0]}", which is a key that all objectives have, or one of its own'


def faults_of_passes(passes: Any) -> Iterator[str]:
    """Find what is wrong with the passes that an objective names, as it follows the objective's name."""
    if not isinstance(passes, tuple) or not passes or not all(isinstance(each, Pass) for each in passes):
        yield f"has passes {passes!r}; they are a tuple of ltxcore.api.objectives.Pass, at least one"
        return
    names = [each.name for each in passes]
    if len(set(names)) < len(names):
        yield f"has two passes of one name: {', '.join(names)}"
    if not any(each.gradient for each in passes):
        yield "has no pass with a gradient, so nothing could be learned from it"
    for each in passes:
        if each.gradient and not each.adapters:
            yield f'has a pass "{each.name}" without adapters, in which nothing is trained; give it gradient=False'


def prompts_of(uses: Sequence[ObjectiveUse]) -> list[str]:
    """Return the texts that objectives need in place of captions, each once."""
    return list(dict.fromkeys(prompt for use in uses for each in use.passes if (prompt := each.prompt) is not None))


def sees_samples(each: Pass) -> bool:
    """Return whether the model sees the samples in a pass as it does without objectives."""
    return each.prompt is None and each.adapters


@attrs.frozen
class PassCount:
    """The forwards and backwards of a micro-batch in which all objectives are learned.

    Attributes:
        forwards: the forwards.
        backwards: those of them that are differentiated.
        at_once: the most of them that are in memory at once: those of one objective.
    """

    forwards: int
    backwards: int
    at_once: int

    def __str__(self) -> str:
        forwards, backwards = (
            f"{self.forwards} forward{'s' * (self.forwards > 1)}",
            f"{self.backwards} backward{'s' * (self.backwards > 1)}",
        )
        return f"{forwards} and {backwards}"

    @classmethod
    def of(cls, uses: Sequence[ObjectiveUse]) -> PassCount:
        differentiated = [sum(each.gradient for each in use.passes) for use in uses or [DEFAULT]]
        return cls(sum(len(use.passes) for use in uses or [DEFAULT]), sum(differentiated), max(differentiated))


# ---------------------------------------------------------------- their data


def role_key(label: str, role: str) -> str:
    """Return the key of the data of an objective's role among the sources of a run."""
    return f"objectives.{label}.{role}"


@attrs.frozen(eq=False)
class WithObjectives:
    """A run's strategy, whose sources include the data of the run's objectives; all else is the strategy's own."""

    strategy: Strategy
    uses: Sequence[ObjectiveUse]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.strategy, name)

    def sources(self) -> dict[str, Source]:
        found = dict(self.strategy.sources())
        for index, (label, use) in enumerate(labelled(self.uses).items()):
            for role in use.roles:
                where = f"objectives.{index}.{role.source_key}"
                found[role_key(label, role.name)] = Source(use.sources[role.name], role.kind, role.modality, where=where)
        return found


def with_objectives(strategy: Strategy, uses: Sequence[ObjectiveUse]) -> Strategy:
    """Return a strategy that also reads what the objectives need; without such data it is the strategy itself."""
    return cast(Strategy, WithObjectives(strategy, uses)) if any(use.roles for use in uses) else strategy
