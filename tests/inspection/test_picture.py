"""The picture shows every token in the colour of what becomes of it."""

from __future__ import annotations

import io
from pathlib import Path

import attrs
import pytest
from PIL import Image, ImageChops

from helpers.inspected_sets import AUDIO, VIDEO, av_run, av_set, seen_of
from ltxcore.errors import DataError
from ltxcore.inspection import picture as module
from ltxcore.inspection.counts import counts, counts_of
from ltxcore.inspection.first_steps import sample_table
from ltxcore.inspection.picture import (
    APPENDED,
    COUNTED,
    FROZEN,
    GENERATED,
    GIVEN,
    LEFT,
    RIGHT,
    WIDTH,
    Colour,
    picture,
    sentence,
    write_picture,
)
from ltxcore.inspection.seen import Seen

ALWAYS = {**VIDEO, "conditions": [{**condition, "probability": 1.0} for condition in VIDEO["conditions"]]}
KEY = 140
"""Pixel rows of title and key, which have every colour."""


@pytest.fixture
def one(tmp_path: Path) -> Seen:
    """A sample whose first latent frame of three is given, with a reference, and a sound with a mask that rises from 0 to 1."""
    av_set(tmp_path / "data")
    (seen,) = seen_of(av_run(tmp_path, video=ALWAYS, audio=AUDIO, optimization={"batch_size": 1}))
    return seen


def drawn(seen: list[Seen]) -> Image.Image:
    return Image.open(io.BytesIO(picture(seen, "What the model sees"))).convert("RGB")


def runs(image: Image.Image, row: int) -> list[tuple[Colour, int]]:
    """Colours and widths of a row of pixels between the ends of the axis; lines between slots left out."""
    found: list[tuple[Colour, int]] = []
    for x in range(LEFT, RIGHT):
        colour = image.getpixel((x, row))
        if found and found[-1][0] == colour:
            found[-1] = (colour, found[-1][1] + 1)
        else:
            found.append((colour, 1))
    return [(colour, width) for colour, width in found if width > 3]


def first_row(image: Image.Image, colour: Colour) -> int:
    return next(y for y in range(KEY, image.height) if image.getpixel((LEFT + 1, y)) == colour)


def test_the_lane_of_a_video_shows_its_first_frame_given_and_the_others_generated_in_proportion(one: Seen) -> None:
    image = drawn([one])
    (first, given), *others = runs(image, first_row(image, GIVEN) + 10)
    assert (first, {colour for colour, _ in others}) == (GIVEN, {GENERATED})
    seconds = (1 / 16, 17 / 16)  # the first latent frame is one pixel frame of 17
    assert given / (RIGHT - LEFT) == pytest.approx(seconds[0] / seconds[1], abs=0.01)


def test_only_what_is_generated_has_a_strip_that_says_it_counts(one: Seen) -> None:
    image = drawn([one])
    strip = first_row(image, GIVEN) + 44 + 4
    counted = [colour for colour, _ in runs(image, strip)]
    assert counted[0] == (255, 255, 255)
    assert set(counted[1:]) == {COUNTED}


def test_what_is_appended_has_a_lane_of_its_own(one: Seen) -> None:
    image = drawn([one])
    assert {colour for colour, _ in runs(image, first_row(image, APPENDED) + 10)} == {APPENDED}


def test_a_sample_that_comes_twice_is_shown_with_its_own_numbers_each_time(tmp_path: Path) -> None:
    av_set(tmp_path / "data")
    (seen,) = seen_of(av_run(tmp_path, optimization={"batch_size": 2}))
    first, second = seen.micro_batch.names
    assert [count.sigma for count in counts_of(seen, 0)] != [count.sigma for count in counts_of(seen, 1)]
    twice = attrs.evolve(seen, micro_batch=attrs.evolve(seen.micro_batch, names=(first, first)))
    different = ImageChops.difference(drawn([seen]), drawn([twice])).getbbox()
    assert second != first
    assert different is not None
    assert different[3] - different[1] < 40, "only the name of the second is another"
    column = next(iter(sample_table(list(counts(twice))).columns)).cells
    assert list(column) == [first, "", first, ""]


def test_a_picture_that_is_higher_than_usual_is_whole(one: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = picture([one], "What the model sees")
    monkeypatch.setattr(module, "USUAL_HEIGHT", 300)
    assert picture([one], "What the model sees") == whole


def test_a_frozen_modality_is_grey(tmp_path: Path) -> None:
    av_set(tmp_path / "data")
    (seen,) = seen_of(av_run(tmp_path, video={"is_generated": False, "latents_dir": "latents"}, audio=AUDIO))
    image = drawn([seen])
    assert {colour for colour, _ in runs(image, first_row(image, FROZEN) + 10)} == {FROZEN}


def test_a_soft_mask_has_as_many_shades_as_it_has_values_between(one: Seen) -> None:
    image = drawn([one])
    colours = {colour for _, colour in image.crop((LEFT, KEY, RIGHT, image.height)).getcolors(1 << 20)}
    between = {round(float(value), 4) for value in one.inputs["audio"].denoise_mask[0] if 0 < float(value) < 1}
    warm = {colour for colour in colours if colour[0] > 240 and colour[2] < 230 and colour[0] - colour[2] > 30}
    assert len(warm) == len(between) == 4


def test_a_modality_is_told_in_a_line(one: Seen) -> None:
    video, audio = counts(one)
    sigma = {name: f"{float(inputs.sigma[0]):.3f}" for name, inputs in one.inputs.items()}
    assert sentence(video) == (
        f"Tokens: 16 generated, 8 given, 6 appended; in the loss: 16; sigma: {sigma['video']}; conditions: reference, first_frame"
    )
    assert sentence(audio).startswith("Tokens: ")


def test_the_same_is_drawn_to_the_last_byte(one: Seen) -> None:
    assert picture([one], "a") == picture([one], "a") != picture([one], "b")
    assert drawn([one]).width == WIDTH


def test_a_picture_that_cannot_be_written_is_told_with_its_place(one: Seen, tmp_path: Path) -> None:
    path = tmp_path / "file" / "seen.png"
    path.parent.write_text("")
    with pytest.raises(DataError) as caught:
        write_picture(path, [one], "What the model sees")
    assert str(caught.value) == f"{path}: cannot be written: File exists\n    Free some space, or name another file."
