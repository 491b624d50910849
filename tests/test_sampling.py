"""Samples of what is many: drawn by a seed, with all that has to be shown, and selected beside the whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from helpers.sampling import drawn

LETTERS = "abcdefghij"

TESTS = """
import pytest
from helpers.sampling import asked, sampled

@pytest.fixture(scope="module")
def made(request):
    return asked(request, "number")

@pytest.mark.parametrize("number", sampled(range(10), 3))
def test_one(made, number):
    print("made", len(made), number in made)
"""


def test_a_sample_is_that_of_its_seed_and_in_order() -> None:
    samples = [drawn(LETTERS, 4, seed=seed) for seed in range(20)]
    assert samples == [drawn(LETTERS, 4, seed=seed) for seed in range(20)]
    assert all(len(sample) == 4 and sample == sorted(sample) for sample in samples)
    assert {letter for sample in samples for letter in sample} == set(LETTERS)


def test_a_sample_shows_everything_even_where_it_takes_more() -> None:
    shows = {"a": "xy", "b": "x", "c": "z", "d": ""}
    assert {tuple(drawn(shows, 1, shows.__getitem__, seed)) for seed in range(20)} == {("a", "c")}
    assert drawn(shows, 9, shows.__getitem__) == ["a", "b", "c", "d"]


def test_a_run_takes_the_sample_and_the_whole_takes_all_and_what_they_share_is_made_for_those_that_are_asked(tmp_path: Path) -> None:
    path, root = tmp_path / "test_many.py", Path(__file__).parents[1]
    path.write_text(TESTS)
    two = [f"{path}::test_one[{number}]" for number in (5, 6)]
    for asked, count in (([path], 3), (["-m", "whole", path], 10), (["-m", "whole", *two], 2)):
        command = [sys.executable, "-m", "pytest", "-c", root / "pyproject.toml", "-n", "0", "-s", "-p", "no:cacheprovider", *asked]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        assert f"{count} passed" in done.stdout, done.stdout + done.stderr
        assert done.stdout.count(f"made {count} True") == count
