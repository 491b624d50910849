from __future__ import annotations

import pytest

from ltxcore.dataset.openings import without_opening


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("The video shows a dog.", "A dog."),
        ("the clip depicts two boats at sea", "Two boats at sea"),
        ("This footage captures: rain", "Rain"),
        ("A video showing a red disc", "A red disc"),
        ("The scene opens with a door that creaks", "A door that creaks"),
        ("In this video, we see a man on a bench", "A man on a bench"),
        ("In the scene there are five birds", "Five birds"),
        ("Throughout the recording, a bell rings", "A bell rings"),
        ("We can see the moon", "The moon"),
        ("Sure, here's a short description of the video: The video features an old mill.", "An old mill."),
        ("Here is the caption: a cat", "A cat"),
        ("  The image displays snow  ", "Snow"),
        ("The video shows\nwaves", "Waves"),
    ],
)
def test_how_a_model_begins_a_caption_is_left_out(caption: str, expected: str) -> None:
    assert without_opening(caption) == expected


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "  a dog, as it was written ",
        "The video game shows its score",
        "In the video store a man reads",
        "Sure-footed goats climb",
        "The videotape shows its age",
        "A dog, and the video shows it",
        "The sound of rain",
        "The video shows ",
        "We seek shelter",
    ],
)
def test_other_captions_stay_to_the_letter(caption: str) -> None:
    assert without_opening(caption) == caption
