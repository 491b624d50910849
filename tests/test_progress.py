"""What is being done, on a terminal and elsewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ltxcore.logs import telling
from ltxcore.progress import Bar, bars, doing


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error stream is one."""
    for name, value in (("FORCE_COLOR", "1"), ("COLUMNS", "140"), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    """What the error stream was told, without colours; the output is told nothing."""
    out, err = capsys.readouterr()
    assert out == ""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", err)


@pytest.mark.usefixtures("terminal")
def test_every_phase_has_a_bar_that_stays(capsys: pytest.CaptureFixture[str]) -> None:
    with bars() as phase:
        for name, steps in (("[files]", 2), ("captions", 3)):
            step = phase(name, steps)
            for _ in range(steps):
                step()
    last = shown(capsys).splitlines()[-2:]
    assert [(line.split()[0], "/".join(re.findall(r"(\d)/(\d)", line)[0])) for line in last] == [("[files]", "2/2"), ("captions", "3/3")]


@pytest.mark.usefixtures("terminal")
def test_no_bar_is_shown_where_none_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    with bars(False) as phase:
        phase("files", 1)()
    assert shown(capsys) == ""


@pytest.mark.usefixtures("terminal")
def test_no_progress_is_shown_to_whom_warnings_are_enough(capsys: pytest.CaptureFixture[str]) -> None:
    with telling("quiet"), bars(True) as phase, doing() as tell:
        phase("files", 1)()
        tell("reading")
        assert Bar.begun("Training", 4) is None
    assert shown(capsys) == ""


def test_a_stream_that_is_no_terminal_is_shown_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with bars() as phase:
        phase("files", 1)()
    assert Bar.begun("Training", 4) is None
    assert shown(capsys) == ""


@pytest.mark.usefixtures("terminal")
def test_a_bar_says_how_far_it_is_and_what_there_is_to_say_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Bar.begun("Training", 4, done=1)
    assert bar is not None
    bar.show(3, "loss [1.0]", "Drawing")
    bar.end()
    said = shown(capsys)
    assert re.search(r"Drawing .* 3/4 loss \[1\.0\] ", said)


@pytest.mark.usefixtures("terminal")
def test_on_a_terminal_what_is_done_is_one_line_with_its_time(capsys: pytest.CaptureFixture[str]) -> None:
    with doing() as tell:
        tell("measuring [a]")
    assert re.search(r"measuring \[a\] 0:00:00", shown(capsys))


def test_elsewhere_what_is_done_is_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    with telling(""), doing() as tell:
        tell("reading")
        tell("measuring")
    assert shown(capsys) == "reading\nmeasuring\n"


def test_progress_goes_to_the_file_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = tmp_path / "progress.json"
    monkeypatch.setenv("LTX_PROGRESS", str(told))
    monkeypatch.setattr("ltxcore.progress.NOTED_SECONDS", 0)
    with bars() as phase:
        step = phase("[clips]", 2)
        assert json.loads(told.read_text()) == {"name": "clips", "done": 0, "steps": 2}
        step()
        assert json.loads(told.read_text())["done"] == 1
        phase("captions", 3)
        assert json.loads(told.read_text()) == {"name": "captions", "done": 0, "steps": 3}
    assert not told.exists()
    assert shown(capsys) == ""


def test_the_file_is_not_written_for_every_one_of_many_quick_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "progress.json"
    monkeypatch.setenv("LTX_PROGRESS", str(told))
    monkeypatch.setattr("ltxcore.progress.NOTED_SECONDS", 3600)
    with bars() as phase:
        step = phase("clips", 2)
        step()
        assert json.loads(told.read_text())["done"] == 0


def test_a_file_of_progress_that_cannot_be_written_does_not_end_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LTX_PROGRESS", str(tmp_path / "nowhere" / "progress.json"))
    with bars() as phase:
        phase("clips", 1)()


@pytest.mark.parametrize(("variable", "value"), [("RANK", "1"), ("LTX_PROGRESS", "")])
def test_one_process_alone_writes_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv("LTX_PROGRESS", str(tmp_path / "progress.json"))
    monkeypatch.setenv(variable, value)
    with bars() as phase:
        phase("clips", 1)()
        assert list(tmp_path.iterdir()) == []
