"""What a LoRA can be trained for: which mode goes with what, and that the page says the figures that are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from ltxcore.new.modes import MODES
from ltxcore.new.purposes import PURPOSES, WORDS, suits

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "new-run.md"


def test_every_mode_suits_what_it_is_mostly_for() -> None:
    assert all(suits(mode.purpose, mode) for mode in MODES.values())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("t2v", {"style", "subject", "motion", "voice"}),
        ("a2v", {"style", "subject", "motion"}),
        ("v2a", {"style", "subject", "voice"}),
        ("v2v_ic", {"ic-lora"}),
        ("a2a_ic", {"ic-lora"}),
        ("full_finetune", set()),
    ],
)
def test_a_mode_suits_what_it_generates(name: str, words: set[str]) -> None:
    assert {word for word in WORDS if suits(word, MODES[name])} == words


@pytest.mark.parametrize("word", PURPOSES)
def test_the_page_has_the_figures_that_are_written(word: str) -> None:
    means = PURPOSES[word]
    steps = f"{means.passes} times the clips, {means.fewest:,} to {means.most:,}"
    ranked = f"{means.rank} | " if means.rank else "| "
    (row,) = [
        row
        for row in PAGE.read_text().splitlines()
        if row.endswith(f"{ranked}{means.learning_rate} | {steps} |") and (f"`{word}`" in row or word == "full")
    ]
    assert f" {means.clips[0]} " in row
