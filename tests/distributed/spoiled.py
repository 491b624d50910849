"""A plugin with a strategy that goes wrong in one of several ways, or trains one of its modalities in every other pass over the data only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from ltxcore.api import Batch, Draws, Flexible, Manifest, ModalityTable, ModelInput, Setting, Source, Strategy, hookimpl

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen
class Spoiled:
    """Pictures and sound.

    Attributes:
        how: "loss" and "gradient" are not finite for the sample `at`, nor are its last "tokens"; "branch" gives it to the model without its picture;
            "skip" leaves the loss of the picture out in every other pass.
        at: name of a sample.
    """

    how: str
    at: str = ""

    def build(self, setting: Setting) -> Strategy:
        inner = Flexible(video=ModalityTable(True, "latents"), audio=ModalityTable(True, "audio_latents")).build(setting)
        return SpoiledStrategy(inner, self.how, self.at)


@attrs.frozen(eq=False)
class SpoiledStrategy:
    """What `Spoiled` builds."""

    inner: Strategy
    how: str
    at: str

    @property
    def shared_sigma(self) -> bool:
        return self.inner.shared_sigma

    def sources(self) -> Mapping[str, Source]:
        return self.inner.sources()

    def check(self, data: Manifest) -> None:
        self.inner.check(data)

    def wanted(self, draws: Draws) -> frozenset[str]:
        return self.inner.wanted(draws)

    def prepare(self, batch: Batch, draws: Draws) -> dict[str, ModelInput]:
        import torch

        prepared = dict(self.inner.prepare(batch, draws))
        epoch = getattr(draws, "epoch", 0)  # counted draws alone have one; -1 outside of training
        met = epoch >= 0 and (self.at in batch.names if self.how != "skip" else epoch % 2 == 1)
        if met and self.how == "branch":
            del prepared["video"]
        if met and self.how == "tokens":
            last = prepared["video"].tokens.clone()
            last[:, -1] = math.nan
            prepared["video"] = attrs.evolve(prepared["video"], tokens=last)
        marks = {"spoiled": torch.full((len(batch.names),), met)}
        return {name: attrs.evolve(given, applied={**given.applied, **marks}) for name, given in prepared.items()}

    def loss(self, predicted: Mapping[str, Tensor], prepared: Mapping[str, ModelInput]) -> dict[str, Tensor]:
        losses = dict(self.inner.loss(predicted, prepared))
        if bool(prepared["audio"].applied["spoiled"].any()):
            if self.how == "loss":
                losses["audio"] = losses["audio"] * math.nan
            elif self.how == "gradient":
                losses["audio"].register_hook(lambda gradient: gradient * math.inf)
            elif self.how == "skip":
                del losses["video"]
        return losses

    def metadata(self, data: Manifest) -> Mapping[str, str]:
        return self.inner.metadata(data)


@hookimpl
def ltx_strategies() -> dict[str, type]:
    return {"spoiled": Spoiled}
