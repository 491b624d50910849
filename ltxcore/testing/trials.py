"""What conditions are tried on: clips and sounds of several shapes, three samples each, with all that their roles ask for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from ltxcore.modalities.audio import AudioModality
from ltxcore.modalities.video import VideoModality
from ltxcore.protocols import Inputs, Medium, Modality, Role
from ltxcore.state import Grid, LatentState

GRIDS: Mapping[str, Sequence[Grid]] = {
    "video": (Grid(1, 4, 6), Grid(3, 2, 2), Grid(5, 4, 6), Grid(9, 6, 4, (4, 16, 16)), Grid(2, 10, 16), Grid(13, 5, 3)),
    "audio": tuple(Grid(steps, scale=(4, 1, 1)) for steps in (1, 6, 27, 50)),
}
"""By default: an image, a clip of few cells, larger ones, one of a codec with finer cells, a wide one, one with odd sides; sounds of up to two seconds."""

RATES = {"video": (24.0, 25.0, 30.0), "audio": (25.0, 25.0, 25.0)}
BATCH = 3
CHANNELS = 2
BINS = 16


@attrs.frozen(eq=False)
class Trial:
    """A batch that a condition is tried on; `label` says which in a message."""

    label: str
    modality: str
    target: Medium
    inputs: Inputs

    def known(self) -> LatentState:
        """The state as training has it."""
        target = self.target
        return LatentState.start(self.modality, target.grid, target.rate, target.tokens, target.positions)

    def unknown(self) -> LatentState:
        """The state as sampling has it."""
        return attrs.evolve(self.known(), clean=torch.zeros_like(self.target.tokens))

    def alone(self, index: int) -> Trial:
        """One sample of the batch."""
        return self._each(lambda tensor: tensor[index : index + 1])

    def copy(self) -> Trial:
        """The same numbers in other memory."""
        return self._each(lambda tensor: tensor.clone())

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a condition must leave as it is, by name."""
        found = {
            f"state.{name}": getattr(self.target, at) for name, at in (("clean", "tokens"), ("rate", "rate"), ("positions", "positions"))
        }
        found |= {f'inputs.mask("{role}")': mask for role, mask in self.inputs.masks.items()}
        for role, medium in self.inputs.media.items():
            found |= {f'inputs.latents("{role}").{name}': getattr(medium, name) for name in ("tokens", "rate", "positions")}
        return found

    def _each(self, change: Any) -> Trial:
        def changed(medium: Medium) -> Medium:
            return Medium(change(medium.tokens), medium.grid, change(medium.rate), change(medium.positions))

        media = {role: changed(medium) for role, medium in self.inputs.media.items()}
        masks = {role: change(mask) for role, mask in self.inputs.masks.items()}
        return attrs.evolve(self, target=changed(self.target), inputs=Inputs(media, masks))


def trials(modality: str, roles: Sequence[Role], grids: Sequence[Grid]) -> Iterator[Trial]:
    """Batches of a modality: each grid with media of its own size for the roles and, where it can be halved, with smaller ones."""
    for grid in grids:
        yield _trial(modality, roles, grid, grid)
        smaller = attrs.evolve(grid, height=grid.height // 2, width=grid.width // 2)
        if any(role.kind == "latents" for role in roles) and not grid.height % 2 and not grid.width % 2:
            yield _trial(modality, roles, grid, smaller)


def modality_of(name: str, grid: Grid) -> Modality:
    """The modality whose latents have such cells."""
    return VideoModality(grid.scale) if name == "video" else AudioModality(grid.scale[0], BINS)


def latents_of(name: str, grid: Grid, seed: int, batch: int = BATCH) -> Tensor:
    """Random latents, `[B, C, F, H, W]` or `[B, C, T, M]`."""
    sides = (grid.frames, grid.height, grid.width) if name == "video" else (grid.frames, BINS)
    return torch.randn(batch, CHANNELS, *sides, generator=torch.Generator().manual_seed(seed))


def mask_of(tokens: int, seed: int, batch: int = BATCH) -> Tensor:
    """A soft mask with tokens that are given wholly, in part and not at all, `[B, T]`; something is always left to generate."""
    mask = (torch.rand(batch, tokens, generator=torch.Generator().manual_seed(seed)) * 1.5 - 0.25).clamp(0, 1)
    mask[:, seed % tokens] = 0.0
    return mask


def _trial(name: str, roles: Sequence[Role], grid: Grid, of_roles: Grid) -> Trial:
    label = f"{name} of {grid} latent cells" if name == "video" else f"audio of {grid} latent steps"
    if of_roles != grid:
        label += f" with media of {of_roles}"
    seed = grid.num_tokens
    media = {role.name: _medium(name, of_roles, seed + 1 + index) for index, role in enumerate(roles) if role.kind == "latents"}
    masks = {role.name: mask_of(grid.num_tokens, seed + 1 + index) for index, role in enumerate(roles) if role.kind == "mask"}
    return Trial(label, name, _medium(name, grid, seed), Inputs(media, masks))


def _medium(name: str, grid: Grid, seed: int) -> Medium:
    modality = modality_of(name, grid)
    rate = torch.tensor(RATES[name])
    return Medium(modality.patchify(latents_of(name, grid, seed)), grid, rate, modality.positions(grid, rate).clone())
