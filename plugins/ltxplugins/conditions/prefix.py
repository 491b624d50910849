"""The condition "prefix" (extension forward): the beginning of a clip or of audio is given, and the rest is generated."""

import attrs

from ltxcore.api import DataError, Inputs, LatentState, hookimpl
from ltxcore.api.conditions import level_key


@attrs.frozen
class Prefix:
    """Give the first latent frames of a clip, or the first latent steps of audio."""

    modalities = frozenset({"video", "audio"})
    content = "start"

    temporal_boundary: int = attrs.field(
        validator=attrs.validators.ge(1),
        metadata={"help": "number of latent frames (for audio: latent steps) that are given", "unit": "latent frames"},
    )
    level: float = level_key()

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        """Give the first `temporal_boundary` latent frames or steps.

        Source: docs/explanation/arithmetic.md#prefix-and-suffix

        Raises:
            DataError: the prefix is at least as long as the target.
        """
        if self.temporal_boundary >= state.grid.frames:
            raise DataError(
                f"a prefix of {self.temporal_boundary} latent frame{'s' * (self.temporal_boundary > 1)} leaves nothing to generate in a sample of "
                f"{state.grid.frames} latent frame{'s' * (state.grid.frames > 1)}",
                remedy="Set temporal_boundary below the length of the shortest sample, or leave out the short samples.",
            )
        return state.given(state.grid.frame < self.temporal_boundary, self.level)


@hookimpl
def ltx_conditions() -> dict[str, type]:
    return {"prefix": Prefix}
