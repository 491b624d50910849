"""The condition "prefix" (extension forward): the beginning of a clip or of audio is given, the rest is generated."""

import attrs

from ltxcore.api import DataError, Inputs, LatentState, hookimpl


@attrs.frozen
class Prefix:
    """Give the first latent frames of a clip, or the first latent steps of a sound."""

    modalities = frozenset({"video", "audio"})
    content = "start"

    temporal_boundary: int = attrs.field(
        validator=attrs.validators.ge(1),
        metadata={"help": "number of latent frames (for audio: latent steps) that are given", "unit": "latent frames"},
    )

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        """Give the first `temporal_boundary` latent frames or steps.

        Source: docs/explanation/arithmetic.md#prefix-and-suffix

        Raises:
            DataError: the prefix is as long as the target or longer.
        """
        if self.temporal_boundary >= state.grid.frames:
            raise DataError(
                f"a prefix of {self.temporal_boundary} latent frames covers all {state.grid.frames} of the sample, and leaves nothing to generate",
                remedy="Set temporal_boundary to less than the length of the shortest sample, or leave short samples out.",
            )
        return state.given(state.grid.frame < self.temporal_boundary)


@hookimpl
def ltx_conditions() -> dict[str, type]:
    return {"prefix": Prefix}
