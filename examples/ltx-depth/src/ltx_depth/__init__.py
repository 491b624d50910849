"""A clip of how far away things are, beside each clip of a dataset, and a condition that shows it to the model."""

import attrs

from ltxcore.api import DataError, Inputs, LatentState, Role, hookimpl


@attrs.frozen
class Depth:
    """A clip in which a pixel is brighter the nearer it is, with the frames of the clip that it belongs to."""

    kind = "latents"
    modality = "video"
    folder = "depth_clips"
    names = ("depth_clip", "depth_map")


@attrs.frozen
class ByDepth:
    """Add the clip of depths, each token at the place and time of the token whose depth it shows."""

    modalities = frozenset({"video"})
    roles = (Role("depth", source_key="depth_dir", kind="latents"),)
    appends = True

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        """Append the depths.

        Raises:
            DataError: the clip of depths has another size than the clip.
        """
        depth = inputs.latents("depth")
        sizes = [(grid.frames, grid.height, grid.width) for grid in (state.grid, depth.grid)]
        if sizes[0] != sizes[1]:
            clip, found = (" x ".join(map(str, size)) for size in sizes)
            raise DataError(f"the clip has {clip} latent cells, but its depths have {found}", remedy="Encode both in the same bucket.")
        return state.append(depth.tokens, depth.positions)


@hookimpl
def ltx_columns() -> dict[str, type]:
    return {"depth_clip": Depth}


@hookimpl
def ltx_conditions() -> dict[str, type]:
    return {"by_depth": ByDepth}
