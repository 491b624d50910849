"""What a sample is drawn on: the cells of each modality, and empty tokens to try conditions on."""

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
"""Numbers in a token that has no content."""


def modalities_of(info: ModelInfo) -> dict[str, Modality]:
    """The modalities with the factors of a model's codecs."""
    return {"video": VideoModality(scale=info.video_scale), "audio": AudioModality(mel_frames=info.audio_scale[0])}


@attrs.frozen
class Canvas:
    """A request in latent cells.

    Attributes:
        request: what is drawn.
        modalities: by name, with the factors of the model's codecs.
    """

    request: Request
    modalities: Mapping[str, Modality]

    @property
    def exact_rate(self) -> Fraction:
        """Frames per second, as exact as media files have them."""
        return exact_rate(self.request.rate)

    def scale(self, modality: str) -> tuple[int, int, int]:
        """What a latent cell covers."""
        return self.modalities[modality].grid_of((CHANNELS, 1, 1, 1)).scale

    def target(self, modality: str) -> Grid:
        """Cells of what is drawn. A sound has the steps that the codec would make of one as long as the picture."""
        scale = self.scale(modality)
        if modality == "video":
            return self.modalities[modality].grid_of((CHANNELS, *self.request.size.cells(scale)))
        return self.modalities[modality].grid_of((CHANNELS, steps_of(samples_in(self.request.seconds), scale), 1))

    def grid(self, cut: Cut, modality: str) -> Grid:
        """Cells that the codec makes of a part of a file."""
        scale = self.scale(modality)
        if isinstance(cut, ClipCut):
            return self.modalities[modality].grid_of((CHANNELS, *cut.size.cells(scale)))
        return self.modalities[modality].grid_of((CHANNELS, cut.steps(scale), 1))

    def rate(self, modality: str) -> float:
        """Frames or latent steps per second of what is drawn."""
        return self.request.rate if modality == "video" else self.modalities[modality].default_rate

    def rate_of(self, reference: Cut, condition: SampleCondition[Any, Any]) -> float:
        """Frames per second of a reference. A single picture has no rate, and takes its target's."""
        slower = condition.temporal_scale_factor if isinstance(reference, ClipCut) and reference.rate is not None else 1
        return self.rate(condition.modality) / slower

    def blank(self, grid: Grid, modality: str, rate: float | None = None) -> Medium:
        """A clip or sound without content; `rate`: its own, where it has one."""
        rates = torch.tensor([self.rate(modality) if rate is None else rate])
        tokens = torch.zeros(1).expand(1, grid.num_tokens, CHANNELS)
        return Medium(tokens, grid, rates, self.modalities[modality].positions(grid, rates))

    def empty(self, modality: str) -> LatentState:
        """What is drawn, with nothing given and no content."""
        blank = self.blank(self.target(modality), modality)
        return LatentState.start(modality, blank.grid, blank.rate, blank.tokens, blank.positions)
