"""Run files of the examples with something changed are answered in words; `python tests/fuzz/fuzzing.py` tries more of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fuzz.run_files import RunFiles
from helpers.sampling import drawn, sampled

PART = 100
"""Run files of a test."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunFiles]:
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield RunFiles.at(folder / "files")


def test_a_run_file_of_which_nothing_was_changed_is_in_order(files: RunFiles) -> None:
    for text in files.texts:
        assert files.said(text.encode()) == ("in order", "")


@pytest.mark.parametrize("part", sampled(range(100), 3, in_ci=drawn(range(100), 8)))
def test_a_run_file_that_was_changed_is_in_order_or_refused_in_words(files: RunFiles, part: int) -> None:
    tried = {name: files.trial(name) for name in (f"0/run files/{number}" for number in range(part * PART, (part + 1) * PART))}
    assert [f"{name}: {wrong}" for name, (_, wrong) in tried.items() if wrong] == []
