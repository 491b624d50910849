"""The objective "distill": the model learns to predict in one pass what a teacher predicts with guidance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import attrs

from ltxcore.api.objectives import Pass, Prepared
from ltxplugins.objectives.distances import distances

if TYPE_CHECKING:
    from torch import Tensor


def _in_range(instance: Any, field: Any, value: float | Mapping[str, float]) -> None:
    for scale in value.values() if isinstance(value, Mapping) else [value]:
        if not 1 <= scale <= 100:
            raise ValueError(f"must be from 1 to 100, not {scale:g}")


@attrs.frozen
class Distill:
    """Predict without guidance what a teacher predicts with guidance, so that generation needs half as many forward passes."""

    guidance: float | dict[str, float] = attrs.field(
        default=4.0,
        validator=_in_range,
        metadata={
            "help": "the scale of the teacher's guidance towards the caption, or one for each modality: { video = 4.0, audio = 7.0 }; 1: no guidance"
        },
    )
    teacher: Literal["base", "ema"] = attrs.field(
        default="base", metadata={"help": 'the teacher: "base", the base model; or "ema", the average of the trained weights'}
    )

    @property
    def passes(self) -> tuple[Pass, ...]:
        """The guided pass of the teacher and the pass of the trained model, both with each sample's own caption."""
        averages = self.teacher == "ema"
        weights: Literal["live", "ema"] = "ema" if averages else "live"
        return Pass("teacher", gradient=False, adapters=averages, weights=weights, guidance=self.guidance), Pass("model")

    def loss(self, predicted: Mapping[str, Mapping[str, Tensor]], prepared: Prepared) -> Mapping[str, Tensor]:
        """Return the squared distance from the teacher's guided prediction. Source: docs/explanation/arithmetic.md#distillation"""
        return distances(predicted["model"], predicted["teacher"], prepared.inputs["model"])
