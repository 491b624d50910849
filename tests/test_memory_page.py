"""What each way to train costs, on its page and in the README, is what `ltx plan` computes."""

from __future__ import annotations

import pytest

import memory
from pages import between


@pytest.mark.slow
def test_the_page_of_memory_is_computed() -> None:
    assert memory.PAGE.read_text() == memory.page()


@pytest.mark.slow
def test_the_hardware_at_a_glance_is_computed() -> None:
    text = memory.README.read_text(encoding="utf-8")
    assert text == between(text, memory.BEGIN, memory.END, memory.glance()), "run: python docs/made/memory.py"
