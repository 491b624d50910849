"""Whatever lies in the place of a file that a command reads, it answers in words; `python tests/fuzz/fuzzing.py` tries more of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fuzz.commands import COMMANDS
from helpers.sampling import SEED, drawn, sampled
from ltxcore.cli.main import COMMANDS as OF_THE_CORE
from ltxcore.registry import load

PART, PARTS = 5, 100
"""Inputs of a test, and tests of a command."""
KEPT_BY_RUNS = "bookkeeping"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("commands")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield folder
    torch.set_num_threads(threads)


def test_every_command_is_tried() -> None:
    added = {name for name, named in load(disabled=()).of_kind("command").items() if named.origin.distribution == "ltx"}
    assert {*COMMANDS} == {*OF_THE_CORE, *added, KEPT_BY_RUNS}


CASES = sampled(
    [(name, part) for name in COMMANDS for part in range(PARTS)],
    0,
    lambda case: {case[0]} - {KEPT_BY_RUNS},
    in_ci=[(name, part) for name in COMMANDS if name != KEPT_BY_RUNS for part in drawn(range(PARTS), 2, seed=SEED + 1)],
)
"""A part of each command, and in CI two more, but for what runs keep, which tests/compatibility/test_bookkeeping.py has a sample of."""


@pytest.mark.parametrize(("name", "part"), CASES)
def test_a_command_answers_in_words_whatever_it_reads(folder: Path, name: str, part: int) -> None:
    trials = COMMANDS[name](folder / "world")
    tried = {which: trials.trial(which) for which in (f"0/{name}/{number}" for number in range(part * PART, (part + 1) * PART))}
    assert [f"{which}: {wrong}" for which, (_, wrong) in tried.items() if wrong] == []
