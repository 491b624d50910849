"""The objective "slider": a LoRA whose strength moves a clip from one prompt towards another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from ltxcore.api import masked_loss
from ltxcore.api.objectives import Pass, Prepared

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen
class Slider:
    """Move what the base predicts in the direction from one prompt to another, whatever the clip; a negative strength of the LoRA moves
    it back."""

    towards: str = attrs.field(metadata={"help": 'the prompt that the LoRA moves towards, such as "bright daylight"'})
    away_from: str = attrs.field(default="empty", metadata={"help": 'the prompt that it moves away from, such as "a dark night"'})
    prompt: str = attrs.field(default="own", metadata={"help": 'what is moved: "own", each sample\'s own caption; or one prompt for all'})
    distance: float = attrs.field(
        default=1.0, validator=attrs.validators.gt(0), metadata={"help": "how far it moves at strength 1, as a multiple of the difference"}
    )

    @property
    def passes(self) -> tuple[Pass, ...]:
        """The base's answers to the prompts, and the model's answer to what is moved."""
        texts = {"base": self.prompt, "towards": self.towards, "away_from": self.away_from}
        return (*(Pass(name, text=text, adapters=False, gradient=False) for name, text in texts.items()), Pass("model", text=self.prompt))

    def loss(self, predicted: Mapping[str, Mapping[str, Tensor]], prepared: Prepared) -> Mapping[str, Tensor]:
        """Return the squared distance from the base's answer, moved. Source: docs/explanation/arithmetic.md#sliders"""
        losses = {}
        for name, given in prepared.inputs["model"].items():
            if given.loss_mask is not None:
                answers = {of: each[name][:, : given.loss_mask.shape[1]] for of, each in predicted.items()}
                target = answers["base"] + self.distance * (answers["towards"] - answers["away_from"])
                losses[name] = masked_loss(answers["model"], target, given.loss_mask)
        return losses
