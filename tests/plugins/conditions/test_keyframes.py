"""keyframes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from helpers.plugin_states import NONE, state, video
from ltxcore.conditions import pictures_of
from ltxcore.errors import DataError
from ltxcore.modalities.video import VideoModality
from ltxcore.pictures import StoredPictures
from ltxcore.protocols import Inputs, Medium
from ltxcore.state import LatentState
from ltxcore.testing import check_condition
from ltxplugins.conditions.keyframes import Keyframes

SCALE = (8, 32, 32)


def stored(target: Medium, frames: Sequence[Sequence[float]]) -> StoredPictures:
    """Pictures of two clips that show these frames."""
    numbers, grid = torch.tensor(frames), target.grid
    return StoredPictures(torch.randn(2, numbers.shape[1], 4, 1, grid.height, grid.width), numbers)


def applied(target: Medium, pictures: StoredPictures, candidates: list[int] | None = None) -> LatentState:
    return Keyframes(candidates).apply(state(target), Inputs(images={"keyframes": pictures_of(pictures, VideoModality(SCALE))}))


def guide(frame: int, pixel_frames: int, height: int, width: int, fps: float) -> torch.Tensor:
    """The positions of a guide of one latent frame, `[3, N, 2]`, as the pipelines of the release place it.

    They take the guide's own grid in pixel frames; shift it as the first latent frame of a clip is shifted, but only if it starts at frame 0;
    let it end one frame after its start if it has a single pixel frame; move it by its frame; and divide by the frame rate.
    """
    step = SCALE[0]
    start, end = 0, step
    if frame == 0:
        start, end = max(0, start + 1 - step), max(0, end + 1 - step)
    if pixel_frames == 1:
        end = start + 1
    cells = [(row, column) for row in range(height) for column in range(width)]
    seconds = [[(start + frame) / fps, (end + frame) / fps]] * len(cells)
    rows = [[row * SCALE[1], (row + 1) * SCALE[1]] for row, _ in cells]
    columns = [[column * SCALE[2], (column + 1) * SCALE[2]] for _, column in cells]
    return torch.tensor([seconds, rows, columns], dtype=torch.float32)


@pytest.mark.parametrize("fps", [24.0, 30.0, 23.976])
def test_each_picture_lies_where_the_release_places_a_guide_of_its_frame(fps: float) -> None:
    target = video(5, 2, 3, rate=fps)
    frames = [[0, 7, 8, 32], [0, 1, 13, 32]]
    after = applied(target, stored(target, frames))
    found = after.positions[:, :, target.grid.num_tokens :]
    for index, own in enumerate(frames):
        expected = torch.cat([guide(frame, 1, 2, 3, fps) for frame in own], dim=1)
        torch.testing.assert_close(found[index], expected, rtol=0, atol=1e-6)


def test_the_golden_numbers_of_a_first_and_a_last_frame() -> None:
    target = video(5, 1, 1)
    found = applied(target, stored(target, [[0, 32], [0, 32]])).positions[0, :, 5:]
    torch.testing.assert_close(found[0], torch.tensor([[0, 1 / 24], [32 / 24, 33 / 24]]))
    assert found[1:].tolist() == [[[0, 32], [0, 32]]] * 2
    target_end = applied(target, stored(target, [[0, 32], [0, 32]])).positions[0, 0, 4]
    torch.testing.assert_close(target_end, torch.tensor([25 / 24, 33 / 24]), msg="the last frame lies inside the last latent frame")


def test_its_tokens_are_appended_clean_and_the_target_stays_as_it_is() -> None:
    target = video(3, 2, 2)
    pictures = stored(target, [[0, 16], [0, 16]])
    before, after = state(target), applied(target, pictures)
    assert after.num_appended == 2 * 4
    assert torch.equal(after.appended, pictures.latents[:, :, :, 0].flatten(3).transpose(2, 3).flatten(1, 2))
    assert torch.equal(after.denoise_mask[:, :12], before.denoise_mask)
    assert not after.denoise_mask[:, 12:].any()


def test_an_appended_first_frame_is_not_marked_as_the_first_frame_of_the_target() -> None:
    target = video(3, 2, 2)
    assert applied(target, stored(target, [[0], [0]])).first_frame[0].tolist() == [True] * 4 + [False] * 12


@pytest.mark.parametrize(("candidates", "frames"), [(None, [0, 5, 9, 16]), ([0, -1], [0, 16]), ([2], [9]), ([-1, 0, 1], [16, 0, 5])])
def test_the_candidates_say_which_pictures_are_given(candidates: list[int] | None, frames: list[int]) -> None:
    target = video(3, 1, 1, rate=1.0)
    after = applied(target, stored(target, [[0, 5, 9, 16]] * 2), candidates)
    assert after.positions[0, 0, 3:, 0].tolist() == frames


def test_candidates_that_a_clip_does_not_have_are_refused() -> None:
    target = video(3, 1, 1)
    with pytest.raises(DataError, match=r"^candidate 4 is not among the 4 pictures that were encoded beside the clip"):
        applied(target, stored(target, [[0, 5, 9, 16]] * 2), [0, 4])
    with pytest.raises(DataError, match=r"^candidates \[0, -4\] name one of the 4 pictures of the clip twice"):
        applied(target, stored(target, [[0, 5, 9, 16]] * 2), [0, -4])
    with pytest.raises(ValueError, match="candidates"):
        Keyframes([])


def test_an_image_is_generated_whole() -> None:
    before = state(video(frames=1))
    assert Keyframes().apply(before, NONE) is before


def test_the_condition_keeps_to_the_protocol_where_its_candidates_are_drawn() -> None:
    check_condition(Keyframes, candidates={"one_of": [[0, -1], [0]]})
