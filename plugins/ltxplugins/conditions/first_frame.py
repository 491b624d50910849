"""The condition "first_frame" (image to video): the first latent frame is given, the rest is generated."""

import attrs

from ltxcore.api import Inputs, LatentState, hookimpl


@attrs.frozen
class FirstFrame:
    """Give the first latent frame of a clip. A clip of one frame is an image, and is generated completely."""

    modalities = frozenset({"video"})
    content = "start"

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        """Give latent frame 0, unless the clip has no other. Source: docs/explanation/arithmetic.md#first-frame"""
        if state.grid.frames == 1:
            return state
        return state.given(state.grid.frame == 0)


@hookimpl
def ltx_conditions() -> dict[str, type]:
    return {"first_frame": FirstFrame}
