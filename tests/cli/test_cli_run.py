"""`ltx run` from the command line: what it says at the end, and how it ends."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from helpers.training_runs import STOPPER, sound_set, tables, write_run
from ltxcore.cli.main import main


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sound_set(tmp_path_factory.mktemp("data") / "data")


def ltx(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def told(result: Result, folder: Path) -> list[str]:
    return result.output.replace(str(folder), "TMP").splitlines()


def test_a_run_says_where_everything_is_and_what_to_listen_to(data: Path, tmp_path: Path) -> None:
    result = ltx("-q", "run", str(write_run(tmp_path, tables(data, tmp_path / "out"))), "--set", "optimization.steps=2")
    assert (result.exit_code, result.stderr) == (0, "")
    table, said = told(result, tmp_path)[:6], told(result, tmp_path)[6:]
    assert table[0].rstrip() == "Validation loss of generated tokens at sigma 0.9, 4 held-out clips"
    assert said[:-1] == [
        "Done, 2 steps. In TMP/out:",
        "  lora.safetensors     the LoRA",
        "  metrics.jsonl        all metrics of the run, one JSON object per line",
        "  report.html          the report: did it learn, curves, samples, how to use it",
        "  run.toml             the run file, with every value spelled out",
        "  samples/             held-out clips generated before and after training, beside their originals",
        "Listen and compare:",
        "  TMP/out/samples/step_000000_1.wav",
        "  TMP/out/samples/step_000002_1.wav",
        "  TMP/out/samples/original_1.wav",
        "Generate with the trained weights (replace the words in capitals with your own files):",
    ]
    _, *words = shlex.split(said[-1])
    assert words[:3] == ["sample", "what you want to see and hear", "--model"]
    assert words[4:8] == ["--lora", "TMP/out/lora.safetensors", "--condition", "type=mask,audio=SOUND.wav,mask=MASK.wav"]
    assert words[8:] == ["--no-generate-video", "-o", "sample.wav"]
    again = ltx("run", str(tmp_path / "run.toml"))
    assert again.exit_code == 2
    assert told(again, tmp_path) == [
        "TMP/run.toml:1: output_dir: TMP/out holds a finished run, which is not overwritten",
        "    Choose another output_dir, or move that folder away.",
    ]


def test_samples_of_the_run_file_are_called_so(data: Path, tmp_path: Path) -> None:
    asked = {"samples": [{"prompt": "a tone"}], "video_dims": [32, 32, 9]}
    result = ltx("run", str(write_run(tmp_path, tables(data, tmp_path / "out", validation=asked))), "--set", "optimization.steps=1")
    assert told(result, tmp_path)[-6:-2] == [
        "  samples/             the samples of the run file, step by step",
        "Listen and compare:",
        "  TMP/out/samples/step_000000_1.wav",
        "  TMP/out/samples/step_000001_1.wav",
    ]


def test_an_interrupted_run_tells_the_command_that_goes_on_and_ends_as_an_interrupt(data: Path, tmp_path: Path) -> None:
    (tmp_path / "stopper.py").write_text(STOPPER)
    stopper = {"plugins": [str(tmp_path / "stopper.py")], "trackers": {"stopper": {"at": 1}}}
    result = ltx("run", str(write_run(tmp_path, tables(data, tmp_path / "out", **stopper))))
    assert result.exit_code == 130
    assert told(result, tmp_path)[-2:] == ["Stopped after step 1. Resume with:", "  ltx run TMP/out/run.toml"]
    resumed = ltx("run", str(tmp_path / "out" / "run.toml"))
    assert resumed.exit_code == 0, resumed.output
    assert "resuming after step 1" in told(resumed, tmp_path)
    assert "Done, 4 steps. In TMP/out:" in told(resumed, tmp_path)


@pytest.mark.parametrize(
    ("checkpoints", "what"),
    [
        ({"no_resume": True}, "The same command starts over, because checkpoints.no_resume is set."),
        (
            {"save_training_state": "off"},
            'The run keeps no training state (save_training_state = "off"), so it cannot be resumed; its last weights are in TMP/out/checkpoints/step_000001.',
        ),
    ],
)
def test_an_interrupted_run_that_cannot_be_resumed_tells_no_command_that_would_start_it_over(
    data: Path, tmp_path: Path, checkpoints: dict[str, object], what: str
) -> None:
    (tmp_path / "stopper.py").write_text(STOPPER)
    stopper = {"plugins": [str(tmp_path / "stopper.py")], "trackers": {"stopper": {"at": 1}}}
    result = ltx("run", str(write_run(tmp_path, tables(data, tmp_path / "out", checkpoints=checkpoints, **stopper))))
    assert result.exit_code == 130
    assert told(result, tmp_path)[-2:] == ["Stopped after step 1.", f"  {what}"]


def test_a_mistake_prints_without_a_traceback_and_leaves_no_folder(data: Path, tmp_path: Path) -> None:
    run_file = write_run(tmp_path, tables(data, tmp_path / "out", lora={"target_modules": ["to_qq"]}))
    result = ltx("run", str(run_file))
    line = next(n for n, text in enumerate(run_file.read_text().splitlines(), 1) if text.startswith("target_modules"))
    assert result.exit_code == 2
    assert told(result, tmp_path)[0] == f'TMP/run.toml:{line}: lora.target_modules: the LoRA target "to_qq" does not match any module'
    assert not (tmp_path / "out").exists()
