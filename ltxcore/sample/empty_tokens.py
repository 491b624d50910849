"""The latent grid on which a sample is generated, for each modality, with empty tokens for trying out conditions."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import attrs
import torch

from ltxcore.conditions import SampleCondition
from ltxcore.media.times import exact_rate
from ltxcore.modalities.audio import AudioModality
from ltxcore.modalities.video import VideoModality
from ltxcore.models.backbone import ModelInfo
from ltxcore.protocols import Medium, Modality
from ltxcore.sample.cuts import ClipCut, Cut, samples_in, steps_of
from ltxcore.sample.request import Request
from ltxcore.state import Grid, LatentState

CHANNELS = 128
"""The width of a token that has no content."""


def modalities_of(info: ModelInfo) -> dict[str, Modality]:
    """Return the modalities with the scale factors of a model's codecs."""
    return {"video": VideoModality(scale=info.video_scale), "audio": AudioModality(mel_frames=info.audio_scale[0])}


@attrs.frozen
class Canvas:
    """A request, measured in latent cells.

    Attributes:
        request: the sample to generate.
        modalities: the modalities by name, with the scale factors of the model's codecs.
    """

    request: Request
    modalities: Mapping[str, Modality]

    @property
    def exact_rate(self) -> Fraction:
        """The frames per second of the request as an exact fraction, as in media files."""
        return exact_rate(self.request.rate)

    def scale(self, modality: str) -> tuple[int, int, int]:
        """Return the pixel frames (or mel frames), rows and columns that a latent cell of a modality covers."""
        return self.modalities[modality].grid_of((CHANNELS, 1, 1, 1)).scale

    def target(self, modality: str) -> Grid:
        """Return the grid of a generated modality. Audio has as many steps as the codec makes from audio as long as the video."""
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
        """Return the frames per second of a reference. A single picture has no rate of its own, and takes that of its target."""
        slower = condition.temporal_scale_factor if isinstance(reference, ClipCut) and reference.rate is not None else 1
        return self.rate(condition.modality) / slower

    def blank(self, grid: Grid, modality: str, rate: float | None = None) -> Medium:
        """Return a clip or audio without content, at `rate` if that is given."""
        rates = torch.tensor([self.rate(modality) if rate is None else rate])
        tokens = torch.zeros(1).expand(1, grid.num_tokens, CHANNELS)
        return Medium(tokens, grid, rates, self.modalities[modality].positions(grid, rates))

    def empty(self, modality: str) -> LatentState:
        """Return the state of a target in which nothing is given and that has no content."""
        blank = self.blank(self.target(modality), modality)
        return LatentState.start(modality, blank.grid, blank.rate, blank.tokens, blank.positions)
