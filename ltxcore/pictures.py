"""Pictures of frames of a clip, each encoded by itself: as they are stored, and as conditions receive them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from ltxcore.state import Grid

if TYPE_CHECKING:
    from torch import Tensor


@attrs.frozen(eq=False)
class StoredPictures:
    """The stored pictures of a micro-batch, `[B, K, C, 1, H, W]`, and the pixel frames of the clips that they show, `[B, K]`."""

    latents: Tensor
    frames: Tensor


@attrs.frozen(eq=False)
class Pictures:
    """The data of a role of kind "pictures": K pictures of each sample, each encoded by itself. In training they are frames of the clip, in
    order, from the first to the last; in generation they are files.

    Attributes:
        tokens: the tokens of the pictures, `[B, K, N, D]`.
        grid: the N cells of a picture, which is as large as a frame of the target.
        frames: the pixel frames of the target that the pictures show, `[B, K]`, counted from 0.
    """

    tokens: Tensor
    grid: Grid
    frames: Tensor
