"""The condition "first_frame" (image to video): the first latent frame is given, and the rest is generated."""

import attrs

from ltxcore.api import Inputs, LatentState, hookimpl
from ltxcore.api.conditions import level_key


@attrs.frozen
class FirstFrame:
    """Give the first latent frame of a clip. A clip of one frame is an image, and is generated completely."""

    modalities = frozenset({"video"})
    content = "start"

    level: float = level_key()

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        """Give latent frame 0, unless it is the only one. Source: docs/explanation/arithmetic.md#first-frame"""
        if state.grid.frames == 1:
            return state
        return state.given(state.grid.frame == 0, self.level)


@hookimpl
def ltx_conditions() -> dict[str, type]:
    return {"first_frame": FirstFrame}
