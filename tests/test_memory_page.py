"""The page of what each way to train costs is what `ltx plan` computes."""

from __future__ import annotations

import pytest

import memory


@pytest.mark.slow
def test_the_page_of_memory_is_computed() -> None:
    assert memory.PAGE.read_text() == memory.page()
