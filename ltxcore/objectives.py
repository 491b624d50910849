"""Apply objectives, which define what a run learns, how often and with what weight."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import attrs

from ltxcore.flow.draws import generator
from ltxcore.flow.loss import total_loss
from ltxcore.objective_types import Pass, Prepared
from ltxcore.protocols import MODALITIES, Role, Source, Strategy

if TYPE_CHECKING:
    from torch import Tensor

KEYS_OF_THE_CORE = ("type", "weight", "probability")
"""The keys that the core adds to the table of every objective."""

SEEN = "own"
"""The name of the only pass in a run that names no objective."""

OWN_BATCH = "own"
"""The batch of a pass in which the model sees the run's own samples."""


@attrs.frozen
class ObjectiveUse:
    """An objective as a run file uses it.

    Attributes:
        type: the registered name of the objective.
        objective: an object of the registered class.
        weight: the factor of the objective's loss, for all modalities or by modality. A modality that is not named has
            the factor 1.
        probability: the share of optimizer steps in which the objective is learned.
        sources: the folders that the run file names for the objective's roles, by role.
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

    @property
    def batch(self) -> str:
        """The key that names the dataset of the objective's passes; OWN_BATCH for the run's own."""
        return self.passes[0].batch

    @property
    def dataset(self) -> Path | None:
        """The dataset that the objective reads in place of the run's own."""
        return None if self.batch == OWN_BATCH else Path(getattr(self.objective, self.batch))

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted loss of a micro-batch, a scalar, given the losses of its samples by modality."""
        return total_loss({name: loss if (weight := self.weight_of(name)) == 1 else loss * weight for name, loss in losses.items()})

    def weight_of(self, modality: str) -> float:
        """Return the factor of a modality's loss."""
        return self.weight.get(modality, 1.0) if isinstance(self.weight, Mapping) else self.weight


@attrs.frozen
class OwnLoss:
    """The objective of a run that names no objective: the loss of the run's strategy."""

    passes = (Pass(SEEN),)

    def loss(self, predicted: Mapping[str, Mapping[str, Tensor]], prepared: Prepared) -> Mapping[str, Tensor]:
        """Return the loss of the run's strategy."""
        return prepared.own_loss(predicted[SEEN], prepared.inputs[SEEN])


DEFAULT = ObjectiveUse("", OwnLoss())
"""The objective of a run that names no objective."""


def labelled(uses: Sequence[ObjectiveUse]) -> dict[str, ObjectiveUse]:
    """Return objectives by their names in metrics. The name is the type, followed by a number for the second and later
    objectives of that type.
    """
    found: dict[str, ObjectiveUse] = {}
    for index, use in enumerate(uses):
        number = sum(other.type == use.type for other in uses[: index + 1])
        found[use.type if number == 1 else f"{use.type}_{number}"] = use
    return found


def drawn(uses: Mapping[str, ObjectiveUse], seed: int, step: int) -> dict[str, ObjectiveUse]:
    """Return the objectives that are learned in an optimizer step. They are the same on every process and in a resumed
    run.

    Source: docs/explanation/arithmetic.md#objectives-of-a-step
    """
    import torch

    def draw(index: int) -> float:
        return float(torch.rand((), generator=generator(seed, "objective", step, index)))

    return {label: use for index, (label, use) in enumerate(uses.items()) if use.probability >= 1 or draw(index) < use.probability}


def seed_of_dataset(seed: int, index: int) -> int:
    """Return the seed for the micro-batches of an objective's dataset, and for their draws. `index` is the objective's place in the run
    file.

    Source: docs/explanation/arithmetic.md#objectives-of-a-step
    """
    return int(generator(seed, "dataset", index).initial_seed())


def faults_of(name: str, cls: Any) -> Iterator[str]:
    """Yield every fault of a class of objectives, in words that can follow the name of the class."""
    if name in MODALITIES or "/" in name:
        yield f"cannot have this name, since its losses are reported as loss/{name}; choose another"
    parameters = list(inspect.signature(cls.loss).parameters)
    if len(parameters) != 3:
        yield f"has loss({', '.join(parameters)}); it must take (self, predicted, prepared)"
    if not hasattr(cls, "passes"):
        yield "has no passes; they must be a tuple of ltxcore.api.objectives.Pass, or a property that returns such a tuple"
    roles = getattr(cls, "roles", ())
    if not isinstance(roles, tuple) or not all(isinstance(role, Role) for role in roles):
        yield f"has roles {roles!r}; they must be a tuple of ltxcore.api.Role"
        return
    for role in roles:
        if role.kind != "mask" or role.modality not in MODALITIES:
            yield f'has a role "{role.name}" that is not a "mask" of a modality; write Role(..., kind="mask", modality="video")'
    keys = [*KEYS_OF_THE_CORE, *(role.source_key for role in roles), *(field.alias or field.name for field in attrs.fields(cls))]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        yield f'has a field or role "{twice[0]}", which is already the name of another key'


def faults_of_passes(objective: Any) -> Iterator[str]:
    """Yield every fault of the passes that an objective names, in words that can follow the objective's name."""
    passes = objective.passes
    if not isinstance(passes, tuple) or not passes or not all(isinstance(each, Pass) for each in passes):
        yield f"has passes {passes!r}; they must be a tuple of at least one ltxcore.api.objectives.Pass"
        return
    names = [each.name for each in passes]
    if len(set(names)) < len(names):
        yield f"has several passes with the same name: {', '.join(names)}"
    if not any(each.gradient for each in passes):
        yield "has no pass with a gradient, so nothing could be learned from it"
    for each in passes:
        if each.weights not in ("live", "ema"):
            yield f'has a pass "{each.name}" with the weights "{each.weights}", which must be "live" or "ema"'
        elif each.weights == "ema" and not each.adapters:
            yield f'has a pass "{each.name}" without adapters, so it has no trained weights; leave weights="ema" out'
        if each.gradient and not (each.adapters and each.weights == "live"):
            lacks = "with averaged weights" if each.adapters else "without adapters"
            yield f'has a pass "{each.name}" {lacks}, in which nothing is trained; give it gradient=False'
    yield from _faults_of_batches(objective, list(dict.fromkeys(each.batch for each in passes)))


def _faults_of_batches(objective: Any, batches: Sequence[str]) -> Iterator[str]:
    if len(batches) > 1:
        yield f"has passes over several batches ({', '.join(batches)}), but all passes must be over the same batch, since the loss has the weight of one batch"
    elif batches != [OWN_BATCH]:
        if not isinstance(getattr(objective, batches[0], None), Path):
            yield f'has a pass over the batch "{batches[0]}", which must be "{OWN_BATCH}", or a key of its own of type Path'
        if getattr(objective, "roles", ()):
            yield f'has roles, whose data belong to the samples of the run, and must not have passes over "{batches[0]}"'


def prompts_of(uses: Sequence[ObjectiveUse]) -> list[str]:
    """Return the prompts that objectives use in place of captions, each once."""
    return list(dict.fromkeys(prompt for use in uses for each in use.passes for prompt in each.prompts))


def sees_samples(each: Pass) -> bool:
    """Return whether a pass shows the model the same inputs as a run without objectives: the run's samples with their own
    captions, and the LoRA of the present step.
    """
    return each.batch == OWN_BATCH and not each.prompts and each.adapters and each.weights == "live"


@attrs.frozen
class PassCount:
    """The forward and backward passes of a micro-batch in which all objectives are learned. A guided pass counts as two.

    Attributes:
        forwards: the number of forward passes.
        backwards: the number of forward passes that are differentiated.
        at_once: the maximum number of differentiated passes in memory at once, all of one objective.
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
        differentiated = [sum(each.forwards for each in use.passes if each.gradient) for use in uses or [DEFAULT]]
        return cls(sum(each.forwards for use in uses or [DEFAULT] for each in use.passes), sum(differentiated), max(differentiated))


# ---------------------------------------------------------------- the data of objectives


def with_datasets(uses: Sequence[ObjectiveUse]) -> dict[str, tuple[int, ObjectiveUse]]:
    """Return the objectives that read a dataset of their own, each with its place in the run file, by their names in metrics."""
    return {label: (index, use) for index, (label, use) in enumerate(labelled(uses).items()) if use.batch != OWN_BATCH}


def role_key(label: str, role: str) -> str:
    """Return the name under which the sources of a run hold the data of an objective's role."""
    return f"objectives.{label}.{role}"


@attrs.frozen(eq=False)
class WithObjectives:
    """A run's strategy, extended by the data of the run's objectives. It forwards everything but the sources to the
    strategy.
    """

    strategy: Strategy
    uses: Sequence[ObjectiveUse]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.strategy, name)

    def sources(self) -> dict[str, Source]:
        found = dict(self.strategy.sources())
        for index, (label, use) in enumerate(labelled(self.uses).items()):
            for role in use.roles:
                where, target = f"objectives.{index}.{role.source_key}", found.get(role.modality)
                may_be_absent = target is not None and target.may_be_absent
                source = Source(use.sources[role.name], role.kind, role.modality, where=where, may_be_absent=may_be_absent)
                found[role_key(label, role.name)] = source
        return found


def without_objectives(strategy: Strategy) -> Strategy:
    """Return the strategy alone, which reads nothing for objectives."""
    return strategy.strategy if isinstance(strategy, WithObjectives) else strategy


def with_objectives(strategy: Strategy, uses: Sequence[ObjectiveUse]) -> Strategy:
    """Return a strategy that also reads the data of the objectives. If they need no data, return the strategy itself."""
    return cast(Strategy, WithObjectives(strategy, uses)) if any(use.roles for use in uses) else strategy
