"""Samples of several shapes on which strategies and conditions are tried, with all data that their sources and roles name, and the
collection of faults that are found.

Conditions are tried on clips and audio of several shapes, three samples each, with everything that their roles ask for.

Each fault is reported once, with the places where it occurs.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from ltxcore.columns import resolved
from ltxcore.conditions import pictures_of
from ltxcore.errors import listed
from ltxcore.flow.draws import CountedDraws
from ltxcore.flow.sigmas import ShiftedLogitNormal
from ltxcore.modalities.audio import AudioModality
from ltxcore.modalities.video import VideoModality
from ltxcore.pictures import Pictures, StoredPictures
from ltxcore.protocols import (
    MODALITIES,
    Batch,
    Entry,
    Inputs,
    Manifest,
    Medium,
    Modality,
    Role,
    Setting,
    Source,
    StoredLatents,
    Text,
)
from ltxcore.registry import load
from ltxcore.runs.setup import condition_maker
from ltxcore.state import Grid, LatentState

GRIDS: Mapping[str, Sequence[Grid]] = {
    "video": (Grid(1, 4, 6), Grid(3, 2, 2), Grid(5, 4, 6), Grid(9, 6, 4, (4, 16, 16)), Grid(2, 10, 16), Grid(13, 5, 3)),
    "audio": tuple(Grid(steps, scale=(4, 1, 1)) for steps in (1, 6, 27, 50)),
}
"""The grids to try by default: an image, a clip of few cells, larger clips, a clip from a codec with finer cells, a wide clip, a
clip with odd sides, and audio of up to two seconds.
"""


def grids_with(grids: Mapping[str, Sequence[Grid]] | None) -> Mapping[str, Sequence[Grid]]:
    """Return `GRIDS` with other grids for some modalities."""
    return {**GRIDS, **(grids or {})}


RATES = {"video": (24.0, 25.0, 30.0), "audio": (25.0, 25.0, 25.0)}
BATCH = 3
CHANNELS = 2
BINS = 16


@attrs.define
class Findings:
    """The faults of one plugin in the order in which they were found.

    Attributes:
        said: the heading of the faults in the error.
        faults: the faults; the key of a fault is its text without numbers, and the value is its first text with the places
            where it occurs.
    """

    said: str
    faults: dict[str, tuple[str, list[str]]] = attrs.field(factory=dict)

    def note(self, fault: str, label: str = "") -> None:
        """Note a fault. If the same fault occurs in several places, even with different numbers, it is reported only once."""
        _, places = self.faults.setdefault(re.sub(r"\d+", "", fault), (fault, []))
        if label and label not in places:
            places.append(label)

    def tell(self) -> None:
        """Raise an error with all faults, if there are any.

        Raises:
            AssertionError: faults were found.
        """
        if self.faults:
            lines = [f"  - {fault}{f'; seen on {listed(places, 2)}' if places else ''}" for fault, places in self.faults.values()]
            raise AssertionError("\n".join([self.said, *lines]))


@attrs.define
class Looked(Mapping[str, Tensor]):
    """Tensors by name, such as those of a file, with a record of the names that were looked up."""

    tensors: dict[str, Tensor]
    names: set[str] = attrs.field(factory=set)

    def __getitem__(self, name: str) -> Tensor:
        tensor = self.tensors[name]
        self.names.add(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


@attrs.frozen(eq=False)
class Trial:
    """A batch that a condition is tried on; `label` names it in a message."""

    label: str
    modality: str
    target: Medium
    inputs: Inputs

    def known(self) -> LatentState:
        """Return the state as in training, where the target is known."""
        target = self.target
        return LatentState.start(self.modality, target.grid, target.rate, target.tokens, target.positions)

    def unknown(self) -> LatentState:
        """Return the state as in generation, where the target is not known."""
        return attrs.evolve(self.known(), clean=torch.zeros_like(self.target.tokens))

    def alone(self, index: int) -> Trial:
        """Return one sample of the batch."""
        return self._each(lambda tensor: tensor[index : index + 1])

    def copy(self) -> Trial:
        """Return a copy that shares no memory with the original."""
        return self._each(lambda tensor: tensor.clone())

    def without(self, role: str) -> Trial:
        """Return the same batch without the data of a role."""
        fields = attrs.asdict(self.inputs, recurse=False).items()
        return attrs.evolve(self, inputs=Inputs(**{kind: {name: data for name, data in of.items() if name != role} for kind, of in fields}))

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors that a condition must leave unchanged, by name."""
        found = {
            f"state.{name}": getattr(self.target, at) for name, at in (("clean", "tokens"), ("rate", "rate"), ("positions", "positions"))
        }
        found |= {f'inputs.mask("{role}")': mask for role, mask in self.inputs.masks.items()}
        found |= {f'inputs.values("{role}")': tensor for role, tensor in self.inputs.tensors.items()}
        for role, pictures in self.inputs.images.items():
            found |= {f'inputs.pictures("{role}").{name}': getattr(pictures, name) for name in ("tokens", "frames")}
        for role, medium in self.inputs.media.items():
            found |= {f'inputs.latents("{role}").{name}': getattr(medium, name) for name in ("tokens", "rate", "positions")}
        return found

    def _each(self, change: Any) -> Trial:
        def changed(medium: Medium) -> Medium:
            return Medium(change(medium.tokens), medium.grid, change(medium.rate), change(medium.positions))

        media = {role: changed(medium) for role, medium in self.inputs.media.items()}
        masks = {role: change(mask) for role, mask in self.inputs.masks.items()}
        tensors = {role: change(tensor) for role, tensor in self.inputs.tensors.items()}
        images = {
            role: Pictures(change(pictures.tokens), pictures.grid, change(pictures.frames)) for role, pictures in self.inputs.images.items()
        }
        return attrs.evolve(self, target=changed(self.target), inputs=Inputs(media, masks, tensors, images))


def trials(modality: str, roles: Sequence[Role], grids: Sequence[Grid]) -> Iterator[Trial]:
    """Yield batches of a modality: for each grid, a batch with media of the same size for the roles and, if the size can be halved, one
    with smaller media.
    """
    for grid in grids:
        yield _trial(modality, roles, grid, grid)
        smaller = attrs.evolve(grid, height=grid.height // 2, width=grid.width // 2)
        if any(role.kind == "latents" for role in roles) and not grid.height % 2 and not grid.width % 2:
            yield _trial(modality, roles, grid, smaller)


def modality_of(name: str, grid: Grid) -> Modality:
    """Return the modality whose latents have these cells."""
    return VideoModality(grid.scale) if name == "video" else AudioModality(grid.scale[0], BINS)


def latents_of(name: str, grid: Grid, seed: int, batch: int = BATCH) -> Tensor:
    """Return random latents, `[B, C, F, H, W]` or `[B, C, T, M]`."""
    sides = (grid.frames, grid.height, grid.width) if name == "video" else (grid.frames, BINS)
    return torch.randn(batch, CHANNELS, *sides, generator=torch.Generator().manual_seed(seed))


def mask_of(tokens: int, seed: int, batch: int = BATCH) -> Tensor:
    """Return a soft mask, `[B, T]`, with tokens that are given fully, partly and not at all; at least one token is always left to
    generate.
    """
    mask = (torch.rand(batch, tokens, generator=torch.Generator().manual_seed(seed)) * 1.5 - 0.25).clamp(0, 1)
    mask[:, seed % tokens] = 0.0
    return mask


def values_of(shape: Sequence[int | str], grid: Grid, seed: int, batch: int = BATCH) -> Tensor:
    """Return random values of a declared shape, `[B, *shape]`, for a target of this grid."""
    lengths = resolved(shape, (grid.frames, grid.height, grid.width), other=3)
    return torch.randn(batch, *lengths, generator=torch.Generator().manual_seed(seed))


def stored_pictures(grid: Grid, seed: int, batch: int = BATCH) -> StoredPictures:
    """Return random pictures of a clip with this grid: of its first frame, its last, and two others, or fewer in a short clip."""
    length = (grid.frames - 1) * grid.scale[0] + 1
    frames = sorted({0, length // 3, length // 2, length - 1})
    latents = torch.randn(batch, len(frames), CHANNELS, 1, grid.height, grid.width, generator=torch.Generator().manual_seed(seed))
    return StoredPictures(latents, torch.tensor(frames, dtype=torch.float32).repeat(batch, 1))


def _trial(name: str, roles: Sequence[Role], grid: Grid, of_roles: Grid) -> Trial:
    label = f"{name} of {grid} latent cells" if name == "video" else f"audio of {grid} latent steps"
    if of_roles != grid:
        label += f" with media of {of_roles}"
    seed = grid.num_tokens
    media = {role.name: _medium(name, of_roles, seed + 1 + index) for index, role in enumerate(roles) if role.kind == "latents"}
    masks = {role.name: mask_of(grid.num_tokens, seed + 1 + index) for index, role in enumerate(roles) if role.kind == "mask"}
    tensors = {role.name: values_of(role.shape or (), grid, seed + 1 + index) for index, role in enumerate(roles) if role.kind == "values"}
    images = {
        role.name: pictures_of(stored_pictures(grid, seed + 1 + index), modality_of(name, grid))
        for index, role in enumerate(roles)
        if role.kind == "pictures"
    }
    return Trial(label, name, _medium(name, grid, seed), Inputs(media, masks, tensors, images))


def _medium(name: str, grid: Grid, seed: int) -> Medium:
    modality = modality_of(name, grid)
    rate = torch.tensor(RATES[name])
    return Medium(modality.patchify(latents_of(name, grid, seed)), grid, rate, modality.positions(grid, rate).clone())


NAMES = tuple(f"sample{index}" for index in range(BATCH))
WORDS, WIDTH = 4, 8


@attrs.frozen(eq=False)
class Samples:
    """Three stored samples of one shape, with everything that a strategy reads."""

    label: str
    batch: Batch
    manifest: Manifest

    def with_roles(self, roles: Collection[str]) -> Batch:
        """Return the micro-batch as a run reads it, with these roles only."""
        latents = {role: stored for role, stored in self.batch.latents.items() if role in roles}
        masks = {role: mask for role, mask in self.batch.masks.items() if role in roles}
        tensors = {role: tensor for role, tensor in self.batch.tensors.items() if role in roles}
        pictures = {role: stored for role, stored in self.batch.pictures.items() if role in roles}
        return attrs.evolve(self.batch, latents=latents, masks=masks, tensors=tensors, pictures=pictures)


def setting_of(grids: Mapping[str, Sequence[Grid]] | None = None) -> Setting:
    """Return a setting like that of a run, with all registered conditions, and with codecs whose scale is that of the first grid of their
    modality.
    """
    video, audio = (grids_with(grids)[modality][0].scale for modality in MODALITIES)
    modalities: dict[str, Modality] = {"video": VideoModality(video), "audio": AudioModality(audio[0], BINS)}
    return Setting(modalities, ShiftedLogitNormal(), False, condition_maker(load()), takes_marker=True)


def draws_of(names: Sequence[str] = NAMES, number: int = 0) -> CountedDraws:
    """Return the draws of a micro-batch."""
    return CountedDraws(7, 0, tuple(names), f"0.{number}")


def samples_of(sources: Mapping[str, Source], grids: Mapping[str, Sequence[Grid]] | None = None) -> list[Samples]:
    """Return samples of several shapes, from codecs of one scale; the video and audio of a sample have the same index in their lists."""
    all_ = grids_with(grids)
    chosen = {modality: [grid for grid in all_[modality] if grid.scale == all_[modality][0].scale] for modality in MODALITIES}
    count = max(len(own) for own in chosen.values())
    return [_samples(sources, {modality: own[index % len(own)] for modality, own in chosen.items()}) for index in range(count)]


def alone(batch: Batch, index: int) -> Batch:
    """Return one sample of a micro-batch."""
    row = slice(index, index + 1)
    latents = {role: StoredLatents(stored.latents[row], stored.rate[row]) for role, stored in batch.latents.items()}
    masks = {role: mask[row] for role, mask in batch.masks.items()}
    text = Text(
        {modality: features[row] for modality, features in batch.text.features.items()}, batch.text.mask[row], batch.text.is_connected
    )
    tensors = {role: tensor[row] for role, tensor in batch.tensors.items()}
    pictures = {role: StoredPictures(stored.latents[row], stored.frames[row]) for role, stored in batch.pictures.items()}
    return Batch(batch.names[row], latents, masks, text, tensors, pictures)


def tensors_of(batch: Batch) -> dict[str, Tensor]:
    """Return the tensors of a micro-batch that a strategy must leave unchanged, by name."""
    found = {f'batch.latents["{role}"].latents': stored.latents for role, stored in batch.latents.items()}
    found |= {f'batch.latents["{role}"].rate': stored.rate for role, stored in batch.latents.items()}
    found |= {f'batch.masks["{role}"]': mask for role, mask in batch.masks.items()}
    found |= {f'batch.tensors["{role}"]': tensor for role, tensor in batch.tensors.items()}
    found |= {f'batch.pictures["{role}"].latents': stored.latents for role, stored in batch.pictures.items()}
    found |= {f'batch.text.features["{modality}"]': features for modality, features in batch.text.features.items()}
    return found


def _samples(sources: Mapping[str, Source], grids: Mapping[str, Grid]) -> Samples:
    latents, masks, tensors, pictures, entries = {}, {}, {}, {}, {}
    for seed, (role, source) in enumerate(sources.items()):
        grid = grids.get(source.modality)
        if source.kind == "text" or grid is None:
            entries[role] = Entry((WORDS,))
        elif source.kind == "latents":
            latents[role] = StoredLatents(latents_of(source.modality, grid, seed), torch.tensor(RATES[source.modality]))
            entries[role] = Entry(tuple(latents[role].latents.shape[1:]), RATES[source.modality][0])
        elif source.kind == "pictures":
            pictures[role] = stored_pictures(grid, seed)
            entries[role] = Entry(tuple(pictures[role].latents.shape[1:]))
        elif source.kind == "values":
            tensors[role] = values_of(source.shape or (), grid, seed)
            entries[role] = Entry(tuple(tensors[role].shape[1:]))
        else:
            sides = (grid.frames, grid.height, grid.width) if source.modality == "video" else (grid.frames,)
            masks[role] = mask_of(grid.num_tokens, seed).reshape(BATCH, *sides)
            entries[role] = Entry(sides)
    text = Text({modality: torch.ones(BATCH, WORDS, WIDTH) for modality in MODALITIES}, torch.ones(BATCH, WORDS))
    label = " and ".join(f"{modality} of {grid}" for modality, grid in grids.items())
    return Samples(
        label,
        Batch(NAMES, latents, masks, text, tensors, pictures),
        Manifest({role: dict.fromkeys(NAMES, entry) for role, entry in entries.items()}),
    )
