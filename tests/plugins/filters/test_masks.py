"""Masks of a part of the picture: which pixels are generated, and which are given."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ltxcore.api import DataError
from ltxplugins.filters.masks import Box, Color, Motion, Region


def frames(*pictures: Tensor) -> list[Tensor]:
    return [picture.to(torch.uint8) for picture in pictures]


def generated(mask: Tensor) -> Tensor:
    """The pixels that a mask generates: black ones, where the others are white."""
    assert mask.dtype == torch.uint8
    assert set(mask.unique().tolist()) <= {0, 255}
    assert mask.shape[2] == 3
    return (mask == 0).all(dim=2)


def grey(*values: list[list[int]]) -> list[Tensor]:
    return frames(*(torch.tensor(value)[..., None].expand(-1, -1, 3) for value in values))


def test_a_box_has_the_pixels_whose_centres_it_holds() -> None:
    (mask,) = Box(top=0.25, left=0.5, bottom=1.0, right=0.9)(iter([torch.zeros(8, 10, 3, dtype=torch.uint8)]))
    wanted = torch.zeros(8, 10, dtype=torch.bool)
    wanted[2:, 5:9] = True  # the centre of column 9 is at 0.95, outside
    assert generated(mask).equal(wanted)


def test_all_of_the_picture_can_be_a_box() -> None:
    (mask,) = Box(top=0.0, left=0.0, bottom=1.0, right=1.0)(iter([torch.zeros(3, 5, 3, dtype=torch.uint8)]))
    assert generated(mask).all()


def test_a_color_has_the_pixels_that_differ_in_no_channel_by_more_than_the_tolerance() -> None:
    picture = torch.tensor([[[0, 255, 0], [51, 204, 51], [52, 255, 0], [0, 203, 0], [255, 255, 255]]], dtype=torch.uint8)
    (mask,) = Color(color="#00FF00", tolerance=0.2)(iter([picture]))
    assert generated(mask).tolist() == [[True, True, False, False, False]]
    (exact,) = Color(color="lime", tolerance=0.0)(iter([picture]))
    assert generated(exact).tolist() == [[True, False, False, False, False]]


def test_motion_is_what_differs_from_the_frame_before_or_after() -> None:
    clip = grey([[0, 100, 100, 7]], [[0, 100, 200, 7]], [[0, 100, 200, 7]], [[25, 126, 200, 7]])
    masks = [generated(mask).tolist() for mask in Motion(threshold=0.1)(iter(clip))]  # 25.5 of 255
    assert masks == [
        [[False, False, True, False]],
        [[False, False, True, False]],
        [[False, True, False, False]],
        [[False, True, False, False]],
    ]


def test_motion_of_one_channel_counts() -> None:
    still, moved = torch.zeros(1, 2, 3), torch.zeros(1, 2, 3)
    moved[0, 1, 2] = 255
    masks = [generated(mask).tolist() for mask in Motion()(iter(frames(still, moved)))]
    assert masks == [[[False, True]]] * 2


def test_a_single_frame_has_no_motion() -> None:
    with pytest.raises(DataError, match="has only one frame, in which nothing can move"):
        list(Motion()(iter(grey([[1, 2]]))))


def test_a_region_grows_to_all_sides_and_stays_in_the_picture() -> None:
    inside = torch.zeros(5, 7, dtype=torch.bool)
    inside[1, 2] = inside[4, 6] = True
    wanted = torch.zeros(5, 7, dtype=torch.bool)
    wanted[0:4, 0:5] = wanted[2:5, 4:7] = True
    assert generated(Region(grow=2).mask(inside)).equal(wanted)


def test_the_region_can_be_given_instead() -> None:
    inside = torch.tensor([[True, False]])
    assert generated(Region(region="given").mask(inside)).tolist() == [[False, True]]
