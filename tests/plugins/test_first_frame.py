"""first_frame."""

from __future__ import annotations

import inspect

import pytest

from ltxplugins import first_frame
from ltxplugins.first_frame import FirstFrame
from plugin_states import NONE, given, state, video


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


def test_a_whole_condition_is_some_fifteen_lines() -> None:
    """Statements and blank lines between them do not count, docstrings neither."""
    source = inspect.getsource(first_frame)
    for docstring in (first_frame.__doc__, FirstFrame.__doc__, FirstFrame.apply.__doc__):
        source = source.replace(f'"""{docstring}"""', "")
    assert len([line for line in source.splitlines() if line.strip()]) <= 15
