"""Data of a kind that ltx does not know: one number for each frame of a clip, and a condition that tells it to the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from ltxcore.api import Inputs, LatentState, Role
from ltxcore.api.columns import Cell

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen
class Speed:
    """How fast things move, one number for each frame of a clip."""

    kind = "values"
    modality = "video"
    shape = ("F",)
    cuts_windows = True

    unit: float = attrs.field(default=1.0, validator=attrs.validators.gt(0), metadata={"help": "the speed that counts as 1"})

    def encode(self, cell: Cell) -> Tensor:
        return cell.per_latent_frame(cell.numbers()) / self.unit


@attrs.frozen
class Paced:
    """Add a token for each latent frame, which says how fast things move in it."""

    modalities = frozenset({"video"})
    roles = (Role("speed", source_key="speed_dir", kind="values", shape=("F",), column="speed"),)
    appends = True

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        speed = inputs.values("speed")
        corner = (state.grid.row == 0) & (state.grid.column == 0)
        tokens = speed[..., None].expand(-1, -1, state.clean.shape[-1])
        return state.append(tokens, state.positions[:, :, : state.num_target][:, :, corner])
