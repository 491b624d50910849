"""Compute the latent grid on which each modality of a sample is generated, and make empty tokens to try conditions on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import attrs
import torch

from ltxcore.conditions import SampleCondition
from ltxcore.media.times import exact_rate
from ltxcore.modalities.audio import AudioModality
from ltxcore.modalities.video import VideoModality
from ltxcore.models.backbone import ModelInfo
from ltxcore.pictures import Pictures
from ltxcore.protocols import Medium, Modality
from ltxcore.sample.cuts import ClipCut, Cut, samples_in, steps_of
from ltxcore.sample.request import Request
from ltxcore.state import Grid, LatentState

CHANNELS = 128
"""The width of an empty token."""


def modalities_of(info: ModelInfo) -> dict[str, Modality]:
    """Return the modalities with the scale factors of a model's codecs."""
    return {"video": VideoModality(scale=info.video_scale), "audio": AudioModality(mel_frames=info.audio_scale[0])}


@attrs.frozen
class Canvas:
    """A request to generate a sample, measured in latent cells.

    Attributes:
        request: the sample to generate.
        modalities: the modalities by name, with the scale factors of the model's codecs.
    """

    request: Request
    modalities: Mapping[str, Modality]

    @property
    def exact_rate(self) -> Fraction:
        """The frames per second of the request as an exact fraction, as media files store them."""
        return exact_rate(self.request.rate)

    def scale(self, modality: str) -> tuple[int, int, int]:
        """Return the pixel frames (or mel frames), rows and columns that a latent cell of a modality covers."""
        return self.modalities[modality].grid_of((CHANNELS, 1, 1, 1)).scale

    def target(self, modality: str) -> Grid:
        """Return the grid of a generated modality. Audio has the number of steps that the codec makes from audio of the
        video's length.
        """
        scale = self.scale(modality)
        if modality == "video":
            return self.modalities[modality].grid_of((CHANNELS, *self.request.size.cells(scale)))
        return self.modalities[modality].grid_of((CHANNELS, steps_of(samples_in(self.request.seconds), scale), 1))

    def grid(self, cut: Cut, modality: str) -> Grid:
        """Return the grid that the codec makes from a part of a file."""
        scale = self.scale(modality)
        if isinstance(cut, ClipCut):
            return self.modalities[modality].grid_of((CHANNELS, *cut.size.cells(scale)))
        return self.modalities[modality].grid_of((CHANNELS, cut.steps(scale), 1))

    def rate(self, modality: str) -> float:
        """Return the frames or latent steps per second of a generated modality."""
        return self.request.rate if modality == "video" else self.modalities[modality].default_rate

    def rate_of(self, reference: Cut, condition: SampleCondition[Any, Any]) -> float:
        """Return the frames per second of a reference. A single picture has no rate of its own, so it takes the rate of
        its target.
        """
        slower = condition.temporal_scale_factor if isinstance(reference, ClipCut) and reference.rate is not None else 1
        return self.rate(condition.modality) / slower

    def blank(self, grid: Grid, modality: str, rate: float | None = None) -> Medium:
        """Return a clip or audio without content, at `rate` if it is given, otherwise at the modality's own rate."""
        rates = torch.tensor([self.rate(modality) if rate is None else rate])
        tokens = torch.zeros(1).expand(1, grid.num_tokens, CHANNELS)
        return Medium(tokens, grid, rates, self.modalities[modality].positions(grid, rates))

    def blank_pictures(self, frames: Sequence[int]) -> Pictures:
        """Return pictures without content at some frames of the generated clip."""
        grid = attrs.evolve(self.target("video"), frames=1)
        return Pictures(torch.zeros(1).expand(1, len(frames), grid.num_tokens, CHANNELS), grid, torch.tensor([frames], dtype=torch.float32))

    def empty(self, modality: str) -> LatentState:
        """Return the state of an empty target, in which nothing is given."""
        blank = self.blank(self.target(modality), modality)
        return LatentState.start(modality, blank.grid, blank.rate, blank.tokens, blank.positions)
