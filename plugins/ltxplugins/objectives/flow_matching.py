"""The objective "flow_matching": the model learns to predict the velocity from a clean sample to its noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import attrs

from ltxcore.api import masked_loss
from ltxcore.api.objectives import Pass, Prepared

if TYPE_CHECKING:
    from torch import Tensor

HELP = {"error": 'how errors count: "mse" squared, "l1" by their size, "huber" squared up to delta and by their size beyond it'}
DELTA = {"help": 'the error up to which "huber" is squared', "unit": "velocity"}


@attrs.frozen
class FlowMatching:
    """Predict the velocity of every generated token. A run that names no objective learns the same."""

    passes = (Pass("model"),)

    error: Literal["mse", "huber", "l1"] = attrs.field(default="mse", metadata={"help": HELP["error"]})
    delta: float = attrs.field(default=1.0, validator=attrs.validators.gt(0), metadata=DELTA)

    def loss(self, predicted: Mapping[str, Mapping[str, Tensor]], prepared: Prepared) -> Mapping[str, Tensor]:
        """Return the strategy's own loss or, for an error other than the square, a loss of the same velocities.

        Source: docs/explanation/arithmetic.md#loss-of-a-sample, #errors-other-than-the-square
        """
        found, inputs = predicted["model"], prepared.inputs["model"]
        if self.error == "mse":
            return prepared.own_loss(found, inputs)
        losses = {}
        for name, given in inputs.items():
            if given.velocity is not None and given.loss_mask is not None:
                target = found[name][:, : given.velocity.shape[1]]
                losses[name] = masked_loss(target, given.velocity, given.loss_mask, error=self.error, delta=self.delta)
        return losses
