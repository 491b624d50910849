"""first_frame."""

from __future__ import annotations

import pytest

from helpers.plugin_states import NONE, given, state, video
from ltxplugins.conditions.first_frame import FirstFrame


@pytest.mark.parametrize(("frames", "height", "width"), [(2, 1, 1), (3, 2, 2), (5, 3, 4)])
def test_the_cells_of_latent_frame_0_are_given_and_no_other(frames: int, height: int, width: int) -> None:
    after = FirstFrame().apply(state(video(frames, height, width)), NONE)
    cells = height * width  # tokens come frame by frame
    assert given(after).tolist() == [[1.0] * cells + [0.0] * cells * (frames - 1)] * 2


def test_an_image_is_generated_whole_where_the_recorded_trainer_gives_all_of_it() -> None:
    """Deliberate difference: `first_frame` on a single-frame clip."""
    before = state(video(frames=1))
    assert FirstFrame().apply(before, NONE) is before


def test_its_image_lies_at_the_start_of_the_clip() -> None:
    assert (FirstFrame.modalities, FirstFrame.content) == (frozenset({"video"}), "start")
