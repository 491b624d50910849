"""reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from helpers.golden_io import load_case
from helpers.plugin_states import audio, state, video
from ltxcore.api import DataError, Geometry, Grid, Inputs, Medium, Role
from ltxplugins.conditions.reference import Reference, spatial_factor, temporal_factor

DIVIDES = "    Make references as large as their targets, or smaller by the same whole factor in height and width."


def table(name: str) -> list[dict[str, Any]]:
    return load_case("10_scale_factors", name).scalars["table"]


def appended(target: Medium, reference: Medium) -> torch.Tensor:
    """Positions `[B, P, R, 2]` of the reference on its target."""
    after = Reference().apply(state(target), Inputs({"reference": reference}))
    assert torch.equal(after.appended, reference.tokens)
    assert not after.denoise_mask[:, after.num_target :].any()
    return after.positions[:, :, after.num_target :]


# ---------------------------------------------------------------- positions


def test_a_reference_like_its_target_lies_where_the_target_lies() -> None:
    assert torch.equal(appended(video(), video()), video().positions)


def test_a_reference_sound_keeps_its_own_positions_and_may_have_any_length() -> None:
    assert torch.equal(appended(audio(5), audio(9)), audio(9).positions)


@pytest.mark.parametrize("factor", [2, 3])
def test_a_smaller_reference_is_spread_over_the_target(factor: int) -> None:
    target, reference = video(2, 6, 6), video(2, 6 // factor, 6 // factor)
    found = appended(target, reference).reshape(2, 3, 2, 6 // factor, 6 // factor, 2)
    whole = target.positions.reshape(2, 3, 2, 6, 6, 2)
    # Each cell of the reference spans the block of target cells that shows the same.
    assert torch.equal(found[..., 0], whole[..., ::factor, ::factor, 0])
    assert torch.equal(found[..., 1], whole[..., factor - 1 :: factor, factor - 1 :: factor, 1])


@pytest.mark.parametrize("factor", [2, 3, 12])
@pytest.mark.parametrize("rate", [24.0, 29.97])
def test_a_subsampled_reference_spans_the_target_frames_that_it_stands_for(factor: int, rate: float) -> None:
    target, reference = video(13, 1, 1, rate=rate), video(12 // factor + 1, 1, 1, rate=rate / factor)
    found, whole = appended(target, reference)[:, 0], target.positions[:, 0]
    # Frame 0 is the first pixel frame alone in both; frame f of the reference stands for `factor` frames of the target.
    torch.testing.assert_close(found[:, 0], whole[:, 0])
    torch.testing.assert_close(found[:, 1:, 0], whole[:, 1::factor, 0])
    torch.testing.assert_close(found[:, 1:, 1], whole[:, factor::factor, 1])


def test_each_sample_has_its_own_temporal_factor() -> None:
    target, reference = video(5, 1, 1), video(3, 1, 1)
    mixed = Medium(
        reference.tokens, reference.grid, torch.tensor([12.0, 24.0]), reference.positions * torch.tensor([2.0, 1.0]).reshape(2, 1, 1, 1)
    )
    found = appended(target, mixed)
    torch.testing.assert_close(found[0, 0, 1, 0], target.positions[0, 0, 1, 0])
    assert torch.equal(found[1, 0], reference.positions[1, 0])


def test_a_reference_that_is_only_shorter_is_not_shifted_where_the_recorded_trainer_shifts_it() -> None:
    """Deliberate difference: a reference that is only shorter, at the same fps."""
    assert torch.equal(appended(video(5), video(3)), video(3).positions)


def test_a_reference_image_is_not_shifted() -> None:
    assert torch.equal(appended(video(5), video(1)), video(1).positions)


# ---------------------------------------------------------------- factors


@pytest.mark.parametrize("row", table("spatial_table"), ids=lambda row: f"{row['cond_hw']} of {row['target_hw']}")
def test_spatial_factors_agree_with_the_recording_where_they_divide(row: dict[str, Any]) -> None:
    """Deliberate difference: scale factors that do not divide, a reference larger than its target, or one without cells, are refused."""
    (height, width), (own_height, own_width) = row["target_hw"], row["cond_hw"]
    target, reference = Grid(3, height, width), Grid(3, own_height, own_width)
    divides = own_height and own_width and height % own_height == 0 and width % own_width == 0
    if row["ok"] and divides:
        assert spatial_factor(target, reference) == row["value"]
        return
    with pytest.raises(DataError) as caught:
        spatial_factor(target, reference)
    fault = (
        f"a reference of {own_height} x {own_width} latent cells is smaller than its target of "
        f"{height} x {width} by different factors in height and width"
        if divides
        else f"a target of {height} x {width} latent cells is not a whole multiple of its reference of {own_height} x {own_width}"
    )
    assert str(caught.value) == f"{fault}\n{DIVIDES}"


@pytest.mark.parametrize("row", table("temporal_table"), ids=lambda row: f"{row['cond_frames']} of {row['target_frames']}")
def test_temporal_factors_agree_with_the_recording_where_the_reference_is_subsampled(row: dict[str, Any]) -> None:
    """Deliberate difference: a reference longer than its target is refused, an image as target too."""
    frames, own = row["target_frames"], row["cond_frames"]
    if own < 1:
        return  # there is no latent without frames
    value = row.get("value", 2)
    if row["ok"] and own <= frames:
        assert temporal_factor(Grid(frames, 2, 2), 24.0, Grid(own, 2, 2), 24.0 / value) == value
        return
    with pytest.raises(DataError) as caught:
        temporal_factor(Grid(frames, 2, 2), 24.0, Grid(own, 2, 2), 24.0 / value)
    assert str(caught.value) == (
        f"the reference has {own} latent frames, but its target has only {frames}\n    Cut references to the length of their targets."
        if own > frames
        else f"a reference of {own} latent frames at 12 frames per second does not fit a target of {frames} latent frames at 24\n"
        "    Give the reference the frame rate of the target, or make it from every N-th frame of the target, such that, in latent frames, "
        "(target - 1) / (reference - 1) is a whole number."
    )


@pytest.mark.parametrize("frames", [4, 5, 7, 12])
def test_a_shorter_reference_at_the_same_rate_has_factor_1(frames: int) -> None:
    assert temporal_factor(Grid(13, 2, 2), 24.0, Grid(frames, 2, 2), 24.0) == 1


def test_rates_may_be_rounded_as_containers_do() -> None:
    assert temporal_factor(Grid(13, 2, 2), 29.97, Grid(5, 2, 2), 9.99) == 3
    assert temporal_factor(Grid(13, 2, 2), 23.976, Grid(7, 2, 2), 11.99) == 2


def test_a_reference_that_is_larger_is_refused_when_it_applies() -> None:
    with pytest.raises(DataError) as caught:
        Reference().apply(state(video(3, 2, 2)), Inputs({"reference": video(3, 4, 4)}))
    assert str(caught.value) == f"a target of 2 x 2 latent cells is not a whole multiple of its reference of 4 x 4\n{DIVIDES}"


# ---------------------------------------------------------------- metadata


def pair(target: Medium, reference: Medium, modality: str = "video") -> tuple[Geometry, dict[str, Geometry]]:
    made = [Geometry(medium.grid, float(medium.rate[0]), modality) for medium in (target, reference)]
    return made[0], {"reference": made[1]}


def test_the_lora_says_the_factors_that_are_not_1() -> None:
    assert Reference().metadata([pair(video(), video())]) == {}
    assert Reference().metadata([pair(video(2, 4, 4), video(2, 2, 2)), pair(video(2, 6, 8), video(2, 3, 4))]) == {
        "reference_downscale_factor": "2",
        "reference_spatial_scale_factor": "2",
    }
    assert Reference().metadata([pair(video(5), video(3, rate=12.0))]) == {"reference_temporal_scale_factor": "2"}


def test_the_lora_says_nothing_of_a_reference_sound_however_long() -> None:
    assert Reference().metadata([pair(audio(5), audio(9), "audio")]) == {}


@pytest.mark.parametrize(
    ("pairs", "what", "factors"),
    [
        ([pair(video(2, 4, 4), video(2, 2, 2)), pair(video(2, 4, 4), video(2, 4, 4))], "spatial", "1, 2"),
        ([pair(video(5), video(3, rate=12.0)), pair(video(5), video(5))], "temporal", "1, 2"),
    ],
)
def test_samples_with_different_factors_are_refused(pairs: list, what: str, factors: str) -> None:
    with pytest.raises(DataError) as caught:
        Reference().metadata(pairs)
    assert str(caught.value) == (
        f"references have different {what} factors: {factors}\n    Preprocess all of them with the same factor: a LoRA can record only one for each reference."
    )


def test_its_reference_comes_from_a_folder_and_it_appends() -> None:
    assert Reference.roles == (Role("reference", source_key="latents_dir", kind="latents"),)
    assert (Reference.modalities, Reference.content, Reference.appends) == (frozenset({"video", "audio"}), None, True)
