"""Run files of the examples with something changed are answered in words; `python tests/fuzzing.py` tries more of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fuzz.run_files import RunFiles

PART = 100


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunFiles]:
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield RunFiles.at(folder / "files")


def faults(files: RunFiles, seed: int, numbers: range) -> list[str]:
    tried = {f"{seed}/run files/{number}": files.trial(f"{seed}/run files/{number}") for number in numbers}
    return [f"{name}: {wrong}" for name, (_, wrong) in tried.items() if wrong]


def test_a_run_file_of_which_nothing_was_changed_is_in_order(files: RunFiles) -> None:
    for text in files.texts:
        assert files.said(text.encode()) == ("in order", "")


@pytest.mark.parametrize("part", range(15))
def test_a_run_file_that_was_changed_is_in_order_or_refused_in_words(files: RunFiles, part: int) -> None:
    assert faults(files, 0, range(part * PART, (part + 1) * PART)) == []


@pytest.mark.whole
@pytest.mark.parametrize("part", range(100))
def test_every_run_file_that_was_changed_is_in_order_or_refused_in_words(files: RunFiles, part: int) -> None:
    assert faults(files, 1, range(part * PART, (part + 1) * PART)) == []
