"""A source in a Python file, named by `--plugin`, reads a dataset for every command that takes one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from helpers.raw_media import clip_file
from ltxcore.cli.main import main

SCENARIO = """
import attrs
from ltxcore.api import hookimpl
from ltxcore.api.sources import Row, Table, read_text


@attrs.frozen
class Scenario:
    endings = (".scenario",)

    separator: str = " - "

    def read(self, path):
        rows = [line.partition(self.separator) for line in read_text(path).splitlines()]
        return Table(path, tuple(Row(number, {"video": clip, "caption": said}) for number, (clip, _, said) in enumerate(rows, start=1)))


@hookimpl
def ltx_sources():
    return {"scenario": Scenario}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for number in range(2):
        clip_file(tmp_path / f"{number}.mp4", seed=number)
    (tmp_path / "clips.scenario").write_text("0.mp4 - a car\n1.mp4 - a bus\n")
    (tmp_path / "scenario.py").write_text(SCENARIO)
    (tmp_path / "broken.py").write_text("x = y\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ltx(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, arguments)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


COMMANDS: Sequence[tuple[Sequence[str], str]] = [
    (("check", "clips.scenario"), "clips.scenario is a dataset of 2 samples."),
    (("preprocess", "clips.scenario", "--model-path", "tiny", "--no-progress"), "2 samples in "),
    (("doctor", "clips.scenario"), "clips.scenario: 2 rows without errors"),
    (("new", "t2v", "--model", "tiny", "--data", "clips.scenario"), "t2v.toml is valid."),
    (("captions", "clips.scenario"), "0.mp4 (2 words): a car"),
    (("reference", "clips.scenario", "-o", "set.jsonl", "--no-progress"), "2 made, 0 reused in set.jsonl"),
    (
        ("caption", "clips.scenario", "-o", "set.jsonl", "--base-url", "http://127.0.0.1:9", "--model", "m", "--no-progress"),
        "0 made, 2 reused in set.jsonl",
    ),
]


@pytest.mark.parametrize(("command", "said"), COMMANDS, ids=lambda value: value[0])
def test_a_command_that_takes_a_dataset_reads_it_with_a_source_in_a_python_file(command: Sequence[str], said: str, folder: Path) -> None:
    status, told = ltx(*command)
    assert status == 2
    assert ".scenario" in told
    status, told = ltx(*command, "--plugin", "broken.py")
    assert (status, f"{folder}/broken.py: this plugin is broken: NameError: name 'y' is not defined" in told) == (2, True), told
    status, told = ltx(*command, "--plugin", "scenario.py")
    assert (status, said in told) == (0, True), told


def test_captions_that_the_source_in_a_python_file_cannot_change_are_refused(folder: Path) -> None:
    for write in ((), ("--write",)):
        status, told = ltx("captions", "clips.scenario", "--plugin", "scenario.py", "--prefix", "film, ", *write)
        assert (status, told.startswith('clips.scenario: is read by the source "scenario", which cannot change captions')) == (2, True), (
            told
        )
    assert (folder / "clips.scenario").read_text() == "0.mp4 - a car\n1.mp4 - a bus\n"


def test_the_keys_of_a_source_in_a_python_file_are_options_too(folder: Path) -> None:
    (folder / "clips.scenario").write_text("0.mp4: a car\n")
    named = ("--plugin", "scenario.py", "--source", "scenario", "--source-params", "separator=: ")
    assert ltx("doctor", "clips.scenario", *named)[0] == 0
    status, told = ltx("doctor", "clips.scenario", *named[:-1], "seperator=: ")
    assert status == 2
    assert 'Did you mean "separator"?' in told


def test_a_run_file_that_is_begun_with_a_python_file_names_it(folder: Path) -> None:
    assert ltx("new", "t2v", "--model", "tiny", "--data", "clips.scenario", "--plugin", "scenario.py", "-o", "runs/a.toml")[0] == 0
    assert 'plugins = ["../scenario.py"]' in (folder / "runs/a.toml").read_text().splitlines()


@pytest.mark.parametrize("content", [b"0.mp4 - a car\n", b"SQLite format 3\x00\xff"], ids=["text", "bytes"])
@pytest.mark.parametrize("command", ["check", "doctor"])
def test_a_file_that_no_source_reads_is_no_run_file_either(command: str, content: bytes, folder: Path) -> None:
    (folder / "all.sqlite").write_bytes(content)
    assert ltx(command, "all.sqlite") == (
        2,
        "all.sqlite: is not a dataset, an encoded set or a run file\n    Name a folder, or a file in .jsonl, .csv, .tsv, .json, .parquet or .toml, "
        "or add a plugin with a source that reads it: install it, or name its Python file in --plugin or in the plugins of a run file.\n",
    )


@pytest.mark.parametrize("command", ["check", "doctor"])
def test_a_run_file_names_its_python_files_itself(command: str, folder: Path) -> None:
    (folder / "run.toml").write_text('output_dir = "out"\n')
    status, told = ltx(command, "run.toml", "--plugin", "scenario.py")
    assert status == 2
    assert "--plugin is for a dataset" in told
