"""`ltx launch` before it starts anything, and what launchers put before the command."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from helpers.training_runs import sound_set, tables, write_run
from ltxcore.cli.main import main


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sound_set(tmp_path_factory.mktemp("data") / "data")


def ltx(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def told(result: Result, folder: Path) -> list[str]:
    return result.output.replace(str(folder), "TMP").splitlines()


def test_without_gpus_one_says_how_many_processes(data: Path, tmp_path: Path) -> None:
    result = ltx("launch", str(write_run(tmp_path, tables(data, tmp_path / "out"))))
    assert result.exit_code == 2
    assert told(result, tmp_path)[-1] == "Error: There is no GPU here. Say how many processes to start on the CPU: --num-gpus 2"


def test_what_is_wrong_is_told_before_any_process_is_started(data: Path, tmp_path: Path) -> None:
    lines = write_run(tmp_path, tables(data, tmp_path / "out", engine={"name": "single"})).read_text().splitlines()
    result = ltx("launch", "--num-gpus", "2", str(tmp_path / "run.toml"))
    assert result.exit_code == 2
    assert told(result, tmp_path) == [
        f'TMP/run.toml:{lines.index("[engine]") + 2}: engine.name: "single" is an engine for one process, but there are 2',
        "    Start the run without a launcher.",
    ]
    assert not (tmp_path / "out").exists()


def test_an_optimizer_for_one_process_is_refused_for_several(data: Path, tmp_path: Path) -> None:
    run = tables(data, tmp_path / "out", optimization={"optimizer_type": "muon"})
    lines = write_run(tmp_path, run).read_text().splitlines()
    result = ltx("launch", "--num-gpus", "2", str(tmp_path / "run.toml"))
    key = next(number for number, line in enumerate(lines, 1) if line.startswith("optimizer_type"))
    assert told(result, tmp_path) == [
        f'TMP/run.toml:{key}: optimization.optimizer_type: "muon" would train differently with several processes, '
        "which give it flat pieces of many weights at a time",
        '    Use "adamw", or train in one process.',
    ]
    assert not (tmp_path / "out").exists()


def test_a_contradiction_with_a_deepspeed_configuration_is_told_for_the_number_of_processes_asked_for(data: Path, tmp_path: Path) -> None:
    (tmp_path / "ds.json").write_text('{"train_batch_size": 16}')
    path = write_run(tmp_path, tables(data, tmp_path / "out", engine={"deepspeed_config": str(tmp_path / "ds.json")}))
    result = ltx("launch", "--num-gpus", "3", str(path))
    assert told(result, tmp_path) == [
        "TMP/ds.json: train_batch_size is 16, but batch size x accumulation x processes is 4 x 1 x 3 = 12",
        '    Make the two values equal, or write "auto" in the DeepSpeed configuration.',
    ]
    assert ltx("check", str(path), "--set", "engine.name=zero").exit_code == 0


def test_a_hostfile_without_this_machine_is_told(data: Path, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("192.0.2.7 slots=2\n")
    result = ltx("launch", "--hostfile", str(tmp_path / "hosts"), str(write_run(tmp_path, tables(data, tmp_path / "out"))))
    assert result.exit_code == 2
    assert told(result, tmp_path)[-1] == "    Give the number of this machine's line, counted from 0, with --node-rank."


@pytest.mark.parametrize("option", ["--local_rank=1", "--local-rank=1"])
def test_the_rank_that_launchers_put_before_the_command_is_taken(option: str) -> None:
    result = ltx(option, "check", "--help")
    assert result.exit_code == 0
    assert result.output.startswith("Usage: main check")


def test_without_deepspeed_its_launcher_and_several_processes_are_refused_in_words(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_run(tmp_path, tables(data, tmp_path / "out"))
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    remedy = 'Install it (Linux; on Windows, within WSL), or train in one process: engine.name = "auto", without a launcher.'
    result = ltx("launch", "--num-gpus", "1", "--launcher", "deepspeed", str(path))
    assert (result.exit_code, told(result, tmp_path)[-1]) == (
        2,
        f"Error: --launcher deepspeed needs the package deepspeed, which is not installed. {remedy}",
    )
    result = ltx("launch", "--num-gpus", "2", str(path))
    assert (result.exit_code, told(result, tmp_path)) == (
        2,
        [
            "TMP/run.toml:1: engine.name: training in several processes needs the package deepspeed, which is not installed",
            f"    {remedy}",
        ],
    )


def test_on_windows_one_process_is_offered(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_run(tmp_path, tables(data, tmp_path / "out"))
    monkeypatch.setattr(sys, "platform", "win32")
    result = ltx("launch", "--num-gpus", "2", str(path))
    assert result.exit_code == 2
    expected = "Error: Several processes can only be started on Linux or in WSL. On Windows, train in one process: ltx run RUN_FILE"
    assert told(result, tmp_path)[-1] == expected
