"""The objective "weighted_region": flow matching in which a region, such as a face, counts more than the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import attrs

from ltxcore.api import Role, masked_loss
from ltxcore.api.objectives import Pass, Prepared
from ltxplugins.objectives.flow_matching import DELTA, HELP

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen
class WeightedRegion:
    """Flow matching with two weights: `region` for tokens where a stored mask is 1, and `rest` for tokens where it is 0."""

    passes = (Pass("model"),)
    roles = (
        Role("video_region", source_key="video_region_dir", kind="mask", modality="video"),
        Role("audio_region", source_key="audio_region_dir", kind="mask", modality="audio"),
    )

    region: float = attrs.field(default=1.0, validator=attrs.validators.gt(0), metadata={"help": "the weight of tokens in the region"})
    rest: float = attrs.field(default=0.1, validator=attrs.validators.ge(0), metadata={"help": "the weight of all other tokens"})
    error: Literal["mse", "huber", "l1"] = attrs.field(default="mse", metadata={"help": HELP["error"]})
    delta: float = attrs.field(default=1.0, validator=attrs.validators.gt(0), metadata=DELTA)

    def loss(self, predicted: Mapping[str, Mapping[str, Tensor]], prepared: Prepared) -> Mapping[str, Tensor]:
        """Return the weighted mean over the tokens that count. In a modality without a mask, all weights are equal.

        Source: docs/explanation/arithmetic.md#weighted-regions
        """
        losses = {}
        for name, given in prepared.inputs["model"].items():
            if given.velocity is None or given.loss_mask is None:
                continue
            mask = prepared.masks.get(f"{name}_region")
            weights = None if mask is None else self.rest + (self.region - self.rest) * mask
            target = predicted["model"][name][:, : given.velocity.shape[1]]
            losses[name] = masked_loss(target, given.velocity, given.loss_mask, error=self.error, delta=self.delta, weights=weights)
        return losses
