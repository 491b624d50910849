"""The condition "keyframes": pictures at any times of the clip are appended to the target as given tokens, and the clip between them is
generated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from ltxcore.api import DataError, Geometry, Grid, Inputs, LatentState, Role, hookimpl
from ltxcore.api.conditions import level_key, strength_key

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen
class Keyframes:
    """Append pictures of single frames of the clip, such as the first and the last. A clip of one frame is an image, and is generated
    completely.

    In training, the pictures are chosen from those that were encoded beside the clip; in generation, they are files with the frames or the
    times that they show.
    """

    modalities = frozenset({"video"})
    content = None
    roles = (Role("keyframes", source_key="keyframes_dir", kind="pictures"),)
    appends = True

    candidates: list[int] | None = attrs.field(
        default=None,
        validator=attrs.validators.optional(attrs.validators.min_len(1)),
        metadata={
            "help": "which of the clip's encoded pictures are given, by number: 0 is its first frame, -1 its last; by default all",
            "training": True,
        },
    )
    level: float = level_key()
    strength: float = strength_key()

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        """Append the chosen pictures, each as a single frame at its own time.

        Source: docs/explanation/arithmetic.md#positions-of-keyframes, #appended-tokens

        Raises:
            DataError: the clip has too few pictures, or one is chosen twice.
        """
        if state.grid.frames == 1:
            return state
        pictures = inputs.pictures("keyframes")
        chosen = self._chosen(pictures.frames.shape[1])
        tokens = pictures.tokens[:, chosen].flatten(1, 2)
        return state.append(tokens, positions(pictures.frames[:, chosen], pictures.grid, state.rate), self.level, self.strength)

    def metadata(self, pairs: Sequence[tuple[Geometry, Mapping[str, Geometry]]]) -> dict[str, str]:
        """Say that the LoRA takes keyframes as appended tokens, not in place of latent frames."""
        return {"keyframes": "appended"}

    def _chosen(self, count: int) -> list[int]:
        if self.candidates is None:
            return list(range(count))
        outside = [place for place in self.candidates if not -count <= place < count]
        if outside:
            raise DataError(
                f"candidate {outside[0]} is not among the {count} pictures that were encoded beside the clip",
                remedy=f"Choose from 0 to {count - 1}, or encode more pictures of each clip with preprocessing.keyframe_candidates.",
            )
        chosen = [place % count for place in self.candidates]
        if len(set(chosen)) < len(chosen):
            raise DataError(
                f"candidates {self.candidates} name one of the {count} pictures of the clip twice", remedy="Name each picture once."
            )
        return chosen


def positions(frames: Tensor, grid: Grid, rate: Tensor) -> Tensor:
    """Return the start and end of the tokens of pictures, `[B, 3, K * N, 2]`, in seconds, pixel rows and pixel columns.

    Args:
        frames: the pixel frames that the pictures show, `[B, K]`.
        grid: the N cells of a picture.
        rate: the frames per second of the target, `[B]`.

    Source: docs/explanation/arithmetic.md#positions-of-keyframes
    """
    import torch

    _, height, width = grid.scale
    seconds = torch.stack([frames, frames + 1], dim=-1).to(torch.float32) / rate.to(torch.float32).reshape(-1, 1, 1)
    rows, columns = (
        torch.stack([cell * size, (cell + 1) * size], dim=-1).to(seconds) for cell, size in ((grid.row, height), (grid.column, width))
    )
    batch, count, cells = *frames.shape, grid.num_tokens
    return torch.stack(
        [
            seconds.repeat_interleave(cells, dim=1),
            rows.repeat(count, 1).expand(batch, -1, -1),
            columns.repeat(count, 1).expand(batch, -1, -1),
        ],
        dim=1,
    )


@hookimpl
def ltx_conditions() -> dict[str, type]:
    return {"keyframes": Keyframes}
