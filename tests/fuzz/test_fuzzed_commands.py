"""Whatever lies in the place of a file that a command reads, it answers in words; `python tests/fuzzing.py` tries more of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fuzz.commands import COMMANDS, Trials
from ltxcore.cli.main import COMMANDS as OF_THE_CORE
from ltxcore.registry import load

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


def faults(trials: Trials, seed: int, name: str, count: int) -> list[str]:
    tried = {which: trials.trial(which) for which in (f"{seed}/{name}/{number}" for number in range(count))}
    return [f"{which}: {wrong}" for which, (_, wrong) in tried.items() if wrong]


def test_every_command_is_tried() -> None:
    added = {name for name, named in load(disabled=()).of_kind("command").items() if named.origin.distribution == "ltx"}
    assert {*COMMANDS} == {*OF_THE_CORE, *added, KEPT_BY_RUNS}


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != KEPT_BY_RUNS])
def test_a_command_answers_in_words_whatever_it_reads(folder: Path, name: str) -> None:
    assert faults(COMMANDS[name](folder / "world"), 0, name, 40) == []


@pytest.mark.whole
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_answers_in_words_whatever_it_reads_of_much(folder: Path, name: str) -> None:
    assert faults(COMMANDS[name](folder / "world"), 1, name, 500) == []
