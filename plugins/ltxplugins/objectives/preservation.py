"""The objective "preservation": what the base answers to a prompt stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from ltxcore.api import masked_loss
from ltxcore.api.objectives import Pass, Prepared

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen
class Preservation:
    """Predict what the base predicts when all samples have the same prompt, such as the class of what is learned."""

    prompt: str = attrs.field(
        default="empty",
        metadata={"help": 'the prompt whose answer stays, such as "a person"; "empty": the empty caption, "own": each sample\'s own'},
    )

    @property
    def passes(self) -> tuple[Pass, ...]:
        """The base's answer to the prompt, and the model's."""
        return Pass("base", text=self.prompt, adapters=False, gradient=False), Pass("model", text=self.prompt)

    def loss(self, predicted: Mapping[str, Mapping[str, Tensor]], prepared: Prepared) -> Mapping[str, Tensor]:
        """Return the squared distance from the base's answer. Source: docs/explanation/arithmetic.md#preservation"""
        losses = {}
        for name, given in prepared.inputs["model"].items():
            if given.loss_mask is not None:
                count = given.loss_mask.shape[1]
                losses[name] = masked_loss(predicted["model"][name][:, :count], predicted["base"][name][:, :count], given.loss_mask)
        return losses
