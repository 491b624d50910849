"""hole."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest

from helpers.plugin_states import NONE, audio, given, state, video
from ltxcore.api import DataError
from ltxplugins.conditions.hole import STEPS, Hole


def nearest(share: float, cells: int) -> int:
    """The number of cells from 1 to all whose share is nearest; the larger of two that are equally near."""
    return min(range(1, cells + 1), key=lambda number: (abs(Fraction(number, cells) - Fraction(str(share))), -number))


def first(place: float, room: int) -> int:
    """Where a hole begins: the room is cut into as many equal parts as there are places, and the place lies in one of them."""
    return min(sum(Fraction(part, room + 1) <= Fraction(place) for part in range(1, room + 2)), room)


def cells(frames: int, rows: int, columns: int, holes: list[tuple[tuple[float, float], ...]]) -> list[bool]:
    """For each cell, whether it lies in a hole; each hole has a share and a place along each axis."""
    boxes = []
    for hole in holes:
        sizes = [(nearest(share, n), n, place) for (share, place), n in zip(hole, (frames, rows, columns), strict=True)]
        boxes.append([range(first(place, n - size), first(place, n - size) + size) for size, n, place in sizes])
    every = itertools.product(range(frames), range(rows), range(columns))
    return [any(all(at in span for at, span in zip(cell, box, strict=True)) for box in boxes) for cell in every]


SIZES = [0.01, 0.3, 0.5, 1.0]
PLACES = [0.0, 0.2, 0.5, 0.77, 1.0]


@pytest.mark.parametrize(("frames", "rows", "columns"), [(1, 4, 5), (5, 3, 2), (13, 5, 3)])
def test_everything_but_a_box_of_a_clip_is_given(frames: int, rows: int, columns: int) -> None:
    before = state(video(frames, rows, columns))
    for number, (height, width, length) in enumerate(itertools.product(SIZES, SIZES, SIZES)):
        top, left, start = (PLACES[(number + by) % 5] for by in (0, 2, 3))
        hole = cells(frames, rows, columns, [((length, start), (height, top), (width, left))])
        if all(hole):
            continue
        one = Hole(height, width, length, top, left, start)
        assert given(one.apply(before, NONE)).tolist() == [[float(not inside) for inside in hole]] * 2
        inverted = Hole(height, width, length, top, left, start, invert=True)
        assert given(inverted.apply(before, NONE)).tolist() == [[float(inside) for inside in hole]] * 2


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
@pytest.mark.parametrize("place", PLACES)
def test_everything_but_a_stretch_of_a_sound_is_given(share: float, place: float) -> None:
    gap = [not inside for inside in cells(27, 1, 1, [((share, place), (1.0, 0.5), (1.0, 0.5))])]
    assert given(Hole(length=share, start=place).apply(state(audio(27)), NONE)).tolist() == [list(map(float, gap))] * 2


def test_the_ends_of_the_room_are_the_ends_of_the_target() -> None:
    at = {place: given(Hole(length=0.4, start=place).apply(state(audio(5)), NONE))[0].tolist() for place in (0.0, 0.5, 1.0)}
    assert at == {0.0: [0, 0, 1, 1, 1], 0.5: [1, 1, 0, 0, 1], 1.0: [1, 1, 1, 0, 0]}


def test_every_place_is_equally_likely() -> None:
    starts = [
        given(Hole(length=0.2, start=(n + 0.5) / 800).apply(state(audio(10, batch=1)), NONE))[0].tolist().index(0) for n in range(800)
    ]
    counts = [starts.count(place) for place in range(9)]
    assert (sum(counts), max(counts) - min(counts)) == (800, 1)


def test_further_holes_are_spread_from_the_first_on() -> None:
    golden, plastic = (1 + 5**0.5) / 2, 1.324717957244746
    assert plastic**3 == pytest.approx(plastic + 1)
    assert {"start": round(1 / golden, 10), "top": round(1 / plastic, 10), "left": round(1 / plastic**2, 10)} == STEPS
    before = state(video(9, 6, 8))
    for count in (2, 3, 5):
        holes = [
            tuple(
                (share, (place + k * STEPS[axis]) % 1)
                for axis, share, place in (("start", 0.3, 0.4), ("top", 0.4, 0.1), ("left", 0.2, 0.9))
            )
            for k in range(count)
        ]
        after = Hole(height=0.4, width=0.2, length=0.3, top=0.1, left=0.9, start=0.4, count=count).apply(before, NONE)
        assert given(after).tolist() == [[float(not inside) for inside in cells(9, 6, 8, holes)]] * 2


@pytest.mark.parametrize(
    ("hole", "said"),
    [
        (Hole(), "the hole covers the whole target of 3 x 2 x 2 latent cells, which leaves nothing given"),
        (Hole(length=0.9), "the hole covers the whole target of 3 x 2 x 2 latent cells, which leaves nothing given"),
        (Hole(invert=True), "the hole covers the whole target of 3 x 2 x 2 latent cells, which leaves nothing to generate"),
        (Hole(width=0.5, count=3), "the holes cover the whole target of 3 x 2 x 2 latent cells, which leaves nothing given"),
    ],
)
def test_holes_that_leave_nothing_are_refused(hole: Hole, said: str) -> None:
    with pytest.raises(DataError) as caught:
        hole.apply(state(video(3, 2, 2)), NONE)
    assert str(caught.value) == f"{said}\n    Set height, width or length to less, or leave out the small samples."


def test_a_sound_that_is_all_hole_is_refused_in_its_own_words() -> None:
    with pytest.raises(DataError) as caught:
        Hole(length=0.9).apply(state(audio(3)), NONE)
    assert str(caught.value) == (
        "the hole covers the whole target of 3 latent steps, which leaves nothing given\n    Set length to less, or leave out the small samples."
    )


@pytest.mark.parametrize("wrong", [{"length": 0.0}, {"height": 1.1}, {"start": -0.1}, {"left": 1.01}, {"count": 0}], ids=str)
def test_shares_outside_their_limits_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=rf"^'{next(iter(wrong))}' must be "):
        Hole(**wrong)


def test_its_medium_covers_the_whole_target_and_its_values_are_drawn_anew() -> None:
    assert (Hole.modalities, Hole.content, Hole.redraws) == (frozenset({"video", "audio"}), "whole", 8)
