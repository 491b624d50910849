"""The objective "preservation": the model keeps the base model's predictions for a prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from ltxcore.api.objectives import Pass, Prepared
from ltxplugins.objectives.distances import distances

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen
class Preservation:
    """Keep the base model's predictions for one prompt, which replaces the captions of all samples."""

    prompt: str = attrs.field(
        default="empty",
        metadata={
            "help": 'the prompt for which predictions stay as they are, such as "a person"; "empty" is the empty caption, and '
            '"own" each sample\'s own'
        },
    )

    @property
    def passes(self) -> tuple[Pass, ...]:
        """The passes of the base model and of the trained model with the prompt."""
        return Pass("base", text=self.prompt, adapters=False, gradient=False), Pass("model", text=self.prompt)

    def loss(self, predicted: Mapping[str, Mapping[str, Tensor]], prepared: Prepared) -> Mapping[str, Tensor]:
        """Return the squared distance from the base model's prediction. Source:
        docs/explanation/arithmetic.md#preservation
        """
        return distances(predicted["model"], predicted["base"], prepared.inputs["model"])
