"""Tokens find their moments and cells from their positions alone, those of several appended media apart."""

from __future__ import annotations

import torch

from ltxcore.inspection.counts import Tokens, appended_lanes, lane_of
from ltxcore.modalities.audio import AudioModality
from ltxcore.modalities.video import VideoModality
from ltxcore.state import Grid

VIDEO = VideoModality().positions(Grid(3, 2, 2), torch.tensor([8.0]))[0]
SOUND = AudioModality().positions(Grid(5, scale=(4, 1, 1)), torch.tensor([25.0]))[0]


def tokens(*positions: torch.Tensor) -> Tokens:
    joined = torch.cat(positions, dim=1)
    number = joined.shape[1]
    return Tokens(torch.arange(number) / number, torch.zeros(number), torch.ones(number, dtype=torch.bool), joined, number, True, 0.5)


def test_a_video_has_a_slot_for_each_latent_frame_with_its_cells() -> None:
    lane = lane_of(tokens(VIDEO))
    assert [(slot.start, slot.end) for slot in lane.slots] == [(0.0, 0.125), (0.125, 1.125), (1.125, 2.125)]
    assert lane.slots[1].boxes == ((0, 0, 32, 32), (0, 32, 32, 64), (32, 0, 64, 32), (32, 32, 64, 64))
    assert lane.slots[1].tokens.given.tolist() == torch.arange(12).div(12)[4:8].tolist()
    assert (lane.seconds, lane.size) == ((0.0, 2.125), (64, 64))


def test_a_sound_has_a_slot_for_each_step_and_no_cells() -> None:
    lane = lane_of(tokens(SOUND))
    assert len(lane.slots) == 5
    assert all(slot.boxes == () for slot in lane.slots)
    assert lane.size is None


def test_nothing_appended_is_no_lane() -> None:
    assert appended_lanes(tokens(SOUND[:, :0])) == []


def test_media_appended_one_after_the_other_are_lanes_of_their_own() -> None:
    assert [len(lane.slots) for lane in appended_lanes(tokens(SOUND, SOUND, SOUND[:, 2:]))] == [5, 5, 3]
    assert [len(lane.slots) for lane in appended_lanes(tokens(VIDEO, VIDEO))] == [3, 3]


def test_two_single_frames_are_two_lanes_though_time_stands_still() -> None:
    assert [len(lane.slots) for lane in appended_lanes(tokens(VIDEO[:, :4], VIDEO[:, :4]))] == [1, 1]


def test_time_before_the_target_is_time_too() -> None:
    (lane,) = appended_lanes(tokens(SOUND - 1.0))
    assert lane.seconds[0] == -1.0
