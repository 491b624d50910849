"""Turn an encoded sample into latents with a model. Before the first step, the sampler applies the conditions, and
fills everything that is not given with noise.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import torch
from torch import Tensor

from ltxcore.conditions import given_from_medium, pictures_of
from ltxcore.devices import moved
from ltxcore.flow.draws import generator
from ltxcore.flow.sigmas import BEHIND, with_noise_behind
from ltxcore.models.backbone import LTXBackbone
from ltxcore.protocols import Inputs, Medium, Modality, ModelInput, StoredLatents, Text
from ltxcore.sample.encode_inputs import Encoded, EncodedCondition
from ltxcore.sample.euler import Report, euler, levels_of_steps, start
from ltxcore.sample.guidance import Guidance, PerturbedModel
from ltxcore.state import Grid, LatentState

Forward = Callable[..., Mapping[str, Tensor]]
"""A function that takes inputs by modality and options of the backbone, and returns velocities by modality."""


Noise = Callable[[str, Sequence[int]], Tensor]
"""A function that takes a modality and a shape, and returns standard normal numbers of that shape."""


@attrs.frozen(eq=False)
class Sampler:
    """Generates samples with a backbone.

    Attributes:
        backbone: the backbone, which connects the text, and defines the number of layers and the width of tokens.
        forward: the function that runs the backbone, either an engine's or the backbone's own.
        device: the device of the backbone.
        marks: whether the first latent frame is marked, for a model that takes the marker.
    """

    backbone: LTXBackbone
    forward: Forward
    device: torch.device
    marks: bool = True

    def generate(self, encoded: Encoded, *, noise: Noise | None = None, report: Report | None = None) -> dict[str, Tensor]:
        """Generate a sample, and return the latents of every generated modality, `[C, ...]` float32 on the CPU.

        Args:
            encoded: the sample.
            noise: the noise to use instead of noise from the sample's seed.
            report: called after each step.

        Raises:
            DataError: the conditions do not fit the sample, or contradict each other.

        Source: docs/explanation/arithmetic.md#generation
        """
        request, canvas = encoded.canvas.request, encoded.canvas
        widths = {name: self.backbone.width(name) for name in request.modalities}
        text, marks = self._connected(encoded.text, request.modalities), self.marks and self.backbone.info.takes_marker
        inputs = inputs_of(encoded, text, widths, noise or seeded(request.seed), marks=marks)
        there = {name: given.to(self.device) for name, given in inputs.items()}
        denoiser = self._guidance(encoded).denoiser(self._model())
        tokens = euler(denoiser, there, levels_of_steps(request.sigmas, request.steps), report)
        return {name: canvas.modalities[name].unpatchify(drawn.float().cpu(), canvas.target(name))[0] for name, drawn in tokens.items()}

    def _connected(self, text: Text, modalities: Collection[str]) -> Text:
        """Return the text after the model's connectors, on the model's device."""
        there = Text({name: moved(features, self.device) for name, features in text.features.items()}, moved(text.mask, self.device))
        return self.backbone.connect(there, modalities)

    def _guidance(self, encoded: Encoded) -> Guidance:
        request = encoded.canvas.request
        negative: dict[str, Any] = {}
        if any(request.scales[name].cfg != 1 for name in request.generated):
            text = self._connected(encoded.negative, request.generated)
            negative = {name: (text.features[name], None if text.is_whole else text.mask) for name in request.generated}
        return Guidance(request.scales, negative, request.stg_blocks, self.backbone.info.num_layers)

    def _model(self) -> PerturbedModel:
        def model(inputs: Mapping[str, ModelInput], perturbation: Any) -> Mapping[str, Tensor]:
            return self.forward(inputs) if perturbation is None else self.forward(inputs, perturbation=perturbation)

        return model


def seeded(seed: int) -> Noise:
    """Return a function whose noise depends on the seed and the modality alone, so that adding a condition does not
    change the noise.
    """

    def noise(modality: str, shape: Sequence[int]) -> Tensor:
        return torch.randn(tuple(shape), generator=generator(seed, "sample", modality))

    return noise


def inputs_of(encoded: Encoded, text: Text, widths: Mapping[str, int], noise: Noise, *, marks: bool) -> dict[str, ModelInput]:
    """Return the model's inputs at the first step, by modality, on the CPU in float32.

    Args:
        encoded: the sample.
        text: the text features of the prompt, after the model's connectors.
        widths: the width of a token of each modality.
        noise: the noise of generated modalities.
        marks: whether the target's first latent frame is marked, as in training.

    Raises:
        DataError: the conditions do not fit the sample, or contradict each other.

    Source: docs/explanation/arithmetic.md#start-of-generation
    """
    found = {}
    for name in sorted(encoded.canvas.request.modalities, reverse=True):  # video first, as everywhere
        known, is_generated = encoded.frozen.get(name), name in encoded.canvas.request.generated
        state = unknown(encoded, name, widths[name]) if known is None else _whole(known, encoded.canvas.modalities[name])
        state = conditioned(state, encoded.canvas.modalities[name], [each for each in encoded.conditions if each.modality == name])
        given = _seen(state, text, is_generated, marks)
        given = start(given, noise(name, state.clean.shape)) if is_generated else given
        found[name] = with_noise_behind(given, partial(_noise_behind, noise, name))
    return found


def _noise_behind(noise: Noise, modality: str, shape: Sequence[int]) -> Tensor:
    return noise(f"{modality}.{BEHIND}", (1, *shape))


def unknown(encoded: Encoded, modality: str, width: int) -> LatentState:
    """Return the state of a sample's target without any content."""
    canvas = encoded.canvas
    return empty(canvas.modalities[modality], canvas.target(modality), canvas.rate(modality), width)


def empty(modality: Modality, grid: Grid, rate: float, width: int) -> LatentState:
    """Return the state of a target on a grid, with zeros as content."""
    rates = torch.tensor([rate])
    return LatentState.start(modality.name, grid, rates, torch.zeros(1, grid.num_tokens, width), modality.positions(grid, rates))


def conditioned(state: LatentState, modality: Modality, conditions: Sequence[EncodedCondition]) -> LatentState:
    """Apply conditions to a state, and return the new state.

    Raises:
        DataError: a condition does not fit the target, or two conditions give one token different content.
    """
    for each in conditions:
        medium = None if each.medium is None else medium_of(each.medium, modality)
        media = {role: medium_of(latents, modality) for role, latents in each.media.items()}
        images = {role: pictures_of(stored, modality) for role, stored in each.pictures.items()}
        inputs = Inputs(media, each.masks, each.tensors, images)
        state = given_from_medium(each.use, state, medium, inputs, each.where)
    return state


def medium_of(stored: StoredLatents, modality: Modality) -> Medium:
    """Turn stored latents into a medium for conditions."""
    grid = modality.grid(stored.latents)
    return Medium(modality.patchify(stored.latents), grid, stored.rate, modality.positions(grid, stored.rate))


def _whole(stored: StoredLatents, modality: Modality) -> LatentState:
    """Return the state of a frozen modality, in which every token is given."""
    medium = medium_of(stored, modality)
    state = LatentState.start(modality.name, medium.grid, medium.rate, medium.tokens, medium.positions)
    return attrs.evolve(state, denoise_mask=torch.zeros_like(state.denoise_mask))


def _seen(state: LatentState, text: Text, is_generated: bool, marks: bool) -> ModelInput:
    """Return the model's input for a state, at sigma 1 for a generated modality and at sigma 0 for a frozen one."""
    return ModelInput.of(state, torch.ones(1) if is_generated else torch.zeros(1), text, is_generated=is_generated, marks=marks)
