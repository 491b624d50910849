"""The flexible strategy: each modality is generated or frozen, and has its own conditions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar

import attrs

from ltxcore.conditions import ConditionUse, applied_state, where_applied
from ltxcore.errors import ConfigError, DataError, LtxError, Problem, listed
from ltxcore.flow.loss import masked_loss
from ltxcore.flow.sigmas import add_noise, velocity
from ltxcore.hookspecs import hookimpl
from ltxcore.protocols import (
    MODALITIES,
    Batch,
    DescribesLora,
    Draws,
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


MARKER = "mark_first_frame"
"""The run-file key, and the metadata key in a saved LoRA ("true" or "false"), which is only used for models that take the marker."""


@attrs.frozen
class ModalityTable:
    """The keys of `[training_strategy.audio]`, all of which `[training_strategy.video]` also has."""

    not_here: ClassVar[Mapping[str, tuple[str, str]]] = {
        MARKER: ("is for video: audio has no frames to mark", "Write it in [training_strategy.video], or remove it.")
    }
    """Keys that a user may write here by mistake, each with what is wrong and the remedy."""

    is_generated: bool = attrs.field(
        metadata={"help": "true: denoised and in the loss; false: frozen, it stays clean and only conditions the other modality"}
    )
    latents_dir: str = attrs.field(metadata={"help": "folder of the encoded latents"})
    conditions: list[ConditionUse] = attrs.field(factory=list, metadata={"help": "the conditions, which say what is given or added"})


@attrs.frozen
class VideoTable(ModalityTable):
    """The keys of `[training_strategy.video]`."""

    mark_first_frame: bool = attrs.field(
        default=True,
        metadata={"help": "pass the first-frame marker to models that have one (LTX-2.5); others ignore it"},
    )


def _of_video(table: ModalityTable | None) -> VideoTable | None:
    """Add the keys that only video has, with their defaults, to a table that lacks them."""
    if table is None or isinstance(table, VideoTable):
        return table
    return VideoTable(table.is_generated, table.latents_dir, table.conditions)


@attrs.frozen
class Flexible:
    """The strategy of all modes: each modality is generated or frozen, with conditions of its own."""

    video: VideoTable | None = attrs.field(
        default=None, converter=_of_video, metadata={"help": "the video stream; leave it out for audio only"}
    )
    audio: ModalityTable | None = attrs.field(default=None, metadata={"help": "the audio stream; leave it out for video only"})

    @property
    def tables(self) -> dict[str, ModalityTable]:
        """The tables of the modalities that the run has, in order."""
        both: dict[str, ModalityTable | None] = {"video": self.video, "audio": self.audio}
        return {name: table for name in MODALITIES if (table := both[name]) is not None}

    def problems(self) -> list[tuple[tuple[str | int, ...], str, str]]:
        """Return what is wrong for any data: the key path within the table, the fault and the remedy."""
        found: list[tuple[tuple[str | int, ...], str, str]] = []
        if not any(table.is_generated for table in self.tables.values()):
            found.append(
                ((), "no modality is generated, so there is nothing to train", "Set is_generated = true for video, audio or both.")
            )
        for name, table in self.tables.items():
            for index, use in enumerate(table.conditions):
                path = (name, "conditions", index)
                if name not in use.modalities:
                    allowed = listed(sorted(use.modalities))
                    found.append(((*path, "type"), f'the condition "{use.type}" does not work on {name}', f"It works on {allowed}."))
                elif not table.is_generated and not use.appends:
                    found.append(((*path, "type"), *_meaningless(use.type, name)))
        return found

    def build(self, setting: Setting) -> FlexibleStrategy:
        """Build the strategy for this model and this run.

        Raises:
            ConfigError: there are problems; the error names all of `problems()`.
        """
        problems = self.problems()
        if problems:
            raise ConfigError.of(Problem(what, ".".join(["training_strategy", *map(str, path)]), remedy) for path, what, remedy in problems)
        return FlexibleStrategy(self.tables, setting)


def _meaningless(type_: str, modality: str) -> tuple[str, str]:
    return (
        f'the condition "{type_}" makes no sense on the frozen {modality}, which is already given',
        f"Remove it, or set is_generated = true for {modality}.",
    )


@attrs.frozen(eq=False)
class FlexibleStrategy:
    """The strategy that `Flexible` builds. Its roles are "text", "video", "audio", and `MODALITY.condN.ROLE` for the data of a condition."""

    tables: Mapping[str, ModalityTable]
    setting: Setting

    @property
    def shared_sigma(self) -> bool:
        """Whether both modalities share one sigma: the run asks for it, and both are generated."""
        return self.setting.shared_sigma and all(table.is_generated for table in self.tables.values())

    @property
    def generated(self) -> frozenset[str]:
        """The modalities that are denoised and count in the loss."""
        return frozenset(name for name, table in self.tables.items() if table.is_generated)

    def sources(self) -> dict[str, Source]:
        found = {TEXT: Source(TEXT_FOLDER, "text")}
        for name, table in self.tables.items():
            found[name] = Source(table.latents_dir, "latents", name, where=f"training_strategy.{name}.latents_dir")
            for index, use in enumerate(table.conditions):
                for role in use.roles:
                    found[_role(name, index, role.name)] = Source(
                        use.sources[role.name],
                        role.kind,
                        name,
                        optional=use.appends and use.probability < 1,
                        where=f"training_strategy.{name}.conditions.{index}.{role.source_key}",
                    )
        return found

    def wanted(self, draws: Draws) -> frozenset[str]:
        """Return the roles of the appending conditions that apply to this micro-batch."""
        return frozenset(
            _role(name, index, role.name)
            for name, table in self.tables.items()
            for index, use in enumerate(table.conditions)
            if use.appends and _applies_to_all(name, index, use, draws)
            for role in use.roles
        )

    def prepare(self, batch: Batch, draws: Draws) -> dict[str, ModelInput]:
        """Return the model's inputs by modality, on the CPU in float32.

        Raises:
            DataError: a condition cannot apply to these samples.

        Source: docs/explanation/arithmetic.md#noise-target-and-loss
        """
        prepared: dict[str, ModelInput] = {}
        for name, table in self.tables.items():
            state, applied = self._conditioned(name, table, batch, draws)
            sigma = self._sigma(name, table, state, draws, prepared)
            seen = ModelInput.of(state, sigma, batch.text, is_generated=table.is_generated, marks=self._marks(table))
            prepared[name] = attrs.evolve(_noised(seen, state, draws) if table.is_generated else seen, applied=applied)
        return prepared

    def loss(self, predicted: Mapping[str, Tensor], prepared: Mapping[str, ModelInput]) -> dict[str, Tensor]:
        """Return the loss of every sample, `[B]`, for each generated modality; predictions for appended tokens are not read."""
        losses = {}
        for name, given in prepared.items():
            if given.is_generated:
                if given.velocity is None or given.loss_mask is None:
                    raise ValueError(f"the {name} was not prepared for training")
                losses[name] = masked_loss(predicted[name][:, : given.velocity.shape[1]], given.velocity, given.loss_mask)
        return losses

    def check(self, data: Manifest) -> None:
        """Apply every condition once, on empty tokens, to each geometry in the data, and make the saved LoRA's metadata
        once.

        Raises:
            DataError: a condition refuses; the error names the samples of every geometry at fault.
        """
        problems: list[Problem] = []
        for name, table in self.tables.items():
            for samples, batch in self._geometries(name, table, data):
                state = self._start(name, batch)
                for index, use in enumerate(table.conditions):
                    where = f"training_strategy.{name}.conditions.{index}, {'sample' if len(samples) == 1 else 'samples'} {listed(samples)}"
                    try:
                        applied_state(use, state, self._inputs(name, index, use, batch), where)
                    except LtxError as error:
                        problems.extend(error.problems)
        if problems:
            raise DataError.of(problems)
        self.metadata(data)

    def metadata(self, data: Manifest) -> dict[str, str]:
        """Return the saved LoRA's metadata: that of conditions, such as the scale of references, and whether the marker
        was used.

        Raises:
            DataError: samples or conditions disagree on a value that a LoRA can have only once.
        """
        found: dict[str, str] = {}
        if self.setting.takes_marker and "video" in self.tables:
            found[MARKER] = "true" if self._marks(self.tables["video"]) else "false"
        for name, table in self.tables.items():
            for index, use in enumerate(table.conditions):
                if not isinstance(use.condition, DescribesLora):
                    continue
                where = f"training_strategy.{name}.conditions.{index}"
                try:
                    said = use.condition.metadata(list(self._pairs(name, index, use, data)))
                except LtxError as error:
                    raise error.at(where) from error
                for key, value in said.items():
                    if found.setdefault(key, value) != value:
                        raise DataError(
                            f"the saved LoRA would record {key} = {value}, but another condition records {found[key]}",
                            where=where,
                            remedy="A LoRA can record only one: give both conditions data of the same kind.",
                        )
        return found

    # ---- states

    def _marks(self, table: ModalityTable) -> bool:
        """Return whether the first latent frame is marked; for a table without the key the default, yes, applies."""
        return self.setting.takes_marker and getattr(table, MARKER, True)

    def _conditioned(self, name: str, table: ModalityTable, batch: Batch, draws: Draws) -> tuple[LatentState, dict[str, Tensor]]:
        import torch

        state = self._start(name, batch)
        applied: dict[str, Tensor] = {}
        for index, use in enumerate(table.conditions):
            key = _key(name, index, use)
            if use.appends:
                chosen = torch.full((draws.size,), _applies_to_all(name, index, use, draws))
            else:
                chosen = draws.uniform(f"{key}.u") < use.probability
            if bool(chosen.any()):
                where = f"training_strategy.{name}.conditions.{index}, {'sample' if draws.size == 1 else 'samples'} {listed(batch.names)}"
                after = applied_state(use, state, self._inputs(name, index, use, batch), where)
                state = where_applied(state, after, chosen)
            applied[key] = chosen
        return state, applied

    def _start(self, name: str, batch: Batch) -> LatentState:
        medium = self._medium(name, batch.latents[name])
        return LatentState.start(name, medium.grid, medium.rate, medium.tokens, medium.positions)

    def _inputs(self, name: str, index: int, use: ConditionUse, batch: Batch) -> Inputs:
        media: dict[str, Medium] = {}
        masks: dict[str, Tensor] = {}
        for role in use.roles:
            key = _role(name, index, role.name)
            if role.kind == "latents":
                media[role.name] = self._medium(name, batch.latents[key])
            else:
                masks[role.name] = batch.masks[key].float().flatten(1)
        return Inputs(media, masks)

    def _medium(self, name: str, stored: StoredLatents) -> Medium:
        modality = self.setting.modalities[name]
        grid = modality.grid(stored.latents)
        return Medium(modality.patchify(stored.latents.float()), grid, stored.rate, modality.positions(grid, stored.rate))

    def _sigma(self, name: str, table: ModalityTable, state: LatentState, draws: Draws, prepared: Mapping[str, ModelInput]) -> Tensor:
        import torch

        if not table.is_generated:
            return torch.zeros(draws.size)
        if self.shared_sigma and "video" in prepared:
            return prepared["video"].sigma
        return self.setting.sigma_sampler.sample(draws, f"{name}.sampler", state.num_target)

    # ---- geometries

    def _geometries(self, name: str, table: ModalityTable, data: Manifest) -> Iterator[tuple[list[str], Batch]]:
        """Yield the samples of each distinct geometry, with a batch of one sample that has this geometry and no content."""
        import torch

        roles = [key for key, source in self.sources().items() if source.modality == name]
        groups: dict[tuple[object, ...], list[str]] = {}
        for sample in data.samples:
            groups.setdefault(tuple((data.entries[role][sample].shape, data.entries[role][sample].rate) for role in roles), []).append(
                sample
            )
        for samples in groups.values():
            latents, masks = {}, {}
            for role in roles:
                entry = data.entries[role][samples[0]]
                # Expanded from one number, so that a clip of any length takes no memory.
                if self.sources()[role].kind == "latents":
                    latents[role] = StoredLatents(torch.zeros(1).expand(1, *entry.shape), torch.tensor([self._rate(name, entry.rate)]))
                else:
                    masks[role] = torch.zeros(1).expand(1, *entry.shape)
            yield samples, Batch((samples[0],), latents, masks, Text({}, torch.zeros(1, 0)))

    def _pairs(self, name: str, index: int, use: ConditionUse, data: Manifest) -> Iterator[tuple[Geometry, dict[str, Geometry]]]:
        seen = set()
        for sample in data.samples:
            target = self._geometry(name, data, name, sample)
            others = {
                role.name: self._geometry(name, data, _role(name, index, role.name), sample) for role in use.roles if role.kind == "latents"
            }
            key = (target, tuple(sorted(others.items(), key=lambda item: item[0])))
            if key not in seen:
                seen.add(key)
                yield target, others

    def _geometry(self, name: str, data: Manifest, role: str, sample: str) -> Geometry:
        entry = data.entries[role][sample]
        return Geometry(self.setting.modalities[name].grid_of(entry.shape), self._rate(name, entry.rate), name)

    def _rate(self, name: str, stored: float | None) -> float:
        return stored if stored is not None else self.setting.modalities[name].default_rate


def _noised(seen: ModelInput, state: LatentState, draws: Draws) -> ModelInput:
    """Return the state's target with noise, by each token's own noise level, and the expected prediction.

    Source: docs/explanation/arithmetic.md#noise-of-a-token, #tokens-that-count
    """
    import torch

    target = slice(0, state.num_target)
    noise = draws.normal(f"{state.modality}.noise", state.clean.shape[1:])
    noisy = add_noise(state.clean, noise, seen.timesteps[:, target])
    return attrs.evolve(
        seen,
        tokens=torch.cat([noisy, state.appended], dim=1),
        noise=noise,
        velocity=velocity(state.clean, noise),
        loss_mask=state.denoise_mask[:, target] == 1,
    )


def _applies_to_all(name: str, index: int, use: ConditionUse, draws: Draws) -> bool:
    return draws.shared_uniform(f"{_key(name, index, use)}.u") < use.probability


def _key(modality: str, index: int, use: ConditionUse) -> str:
    return f"{modality}.cond{index}.{use.type}"


def _role(modality: str, index: int, role: str) -> str:
    return f"{modality}.cond{index}.{role}"


@hookimpl
def ltx_strategies() -> dict[str, type]:
    return {"flexible": Flexible}
