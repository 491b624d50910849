"""From an encoded sample to the model's inputs before the first step: conditions applied, noise where nothing is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import attrs
import torch
from torch import Tensor

from ltxcore.conditions import given_from_medium
from ltxcore.flow.draws import generator
from ltxcore.protocols import Inputs, Medium, Modality, ModelInput, StoredLatents, Text
from ltxcore.sample.encode_inputs import Encoded, EncodedCondition
from ltxcore.sample.euler import start
from ltxcore.state import Grid, LatentState

Noise = Callable[[str, Sequence[int]], Tensor]
"""Standard normal numbers of a shape, for a modality."""


def seeded(seed: int) -> Noise:
    """Noise that depends on the seed and the modality alone, so that a condition that is added changes none of it."""

    def noise(modality: str, shape: Sequence[int]) -> Tensor:
        return torch.randn(tuple(shape), generator=generator(seed, "sample", modality))

    return noise


def inputs_of(encoded: Encoded, text: Text, widths: Mapping[str, int], noise: Noise, *, marks: bool) -> dict[str, ModelInput]:
    """What the model sees at the first step, by modality, on the CPU in float32.

    Args:
        encoded: the sample.
        text: its prompt, after the model's connectors.
        widths: numbers in a token of each modality.
        noise: of generated modalities.
        marks: whether the target's first latent frame is marked, as in training.

    Raises:
        DataError: conditions that do not fit what is drawn, or each other.

    Source: design section 4, "Sampling".
    """
    found = {}
    for name in sorted(encoded.canvas.request.modalities, reverse=True):  # video first, as everywhere
        known, is_generated = encoded.frozen.get(name), name in encoded.canvas.request.drawn
        state = unknown(encoded, name, widths[name]) if known is None else _whole(known, encoded.canvas.modalities[name])
        state = conditioned(state, encoded.canvas.modalities[name], [each for each in encoded.conditions if each.modality == name])
        given = _seen(state, text, is_generated, marks)
        found[name] = start(given, noise(name, state.clean.shape)) if is_generated else given
    return found


def unknown(encoded: Encoded, modality: str, width: int) -> LatentState:
    """A target of which nothing is known."""
    canvas = encoded.canvas
    return empty(canvas.modalities[modality], canvas.target(modality), canvas.rate(modality), width)


def empty(modality: Modality, grid: Grid, rate: float, width: int) -> LatentState:
    """A target of these cells with zeros for content."""
    rates = torch.tensor([rate])
    return LatentState.start(modality.name, grid, rates, torch.zeros(1, grid.num_tokens, width), modality.positions(grid, rates))


def conditioned(state: LatentState, modality: Modality, conditions: Sequence[EncodedCondition]) -> LatentState:
    """The state after all conditions.

    Raises:
        DataError: a condition does not fit the target, or two give one token different content.
    """
    for each in conditions:
        medium = None if each.medium is None else medium_of(each.medium, modality)
        inputs = Inputs({role: medium_of(latents, modality) for role, latents in each.media.items()}, each.masks)
        state = given_from_medium(each.use, state, medium, inputs, each.where)
    return state


def medium_of(stored: StoredLatents, modality: Modality) -> Medium:
    """Latents as conditions take them."""
    grid = modality.grid(stored.latents)
    return Medium(modality.patchify(stored.latents), grid, stored.rate, modality.positions(grid, stored.rate))


def _whole(stored: StoredLatents, modality: Modality) -> LatentState:
    """A frozen modality: known everywhere."""
    medium = medium_of(stored, modality)
    state = LatentState.start(modality.name, medium.grid, medium.rate, medium.tokens, medium.positions)
    return attrs.evolve(state, denoise_mask=torch.zeros_like(state.denoise_mask))


def _seen(state: LatentState, text: Text, is_generated: bool, marks: bool) -> ModelInput:
    """At sigma 1, or 0 for a frozen modality."""
    return ModelInput.of(state, torch.ones(1) if is_generated else torch.zeros(1), text, is_generated=is_generated, marks=marks)
