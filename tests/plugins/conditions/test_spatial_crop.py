"""spatial_crop."""

from __future__ import annotations

import pytest

from helpers.plugin_states import NONE, given, state, video
from ltxcore.api import ConfigError, DataError
from ltxplugins.conditions.spatial_crop import SpatialCrop


def cells(region: tuple[int, int, int, int], frames: int, height: int, width: int, scale: tuple[int, int, int]) -> list[list[list[float]]]:
    """The rule of docs/explanation/arithmetic.md#spatial-crop, cell by cell; clamped to the picture, in all frames."""
    rows = range(min(region[0] // scale[1], height), min(region[2] // scale[1], height))
    columns = range(min(region[1] // scale[2], width), min(region[3] // scale[2], width))
    return [[[float(y in rows and x in columns) for x in range(width)] for y in range(height)] for _ in range(frames)]


@pytest.mark.parametrize(
    "region",
    [
        (0, 0, 32, 32),  # one cell
        (0, 0, 96, 64),  # a corner
        (32, 64, 96, 128),  # the middle
        (63, 31, 65, 65),  # edges are rounded down: rows 1 to 2, columns 0 to 2
        (64, 64, 2000, 2000),  # beyond the picture: clamped
        (0, 0, 96, 10_000),
    ],
)
@pytest.mark.parametrize("scale", [(8, 32, 32), (8, 16, 32)])
def test_the_cells_of_the_region_are_given_in_all_frames(region: tuple[int, int, int, int], scale: tuple[int, int, int]) -> None:
    after = SpatialCrop(region).apply(state(video(2, 8, 6, scale=scale)), NONE)
    assert given(after)[0].reshape(2, 8, 6).tolist() == cells(region, 2, 8, 6, scale)


@pytest.mark.parametrize(
    ("region", "selects"),
    [((0, 0, 20, 20), "none"), ((33, 0, 60, 64), "none"), ((64, 0, 96, 64), "none"), ((0, 0, 64, 64), "all"), ((0, 0, 999, 999), "all")],
)
def test_a_region_that_selects_nothing_or_everything_is_refused_where_the_recorded_trainer_is_silent(
    region: tuple[int, int, int, int], selects: str
) -> None:
    """Deliberate difference: region that selects nothing or everything."""
    with pytest.raises(DataError) as caught:
        SpatialCrop(region).apply(state(video(3, 2, 2)), NONE)
    assert str(caught.value) == (
        f"the region {list(region)} selects {selects} of 2 x 2 latent cells\n"
        "    A cell is 32 x 32 pixels; choose a region that covers part of the 64 x 64 picture."
    )


@pytest.mark.parametrize(
    ("region", "fault"),
    [((64, 0, 64, 64), "is empty"), ((0, 64, 64, 32), "is empty"), ((-32, 0, 64, 64), "starts outside the frame")],
)
def test_a_region_that_is_empty_for_any_size_is_refused_before_any_data_is_seen(region: tuple[int, int, int, int], fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SpatialCrop(region)
    assert str(caught.value) == (
        f"the region {list(region)} {fault}\n    Write [y1, x1, y2, x2] in pixels with 0 <= y1 < y2 and 0 <= x1 < x2."
    )


def test_its_medium_covers_the_whole_clip() -> None:
    assert (SpatialCrop.modalities, SpatialCrop.content) == (frozenset({"video"}), "whole")
