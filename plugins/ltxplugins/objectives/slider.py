"""The objective "slider": the strength of a LoRA moves clips from one prompt towards another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from ltxcore.api.objectives import Pass, Prepared
from ltxplugins.objectives.distances import distances

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen
class Slider:
    """Move the base model's prediction in the direction from one prompt to another, for every clip.

    A negative strength of the LoRA moves clips in the opposite direction.
    """

    towards: str = attrs.field(metadata={"help": 'the prompt that the LoRA moves towards, such as "bright daylight"'})
    away_from: str = attrs.field(default="empty", metadata={"help": 'the prompt that it moves away from, such as "a dark night"'})
    prompt: str = attrs.field(
        default="own", metadata={"help": 'the prompt that is moved: "own", each sample\'s own caption; or one prompt for all'}
    )
    distance: float = attrs.field(
        default=1.0, validator=attrs.validators.gt(0), metadata={"help": "how far it moves at strength 1, as a multiple of the difference"}
    )

    def __attrs_post_init__(self) -> None:
        if (self.towards or "empty") == (self.away_from or "empty"):
            raise ValueError(f'has the same prompt in towards and away_from, "{self.towards}", so there is no direction to learn')

    @property
    def passes(self) -> tuple[Pass, ...]:
        """The passes of the base model with all prompts, and the pass of the trained model with the prompt that is
        moved.
        """
        texts = {"base": self.prompt, "towards": self.towards, "away_from": self.away_from}
        return (*(Pass(name, text=text, adapters=False, gradient=False) for name, text in texts.items()), Pass("model", text=self.prompt))

    def loss(self, predicted: Mapping[str, Mapping[str, Tensor]], prepared: Prepared) -> Mapping[str, Tensor]:
        """Return the squared distance from the base model's prediction, moved in the direction between the prompts.
        Source: docs/explanation/arithmetic.md#sliders
        """
        base, towards, away_from = (predicted[name] for name in ("base", "towards", "away_from"))
        moved = {name: base[name] + self.distance * (towards[name] - away_from[name]) for name in base}
        return distances(predicted["model"], moved, prepared.inputs["model"])
