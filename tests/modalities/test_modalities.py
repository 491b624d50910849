"""Grids, tokens and positions agree with the recordings."""

from __future__ import annotations

import pytest
import torch

from helpers.golden_io import list_cases, load_case
from ltxcore.modalities.audio import AudioModality
from ltxcore.modalities.video import VideoModality
from ltxcore.state import Grid

VIDEO = [name for name in list_cases("05_positions") if name.startswith("video.")]
AUDIO = [name for name in list_cases("05_positions") if name.startswith("audio.")]


@pytest.mark.parametrize("name", VIDEO)
def test_video_positions_agree_with_the_recording(name: str) -> None:
    case = load_case("05_positions", name)
    modality = VideoModality(tuple(case.config["scale_factors"]))
    grid = modality.grid_of((128, *case.config["shape"]))
    for rate in case.config["fps"]:
        found = modality.positions(grid, torch.full((case.config["batch"],), rate, dtype=torch.float64))
        torch.testing.assert_close(found, case.outputs[f"positions.fps{rate:.3f}"], **case.tolerance)


@pytest.mark.parametrize("name", AUDIO)
def test_audio_positions_agree_with_the_recording(name: str) -> None:
    case = load_case("05_positions", name)
    modality = AudioModality()
    found = modality.positions(modality.grid_of((8, case.config["frames"], 16)), torch.full((case.config["batch"],), 25.0))
    torch.testing.assert_close(found, case.outputs["positions"], **case.tolerance)


@pytest.mark.parametrize(("name", "modality"), [("patchify.video", VideoModality()), ("patchify.audio", AudioModality())])
def test_tokens_agree_with_the_recording_and_come_back_as_latents(name: str, modality: VideoModality | AudioModality) -> None:
    case = load_case("05_positions", name)
    latents = case.inputs["latents"]
    tokens = modality.patchify(latents)
    torch.testing.assert_close(tokens, case.outputs["tokens"], **case.tolerance)
    assert torch.equal(modality.unpatchify(tokens, modality.grid(latents)), latents)


def test_a_video_grid_counts_cells_row_by_row() -> None:
    grid = VideoModality().grid(torch.zeros(1, 128, 2, 2, 3))
    assert grid == Grid(2, 2, 3, (8, 32, 32))
    assert grid.num_tokens == 12
    assert grid.frame.tolist() == [0] * 6 + [1] * 6
    assert grid.row.tolist() == [0, 0, 0, 1, 1, 1] * 2
    assert grid.column.tolist() == [0, 1, 2] * 4


def test_an_audio_grid_counts_steps() -> None:
    assert AudioModality().grid(torch.zeros(1, 8, 27, 16)) == Grid(27, scale=(4, 1, 1))


def test_stored_latents_without_a_rate_have_the_usual_one() -> None:
    assert (VideoModality().default_rate, AudioModality().default_rate) == (24.0, 25.0)
