"""The flexible strategy, in which each modality is generated or frozen and has its own conditions."""

from __future__ import annotations

import json
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from ltxcore.choices import ChoiceUse, choice_uses, drawn_lists
from ltxcore.choices import metadata_of as choices_metadata
from ltxcore.condition_metadata import described, metadata_of
from ltxcore.conditions import ConditionUse, applied_state, pictures_of, where_applied
from ltxcore.drawn import Range, Value, written
from ltxcore.drawn_conditions import (
    Appended,
    Attempt,
    Fitting,
    appended_at_most,
    applied_by_value,
    applied_with,
    check_bounds,
    drawn_values,
    reported,
    size_of,
)
from ltxcore.errors import ConfigError, DataError, LtxError, Problem, listed
from ltxcore.flow.loss import masked_loss
from ltxcore.flow.noised import noised
from ltxcore.flow.sigmas import BEHIND, with_noise_behind
from ltxcore.hookspecs import hookimpl
from ltxcore.modality_tables import MARKER, ModalityTable, Place, VideoTable, choice_faults, condition_faults, of_video, placed
from ltxcore.pictures import Pictures, StoredPictures
from ltxcore.protocols import (
    MODALITIES,
    Batch,
    Draws,
    Entry,
    Geometry,
    Inputs,
    Manifest,
    Medium,
    ModelInput,
    Setting,
    Source,
    StoredLatents,
    Text,
)
from ltxcore.state import LatentState

if TYPE_CHECKING:
    from torch import Tensor

TEXT = "text"
TEXT_FOLDER = "conditions"


DRAWN = "drawn_values"
"""The metadata key, in a saved LoRA, for the ranges or choices that values of conditions were drawn from, as JSON."""

CHOICES = "condition_choices"
"""The metadata key, in a saved LoRA, for the lists from which conditions were drawn, as JSON."""


@attrs.frozen
class Flexible:
    """The strategy for all modes. Each modality is generated or frozen, and has conditions of its own."""

    video: VideoTable | None = attrs.field(
        default=None, converter=of_video, metadata={"help": "the video stream; leave it out for audio only"}
    )
    audio: ModalityTable | None = attrs.field(default=None, metadata={"help": "the audio stream; leave it out for video only"})

    @property
    def tables(self) -> dict[str, ModalityTable]:
        """The table of each modality of the run, in order."""
        both: dict[str, ModalityTable | None] = {"video": self.video, "audio": self.audio}
        return {name: table for name in MODALITIES if (table := both[name]) is not None}

    def problems(self) -> list[tuple[tuple[str | int, ...], str, str]]:
        """Return the faults that do not depend on the data, each with the path of its key within the table and a
        remedy.
        """
        found: list[tuple[tuple[str | int, ...], str, str]] = []
        if not any(table.is_generated for table in self.tables.values()):
            found.append(
                ((), "no modality is generated, so there is nothing to train", "Set is_generated = true for video, audio or both.")
            )
        return [*found, *condition_faults(self.tables), *choice_faults(self.tables)]

    def build(self, setting: Setting) -> FlexibleStrategy:
        """Build the strategy for this model and this run.

        Raises:
            ConfigError: the run file has faults; the error names all of `problems()`.
        """
        problems = self.problems()
        if problems:
            raise ConfigError.of(Problem(what, ".".join(["training_strategy", *map(str, path)]), remedy) for path, what, remedy in problems)
        return FlexibleStrategy(self.tables, setting)


@attrs.frozen(eq=False)
class FlexibleStrategy:
    """The strategy that `Flexible` builds. Its roles are "text", "video" and "audio", and `MODALITY.condN.ROLE` for the
    data of a condition, or `MODALITY.choiceN.listN.condN.ROLE` if it is in a list of a choice.
    """

    tables: Mapping[str, ModalityTable]
    setting: Setting
    _fitting: dict[Hashable, Fitting] = attrs.field(factory=dict, init=False)

    @property
    def shared_sigma(self) -> bool:
        """Whether video and audio share one sigma, as they do if the run asks for this and both are generated."""
        return self.setting.shared_sigma and all(table.is_generated for table in self.tables.values())

    @property
    def generated(self) -> frozenset[str]:
        """The modalities that are denoised and count in the loss."""
        return frozenset(name for name, table in self.tables.items() if table.is_generated)

    @property
    def choices(self) -> list[ChoiceUse]:
        """The choices between conditions, of all modalities."""
        return choice_uses(self.tables)

    @property
    def ranges(self) -> tuple[str, ...]:
        """The keys of conditions that are drawn between two values, each as "CONDITION/KEY"."""
        return tuple(
            f"{place.key}/{field}"
            for name, table in self.tables.items()
            for place, use in placed(name, table)
            for field, each in use.drawn.items()
            if isinstance(each, Range) and each.min < each.max
        )

    def sources(self) -> dict[str, Source]:
        found, drawn_as = {TEXT: Source(TEXT_FOLDER, "text")}, {(each.modality, each.at): each.drawn_as for each in self.choices}
        for name, table in self.tables.items():
            # A sample has to train something, so only what is beside a generated modality may be absent.
            may_be_absent = self.setting.trains_without and bool(self.generated - {name})
            where = f"training_strategy.{name}.latents_dir"
            found[name] = Source(table.latents_dir, "latents", name, where=where, may_be_absent=may_be_absent)
            for place, use in placed(name, table):
                for role in use.roles:
                    found[place.role(role.name)] = Source(
                        use.sources[role.name],
                        role.kind,
                        name,
                        optional=use.appends and (use.probability < 1 or place.choice is not None),
                        where=f"{place.where}.{role.source_key}",
                        shape=role.shape,
                        appends=use.appends,
                        one_of=None if place.choice is None else (drawn_as[name, place.choice], place.number),
                        may_be_absent=may_be_absent,
                    )
        return found

    def wanted(self, draws: Draws) -> frozenset[str]:
        """Return the roles of the appending conditions that apply to this micro-batch. With `LargestDraws`, conditions in all lists of a
        choice count as applying.
        """
        lists: dict[tuple[str, int | None], list[int]] = {}
        if not getattr(draws, "are_largest", False):
            lists |= {(each.modality, each.at): each.drawn(draws) for each in self.choices}
        return frozenset(
            place.role(role.name)
            for name, table in self.tables.items()
            for place, use in placed(name, table)
            if use.appends and _applies_to_all(place, use, draws)
            if (name, place.choice) not in lists or place.number in lists[name, place.choice]
            for role in use.roles
        )

    def prepare(self, batch: Batch, draws: Draws) -> dict[str, ModelInput]:
        """Return the model's inputs by modality, on the CPU in float32.

        Raises:
            DataError: a condition cannot apply to these samples.

        Source: docs/explanation/arithmetic.md#noise-target-and-loss
        """
        prepared: dict[str, ModelInput] = {}
        uses = self.choices
        lists = drawn_lists(uses, draws, partial(self._appended, batch))
        for name, table in self.tables.items():
            is_absent = name in batch.absent
            if is_absent:
                state, applied, drawn = self._placeholder(name, table, batch)
            else:
                state, applied, drawn = self._conditioned(name, table, batch, draws, lists)
                for each in (each for each in uses if each.modality == name):
                    drawn |= each.reported(lists[name, each.at])
            sigma = self._sigma(name, table, state, draws, prepared, batch.absent)
            seen = ModelInput.of(state, sigma, batch.text, is_generated=table.is_generated, marks=self._marks(table))
            seen = noised(seen, state, draws) if table.is_generated else seen
            seen = with_noise_behind(seen, partial(draws.normal, f"{name}.{BEHIND}"))
            prepared[name] = attrs.evolve(seen, applied=applied, drawn=drawn, is_absent=is_absent)
        return prepared

    def loss(self, predicted: Mapping[str, Tensor], prepared: Mapping[str, ModelInput]) -> dict[str, Tensor]:
        """Return the loss of every sample, `[B]`, for each generated modality. Predictions for appended tokens are
        ignored.
        """
        losses = {}
        for name, given in prepared.items():
            if given.is_generated:
                if given.velocity is None or given.loss_mask is None:
                    raise ValueError(f"the {name} was not prepared for training")
                losses[name] = masked_loss(predicted[name][:, : given.velocity.shape[1]], given.velocity, given.loss_mask)
        return losses

    def check(self, data: Manifest) -> None:
        """Apply every condition to empty tokens of each geometry in the data, and compute the metadata of the LoRA, to
        find errors before training.

        Raises:
            DataError: a condition refuses to apply; the error names the samples of every geometry at fault.
        """
        problems: list[Problem] = []
        for name, table in self.tables.items():
            for samples, batch in self._geometries(name, table, data):
                for place, use in placed(name, table):
                    try:
                        check_bounds(use, self._attempt(place, use, batch, samples))
                    except LtxError as error:
                        may_fit = [field for field, each in use.drawn.items() if not each.fit and not use.redraws]
                        fit = f"rite fit = true beside {' or '.join(may_fit)}, which draws from what fits each sample."
                        remedies = [f"{each.remedy} Or w{fit}" if each.remedy else f"W{fit}" for each in error.problems]
                        pairs = zip(error.problems, remedies, strict=True)
                        problems.extend(attrs.evolve(each, remedy=remedy) if may_fit else each for each, remedy in pairs)
        if problems:
            raise DataError.of(problems)
        self.metadata(data)

    def metadata(self, data: Manifest) -> dict[str, str]:
        """Return the metadata of the saved LoRA: the metadata that conditions add (such as the scale of references), the ranges or choices
        that the values of drawn keys were drawn from, the choices between lists of conditions, and whether the marker was used.

        Raises:
            DataError: samples or conditions disagree on a value that a LoRA can have only once.
        """
        found: dict[str, str] = {}
        if self.setting.takes_marker and "video" in self.tables:
            found[MARKER] = "true" if self._marks(self.tables["video"]) else "false"
        uses = [(place, use) for name, table in self.tables.items() for place, use in placed(name, table)]
        ranges = {f"{place.key}/{field}": written(drawn) for place, use in uses for field, drawn in use.drawn.items()}
        if ranges:
            found[DRAWN] = json.dumps(ranges)
        if self.choices:
            found[CHOICES] = json.dumps(choices_metadata(self.choices), default=str)
        return found | metadata_of(described(place, use, self._pairs(place, use, data)) for place, use in uses)

    # ---- states

    def _marks(self, table: ModalityTable) -> bool:
        """Return whether the first latent frame is marked. A table without the key has the default, which is yes."""
        return self.setting.takes_marker and getattr(table, MARKER, True)

    def _appended(self, batch: Batch, choice: ChoiceUse, number: int) -> Appended:
        """Return the most that a list of a choice can append to these samples."""
        return Appended.by_all(
            [
                appended_at_most(use, batch, partial(self._attempt, place, use))
                for place, use in placed(choice.modality, self.tables[choice.modality])
                if choice.modality not in batch.absent
                if (place.choice, place.number) == (choice.at, number) and use.appends and use.probability > 0
            ]
        )

    def _placeholder(
        self, name: str, table: ModalityTable, batch: Batch
    ) -> tuple[LatentState, dict[str, Tensor], dict[str, Sequence[Value]]]:
        """Return the state of a modality that the samples lack: all of it is given, and no condition applies to it.

        Source: docs/explanation/arithmetic.md#loss-of-an-absent-modality
        """
        import torch

        state, never = self._start(name, batch), torch.zeros(len(batch.names), dtype=torch.bool)
        return state.given(torch.ones(state.num_target)), {place.key: never for place, _ in placed(name, table)}, {}

    def _conditioned(
        self, name: str, table: ModalityTable, batch: Batch, draws: Draws, lists: Mapping[tuple[str, int], Sequence[int]]
    ) -> tuple[LatentState, dict[str, Tensor], dict[str, Sequence[Value]]]:
        import torch

        state = self._start(name, batch)
        applied: dict[str, Tensor] = {}
        drawn: dict[str, Sequence[Value]] = {}
        for place, use in placed(name, table):
            key = place.key
            if use.appends:
                chosen = torch.full((draws.size,), _applies_to_all(place, use, draws))
            else:
                chosen = draws.uniform(f"{key}.u") < use.probability
            if place.choice is not None:
                chosen &= torch.tensor(lists[name, place.choice]) == place.number
            # What a condition that appends needs is there only if it applies.
            is_needed = use.drawn and (not use.appends or bool(chosen.any()))
            values: Sequence[Mapping[str, Any]] = []
            if is_needed:
                values, chosen = drawn_values(use, key, batch, draws, partial(self._attempt, place, use), self._fitting, chosen)
            if bool(chosen.any()):
                inputs, where = self._inputs(place, use, batch), _where(place, batch.names)
                if use.drawn:
                    state = applied_by_value(use, values, state, inputs, chosen, where)
                else:
                    state = where_applied(state, applied_state(use, state, inputs, where), chosen)
            applied[key] = chosen
            drawn |= reported(use, key, values) if values else {}
        return state, applied, drawn

    def _attempt(self, place: Place, use: ConditionUse, empty: Batch, samples: Sequence[str] | None = None) -> Attempt:
        """Return a function that applies a condition to samples without content, which stand for `samples`."""
        state, inputs = self._start(place.modality, empty), self._inputs(place, use, empty)
        where = _where(place, samples or empty.names) + (f" of {size_of(state.grid, place.modality)}" if use.drawn else "")

        return lambda values: applied_with(use, values, state, inputs, where)

    def _start(self, name: str, batch: Batch) -> LatentState:
        medium = self._medium(name, batch.latents[name])
        return LatentState.start(name, medium.grid, medium.rate, medium.tokens, medium.positions)

    def _inputs(self, place: Place, use: ConditionUse, batch: Batch) -> Inputs:
        media, images = dict[str, Medium](), dict[str, Pictures]()
        masks: dict[str, Tensor] = {}
        tensors: dict[str, Tensor] = {}
        for role in use.roles:
            key = place.role(role.name)
            if role.kind == "latents":
                media[role.name] = self._medium(place.modality, batch.latents[key])
            elif role.kind == "mask":
                masks[role.name] = batch.masks[key].float().flatten(1)
            elif role.kind == "pictures":
                images[role.name] = pictures_of(batch.pictures[key], self.setting.modalities[place.modality])
            else:
                tensors[role.name] = batch.tensors[key].float()
        return Inputs(media, masks, tensors, images)

    def _medium(self, name: str, stored: StoredLatents) -> Medium:
        modality = self.setting.modalities[name]
        grid = modality.grid(stored.latents)
        return Medium(modality.patchify(stored.latents.float()), grid, stored.rate, modality.positions(grid, stored.rate))

    def _sigma(
        self,
        name: str,
        table: ModalityTable,
        state: LatentState,
        draws: Draws,
        prepared: Mapping[str, ModelInput],
        absent: Collection[str],
    ) -> Tensor:
        import torch

        if not table.is_generated or name in absent:
            return torch.zeros(draws.size)
        if self.shared_sigma and not absent and "video" in prepared:
            return prepared["video"].sigma
        return self.setting.sigma_sampler.sample(draws, f"{name}.sampler", state.num_target)

    # ---- geometries

    def _geometries(self, name: str, table: ModalityTable, data: Manifest) -> Iterator[tuple[list[str], Batch]]:
        """Yield the names of the samples of each distinct geometry, with a batch of one empty sample of this geometry."""
        import torch

        roles = [key for key, source in self.sources().items() if source.modality == name]
        groups: dict[tuple[tuple[tuple[int, ...], float | None], ...], list[str]] = {}
        firsts: dict[tuple[tuple[tuple[int, ...], float | None], ...], Mapping[str, Entry]] = {}
        for entries, names in _having(name, data):
            geometry = tuple((entries[role].shape, entries[role].rate) for role in roles)
            firsts.setdefault(geometry, entries)
            groups.setdefault(geometry, []).extend(names)
        for geometry, samples in groups.items():
            samples.sort()
            latents: dict[str, StoredLatents] = {}
            masks: dict[str, Tensor] = {}
            tensors: dict[str, Tensor] = {}
            pictures: dict[str, StoredPictures] = {}
            for role in roles:
                entry = firsts[geometry][role]
                # The tensors are expanded from one number, so that a clip of any length takes no memory.
                empty, kind = torch.zeros(1).expand(1, *entry.shape), self.sources()[role].kind
                if kind == "latents":
                    latents[role] = StoredLatents(empty, torch.tensor([self._rate(name, entry.rate)]))
                elif kind == "pictures":
                    pictures[role] = StoredPictures(empty, torch.zeros(1, entry.shape[0]))
                else:
                    (masks if kind == "mask" else tensors)[role] = empty
            yield samples, Batch((samples[0],), latents, masks, Text({}, torch.zeros(1, 0)), tensors, pictures)

    def _pairs(self, place: Place, use: ConditionUse, data: Manifest) -> Iterator[tuple[Geometry, dict[str, Geometry]]]:
        seen, name = set(), place.modality
        for entries, _ in _having(name, data):
            target = self._geometry(name, entries[name])
            others = {role.name: self._geometry(name, entries[place.role(role.name)]) for role in use.roles if role.kind == "latents"}
            key = (target, tuple(sorted(others.items(), key=lambda item: item[0])))
            if key not in seen:
                seen.add(key)
                yield target, others

    def _geometry(self, name: str, entry: Entry) -> Geometry:
        return Geometry(self.setting.modalities[name].grid_of(entry.shape), self._rate(name, entry.rate), name)

    def _rate(self, name: str, stored: float | None) -> float:
        return stored if stored is not None else self.setting.modalities[name].default_rate


def _having(name: str, data: Manifest) -> Iterator[tuple[Mapping[str, Entry], Sequence[str]]]:
    """Yield the groups of samples that have a modality."""
    return (group for group in data.alike if name in group[0])


def _applies_to_all(place: Place, use: ConditionUse, draws: Draws) -> bool:
    return draws.shared_uniform(f"{place.key}.u") < use.probability


def _where(place: Place, samples: Sequence[str]) -> str:
    return f"{place.where}, {'sample' if len(samples) == 1 else 'samples'} {listed(samples)}"


@hookimpl
def ltx_strategies() -> dict[str, type]:
    return {"flexible": Flexible}
