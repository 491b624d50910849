"""What each way to train costs, on its page and in the README, is what `ltx plan` computes."""

from __future__ import annotations

import pytest

import memory
from helpers.sampling import sampled


def test_the_page_of_memory_has_its_introduction_and_the_models_in_order() -> None:
    introduction, *models = memory.PAGE.read_text().split("\n## ")
    assert introduction == memory.INTRODUCTION
    assert [text.partition("\n")[0] for text in models] == [*memory.MODELS]


@pytest.mark.slow
@pytest.mark.parametrize("model", sampled(memory.MODELS, 1))
def test_what_the_page_of_memory_says_of_a_model_is_computed(model: str) -> None:
    _, *models = memory.PAGE.read_text().split("\n## ")
    assert f"## {models[memory.MODELS.index(model)]}".rstrip() == memory.of_model(model).rstrip()


@pytest.mark.slow
@pytest.mark.parametrize("column", sampled(range(len(memory.COLUMNS)), 1))
def test_the_hardware_at_a_glance_is_computed(column: int) -> None:
    table = memory.README.read_text(encoding="utf-8").partition(memory.BEGIN)[2].partition(memory.END)[0]
    _, _, *cards = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("|")]
    assert [card[0] for card in cards] == [f"{card} GB" for card in memory.CARDS]
    assert [card[1 + column] for card in cards] == memory.fits(*memory.COLUMNS[column]), "run: python docs/made/memory.py"
