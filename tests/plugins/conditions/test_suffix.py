"""suffix."""

from __future__ import annotations

import pytest

from helpers.plugin_states import NONE, audio, given, state, video
from ltxcore.api import DataError
from ltxplugins.conditions.suffix import Suffix


@pytest.mark.parametrize("boundary", [1, 2, 4])
def test_the_last_latent_frames_of_a_clip_are_given(boundary: int) -> None:
    after = Suffix(boundary).apply(state(video(frames=5)), NONE)
    assert given(after).reshape(2, 5, 4).tolist() == [[[float(frame >= 5 - boundary)] * 4 for frame in range(5)]] * 2


@pytest.mark.parametrize("boundary", [1, 8, 26])
def test_the_last_latent_steps_of_a_sound_are_given(boundary: int) -> None:
    after = Suffix(boundary).apply(state(audio(27)), NONE)
    assert given(after).tolist() == [[0.0] * (27 - boundary) + [1.0] * boundary] * 2


@pytest.mark.parametrize("boundary", [3, 4])
def test_a_suffix_as_long_as_the_clip_is_refused_where_the_recorded_trainer_has_loss_0(boundary: int) -> None:
    """Deliberate difference: prefix or suffix as long as the clip."""
    with pytest.raises(DataError) as caught:
        Suffix(boundary).apply(state(video(frames=3)), NONE)
    assert str(caught.value) == (
        f"a suffix of {boundary} latent frames leaves nothing to generate in a sample of 3 latent frames\n"
        "    Set temporal_boundary below the length of the shortest sample, or leave out the short samples."
    )


@pytest.mark.parametrize("boundary", [0, -1])
def test_a_suffix_of_nothing_is_refused(boundary: int) -> None:
    with pytest.raises(ValueError, match=rf"^'temporal_boundary' must be >= 1: {boundary}$"):
        Suffix(boundary)


def test_its_medium_lies_at_the_end() -> None:
    assert (Suffix.modalities, Suffix.content) == (frozenset({"video", "audio"}), "end")
