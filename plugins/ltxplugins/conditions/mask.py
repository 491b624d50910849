"""The condition "mask" (inpainting): the part that a mask marks is given fully or partly, and the rest is generated."""

import attrs

from ltxcore.api import Inputs, LatentState, Role, hookimpl


@attrs.frozen
class Mask:
    """Give the tokens that a stored mask marks: 1 is given, 0 is generated, and values in between are partly given and
    left out of the loss.
    """

    modalities = frozenset({"video", "audio"})
    content = "whole"
    roles = (Role("mask", source_key="mask_dir", kind="mask"),)

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        """Give as much of each token as the mask says. Source: docs/explanation/arithmetic.md#stored-masks"""
        return state.given(inputs.mask("mask"))


@hookimpl
def ltx_conditions() -> dict[str, type]:
    return {"mask": Mask}
