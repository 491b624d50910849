"""mask."""

from __future__ import annotations

import pytest
import torch

from helpers.plugin_states import audio, given, state, video
from ltxcore.api import DataError, Inputs, Medium, Role
from ltxplugins.conditions.mask import Mask


@pytest.mark.parametrize("target", [video(), audio()])
def test_what_the_mask_marks_is_given_in_that_measure(target: Medium) -> None:
    mask = torch.rand(2, target.grid.num_tokens, generator=torch.Generator().manual_seed(0))
    after = Mask().apply(state(target), Inputs(masks={"mask": mask}))
    torch.testing.assert_close(given(after), mask)


def test_two_masks_multiply_what_is_left_to_generate() -> None:
    """As docs/explanation/arithmetic.md#given-tokens has it."""
    first, second = torch.rand(2, 2, 5, generator=torch.Generator().manual_seed(1))
    after = Mask().apply(Mask().apply(state(audio()), Inputs(masks={"mask": first})), Inputs(masks={"mask": second}))
    torch.testing.assert_close(after.denoise_mask, (1 - first) * (1 - second))


def test_a_mask_with_values_outside_0_to_1_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        Mask().apply(state(audio()), Inputs(masks={"mask": torch.full((2, 5), 255.0)}))
    assert str(caught.value) == (
        "the values that a condition gives to the audio range from 255 to 255\n    Amounts must lie between 0 (generated) and 1 (given)."
    )


def test_a_mask_of_another_length_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        Mask().apply(state(audio()), Inputs(masks={"mask": torch.ones(2, 4)}))
    assert str(caught.value) == (
        "a condition gives [2, 4] values, but the audio has [2, 5] target tokens\n    Return one value per target token, [T] or [B, T]."
    )


def test_its_mask_comes_from_a_folder_and_its_medium_covers_the_whole() -> None:
    assert Mask.roles == (Role("mask", source_key="mask_dir", kind="mask"),)
    assert (Mask.modalities, Mask.content) == (frozenset({"video", "audio"}), "whole")
