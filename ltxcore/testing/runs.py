"""What strategies are tried on: stored samples of several shapes, as a run would read them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import attrs
import torch
from torch import Tensor

from ltxcore.flow.draws import CountedDraws
from ltxcore.flow.sigmas import ShiftedLogitNormal
from ltxcore.modalities.audio import AudioModality
from ltxcore.modalities.video import VideoModality
from ltxcore.protocols import MODALITIES, Batch, Entry, Manifest, Modality, Setting, Source, StoredLatents, Text
from ltxcore.registry import load
from ltxcore.runs.setup import condition_maker
from ltxcore.state import Grid
from ltxcore.testing.trials import BATCH, BINS, GRIDS, RATES, latents_of, mask_of

NAMES = tuple(f"sample{index}" for index in range(BATCH))
WORDS, WIDTH = 4, 8


@attrs.frozen(eq=False)
class Samples:
    """Three stored samples of one shape, with everything that a strategy reads."""

    label: str
    batch: Batch
    manifest: Manifest

    def with_roles(self, roles: Collection[str]) -> Batch:
        """The micro-batch with only these roles, as a run reads it."""
        latents = {role: stored for role, stored in self.batch.latents.items() if role in roles}
        masks = {role: mask for role, mask in self.batch.masks.items() if role in roles}
        return attrs.evolve(self.batch, latents=latents, masks=masks)


def setting_of(grids: Mapping[str, Sequence[Grid]] | None = None) -> Setting:
    """A setting as a run makes it, with all registered conditions; codecs have the scale of the first grid of their modality."""
    video, audio = ((grids or GRIDS)[modality][0].scale for modality in MODALITIES)
    modalities: dict[str, Modality] = {"video": VideoModality(video), "audio": AudioModality(audio[0], BINS)}
    return Setting(modalities, ShiftedLogitNormal(), False, condition_maker(load()), takes_marker=True)


def draws_of(names: Sequence[str] = NAMES, number: int = 0) -> CountedDraws:
    """The draws of a micro-batch."""
    return CountedDraws(7, 0, tuple(names), f"0.{number}")


def samples_of(sources: Mapping[str, Source], grids: Mapping[str, Sequence[Grid]] | None = None) -> list[Samples]:
    """Samples of several shapes, of codecs of one scale; video and audio of one sample are taken from the same place of their lists."""
    all_ = grids or GRIDS
    chosen = {modality: [grid for grid in all_[modality] if grid.scale == all_[modality][0].scale] for modality in MODALITIES}
    count = max(len(own) for own in chosen.values())
    return [_samples(sources, {modality: own[index % len(own)] for modality, own in chosen.items()}) for index in range(count)]


def alone(batch: Batch, index: int) -> Batch:
    """One sample of a micro-batch."""
    row = slice(index, index + 1)
    latents = {role: StoredLatents(stored.latents[row], stored.rate[row]) for role, stored in batch.latents.items()}
    masks = {role: mask[row] for role, mask in batch.masks.items()}
    text = Text(
        {modality: features[row] for modality, features in batch.text.features.items()}, batch.text.mask[row], batch.text.is_connected
    )
    return Batch(batch.names[row], latents, masks, text)


def tensors_of(batch: Batch) -> dict[str, Tensor]:
    """Everything in a micro-batch that a strategy must leave as it is, by name."""
    found = {f'batch.latents["{role}"].latents': stored.latents for role, stored in batch.latents.items()}
    found |= {f'batch.latents["{role}"].rate': stored.rate for role, stored in batch.latents.items()}
    found |= {f'batch.masks["{role}"]': mask for role, mask in batch.masks.items()}
    found |= {f'batch.text.features["{modality}"]': features for modality, features in batch.text.features.items()}
    return found


def _samples(sources: Mapping[str, Source], grids: Mapping[str, Grid]) -> Samples:
    latents, masks, entries = {}, {}, {}
    for seed, (role, source) in enumerate(sources.items()):
        grid = grids.get(source.modality)
        if source.kind == "text" or grid is None:
            entries[role] = Entry((WORDS,))
        elif source.kind == "latents":
            latents[role] = StoredLatents(latents_of(source.modality, grid, seed), torch.tensor(RATES[source.modality]))
            entries[role] = Entry(tuple(latents[role].latents.shape[1:]), RATES[source.modality][0])
        else:
            sides = (grid.frames, grid.height, grid.width) if source.modality == "video" else (grid.frames,)
            masks[role] = mask_of(grid.num_tokens, seed).reshape(BATCH, *sides)
            entries[role] = Entry(sides)
    text = Text({modality: torch.ones(BATCH, WORDS, WIDTH) for modality in MODALITIES}, torch.ones(BATCH, WORDS))
    label = " and ".join(f"{modality} of {grid}" for modality, grid in grids.items())
    return Samples(
        label, Batch(NAMES, latents, masks, text), Manifest({role: dict.fromkeys(NAMES, entry) for role, entry in entries.items()})
    )
