"""The objective "regularization": flow matching on a dataset of its own, so that the model does not forget what this dataset shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ltxcore.api.objectives import Pass, Prepared

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen
class Regularization:
    """Predict the velocity of every generated token, as flow matching does, but on clips other than the run's own: for example, on clips of
    the same class as the subject that the run learns.
    """

    passes = (Pass("model", batch="dataset"),)

    dataset: Path = attrs.field(
        metadata={
            "help": "the other clips: a folder of media or a file that lists them, encoded on first use like those of the run; or a "
            "folder of encoded samples",
            "reads": "either",
        }
    )

    def loss(self, predicted: Mapping[str, Mapping[str, Tensor]], prepared: Prepared) -> Mapping[str, Tensor]:
        """Return the strategy's own loss, on samples of the dataset. Source: docs/explanation/arithmetic.md#loss-of-a-sample"""
        return prepared.own_loss(predicted["model"], prepared.inputs["model"])
