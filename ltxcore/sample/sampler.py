"""The sampler: an encoded sample and a model to latents."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import attrs
import torch
from torch import Tensor

from ltxcore.devices import moved
from ltxcore.models.backbone import LTXBackbone
from ltxcore.protocols import ModelInput, Text
from ltxcore.sample.encode_inputs import Encoded
from ltxcore.sample.euler import Report, euler
from ltxcore.sample.guidance import Guidance, PerturbedModel
from ltxcore.sample.initial_state import Noise, inputs_of, seeded
from ltxcore.sample.schedule import schedule

Forward = Callable[..., Mapping[str, Tensor]]
"""Velocities by modality; called with inputs by modality, and options of the backbone."""


@attrs.frozen(eq=False)
class Sampler:
    """Draws samples with a backbone.

    Attributes:
        backbone: for the text, and to know its layers and the width of its tokens.
        forward: runs it: an engine's, or the backbone's own.
        device: where it is.
        marks: whether the first latent frame is marked, for a model that takes the marker.
    """

    backbone: LTXBackbone
    forward: Forward
    device: torch.device
    marks: bool = True

    def draw(self, encoded: Encoded, *, noise: Noise | None = None, report: Report | None = None) -> dict[str, Tensor]:
        """Latents of every drawn modality, `[C, ...]` float32 on the CPU.

        Args:
            encoded: the sample.
            noise: instead of what its seed gives.
            report: told of each step.

        Raises:
            DataError: conditions that do not fit what is drawn, or each other.

        Source: design section 4, "Sampling".
        """
        request, canvas = encoded.canvas.request, encoded.canvas
        widths = {name: self.backbone.width(name) for name in request.modalities}
        text, marks = self._connected(encoded.text, request.modalities), self.marks and self.backbone.info.takes_marker
        inputs = inputs_of(encoded, text, widths, noise or seeded(request.seed), marks=marks)
        there = {name: given.to(self.device) for name, given in inputs.items()}
        denoiser = self._guidance(encoded).denoiser(self._model())
        tokens = euler(denoiser, there, schedule(request.steps), report)
        return {name: canvas.modalities[name].unpatchify(drawn.float().cpu(), canvas.target(name))[0] for name, drawn in tokens.items()}

    def _connected(self, text: Text, modalities: Collection[str]) -> Text:
        """The text after the model's connectors, which are on the model's device."""
        there = Text({name: moved(features, self.device) for name, features in text.features.items()}, moved(text.mask, self.device))
        return self.backbone.connect(there, modalities)

    def _guidance(self, encoded: Encoded) -> Guidance:
        request = encoded.canvas.request
        negative: dict[str, Any] = {}
        if any(request.scales[name].cfg != 1 for name in request.drawn):
            text = self._connected(encoded.negative, request.drawn)
            negative = {name: (text.features[name], None if text.is_whole else text.mask) for name in request.drawn}
        return Guidance(request.scales, negative, request.stg_blocks, self.backbone.info.num_layers)

    def _model(self) -> PerturbedModel:
        def model(inputs: Mapping[str, ModelInput], perturbation: Any) -> Mapping[str, Tensor]:
            return self.forward(inputs) if perturbation is None else self.forward(inputs, perturbation=perturbation)

        return model
