"""The condition "reference" (IC-LoRA): the tokens of a paired clip or of paired audio are appended to the target as
given tokens.
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
class Reference:
    """Append the tokens of a paired clip or of paired audio.

    A reference video may be smaller than its target or have fewer frames per second, by integer factors. The factors
    are found by comparing the two videos. Each token of the reference is then positioned where the target shows the
    same thing.
    """

    modalities = frozenset({"video", "audio"})
    content = None
    roles = (Role("reference", source_key="latents_dir", kind="latents"),)
    appends = True

    level: float = level_key()
    strength: float = strength_key()

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        """Append the reference, with each token positioned where the target shows the same thing.

        Source: docs/explanation/arithmetic.md#positions-of-a-reference, #appended-tokens

        Raises:
            DataError: the reference is larger or longer than its target, or smaller by a factor that is not an integer.
        """
        medium = inputs.latents("reference")
        if state.modality == "audio":
            return state.append(medium.tokens, medium.positions, self.level, self.strength)
        space = spatial_factor(state.grid, medium.grid)
        time = [temporal_factor(state.grid, float(r), medium.grid, float(m)) for r, m in zip(state.rate, medium.rate, strict=True)]
        return state.append(medium.tokens, _scaled(medium.positions, space, time, state.rate), self.level, self.strength)

    def metadata(self, pairs: Sequence[tuple[Geometry, Mapping[str, Geometry]]]) -> dict[str, str]:
        """Return the factors that are not 1. Reference audio has no factors.

        Raises:
            DataError: the factors differ between samples.
        """
        space, time = set(), set()
        for target, others in pairs:
            if target.modality == "audio":
                continue
            reference = others["reference"]
            space.add(spatial_factor(target.grid, reference.grid))
            time.add(temporal_factor(target.grid, target.rate, reference.grid, reference.rate))
        for what, factors in (("spatial", space), ("temporal", time)):
            if len(factors) > 1:
                raise DataError(
                    f"references have different {what} factors: {', '.join(map(str, sorted(factors)))}",
                    remedy="Preprocess all of them with the same factor: a LoRA can record only one for each reference.",
                )
        found: dict[str, str] = {}
        if space - {1}:
            factor = str(space.pop())
            found |= {"reference_downscale_factor": factor, "reference_spatial_scale_factor": factor}
        if time - {1}:
            found["reference_temporal_scale_factor"] = str(time.pop())
        return found


def spatial_factor(target: Grid, reference: Grid) -> int:
    """Return how many times larger the target is than its reference, in latent cells.

    Raises:
        DataError: the factor is not an integer, or differs between height and width.

    Source: docs/explanation/arithmetic.md#spatial-factor-of-a-reference
    """
    if not reference.height or not reference.width or target.height % reference.height or target.width % reference.width:
        raise DataError(
            f"a target of {target.height} x {target.width} latent cells is not a whole multiple of its reference of {reference.height} x {reference.width}",
            remedy="Make references as large as their targets, or smaller by the same whole factor in height and width.",
        )
    height, width = target.height // reference.height, target.width // reference.width
    if height != width:
        raise DataError(
            f"a reference of {reference.height} x {reference.width} latent cells is smaller than its target of "
            f"{target.height} x {target.width} by different factors in height and width",
            remedy="Make references as large as their targets, or smaller by the same whole factor in height and width.",
        )
    return height


def temporal_factor(target: Grid, target_rate: float, reference: Grid, reference_rate: float) -> int:
    """Return how many frames of the target correspond to one frame of the reference; 1 for single frames, and for a
    reference that is only shorter.

    Raises:
        DataError: the reference has more latent frames than its target, or the frame rates differ by a factor that is
            not an integer.

    Source: docs/explanation/arithmetic.md#temporal-factor-of-a-reference
    """
    if reference.frames > target.frames:
        raise DataError(
            f"the reference has {reference.frames} latent frames, but its target has only {target.frames}",
            remedy="Cut references to the length of their targets.",
        )
    if reference.frames == 1 or target.frames == 1:
        return 1
    factor, rest = divmod(target.frames - 1, reference.frames - 1)
    # Media files store rounded rates: 29.97 / 3 may be stored as 9.99.
    if rest and abs(target_rate - reference_rate) > 1e-3 * target_rate:
        raise DataError(
            f"a reference of {reference.frames} latent frames at {reference_rate:g} frames per second does not fit a target of {target.frames} latent frames at {target_rate:g}",
            remedy="Give the reference the frame rate of the target, or make it from every N-th frame of the target, such that, in latent frames, "
            "(target - 1) / (reference - 1) is a whole number.",
        )
    return factor if not rest and abs(target_rate - factor * reference_rate) <= 1e-3 * target_rate else 1


def _scaled(positions: Tensor, space: int, time: Sequence[int], rate: Tensor) -> Tensor:
    """Scale and shift positions `[B, 3, R, 2]` of the reference to the corresponding positions on its target.

    Source: docs/explanation/arithmetic.md#positions-of-a-reference
    """
    import torch

    shift = (torch.tensor(time) - 1) / rate.float()
    seconds = (positions[:, :1] - shift.reshape(-1, 1, 1, 1)).clamp_min(0) if any(factor > 1 for factor in time) else positions[:, :1]
    return torch.cat([seconds, positions[:, 1:] * space], dim=1)


@hookimpl
def ltx_conditions() -> dict[str, type]:
    return {"reference": Reference}
