"""The condition "suffix" (extension backward): the end of a clip or of audio is given, the rest is generated."""

import attrs

from ltxcore.api import DataError, Inputs, LatentState, hookimpl


@attrs.frozen
class Suffix:
    """Give the last latent frames of a clip, or the last latent steps of a sound."""

    modalities = frozenset({"video", "audio"})
    content = "end"

    temporal_boundary: int = attrs.field(
        validator=attrs.validators.ge(1),
        metadata={"help": "number of latent frames (for audio: latent steps) that are given", "unit": "latent frames"},
    )

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        """Give the last `temporal_boundary` latent frames or steps.

        Source: docs/explanation/arithmetic.md#prefix-and-suffix

        Raises:
            DataError: the suffix is as long as the target or longer.
        """
        if self.temporal_boundary >= state.grid.frames:
            raise DataError(
                f"a suffix of {self.temporal_boundary} latent frames covers all {state.grid.frames} of the sample, and leaves nothing to generate",
                remedy="Set temporal_boundary to less than the length of the shortest sample, or leave short samples out.",
            )
        return state.given(state.grid.frame >= state.grid.frames - self.temporal_boundary)


@hookimpl
def ltx_conditions() -> dict[str, type]:
    return {"suffix": Suffix}
