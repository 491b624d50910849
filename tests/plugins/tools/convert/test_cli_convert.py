"""`ltx convert` writes a run file, tells what it could not say in it, and what is still to be corrected."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from helpers.converted_configs import MODEL, old_file
from helpers.other_trainers import job
from helpers.training_runs import sound_set
from ltxcore.cli.main import main
from ltxcore.models import TINY_BASE
from ltxplugins.tools.convert.command import ANYWHERE, HERE, TRAINERS
from ltxplugins.tools.convert.recognize import NAMES


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def convert(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, ["convert", *arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def test_a_run_file_is_printed(here: Path) -> None:
    (here / "old.yaml").write_text(old_file())
    status, out, err = convert("old.yaml")
    assert status == 0
    assert err == (
        f"\n{HERE}\n"
        "run.toml:4: model.model_path: there is no file or folder /models/ltx.safetensors\n"
        '    Paths are relative to the run file; "tiny" is the model that comes with ltx.\n'
        "run.toml:19: data.preprocessed_data_root: there is no folder /data\n"
        "    Correct the path, or set dataset, so that the data are encoded on first use.\n"
    )
    assert out.startswith('# Made by `ltx convert` from old.yaml.\n\n[model]\nmodel_path = "/models/ltx.safetensors"\n')


def test_a_run_file_is_written_and_tried(here: Path) -> None:
    shutil.copy(TINY_BASE, here / "ltx.safetensors")
    (here / "data").mkdir()
    (here / "old.yaml").write_text(old_file(model={"model_path": "ltx.safetensors"}, data={"preprocessed_data_root": "data"}))
    assert convert("old.yaml", "-o", "runs/new.toml") == (0, "Wrote runs/new.toml.\nRead it, then run: ltx check runs/new.toml\n", "")
    assert 'model_path = "../ltx.safetensors"' in (here / "runs" / "new.toml").read_text()


def test_what_ltx_check_will_refuse_is_told_and_nothing_else(here: Path) -> None:
    shutil.copy(TINY_BASE, here / "ltx.safetensors")
    sound_set(here / "data", count=1)
    (here / "old.yaml").write_text(
        old_file(
            model={"model_path": "ltx.safetensors"},
            data={"preprocessed_data_root": "data"},
            lora={"rank": 64, "target_modules": ["to_qq"]},
            optimization={"scheduler_type": "cosine_with_restarts", "scheduler_params": {"T_0": 0}},
            acceleration={"quantization": "int2-quanto", "mixed_precision_mode": "fp16", "offload_optimizer_during_validation": True},
        )
    )
    status, out, err = convert("old.yaml", "-o", "new.toml")
    assert (status, out) == (0, "Wrote new.toml.\n")
    remark, _, foreseen = err.partition(f"\n{ANYWHERE}\n")
    assert remark == (
        'line 20 of the old file: acceleration.mixed_precision_mode = "fp16" is written as "bf16": fp16 is not available: many gradients are smaller than '
        "its smallest number, so it would need loss scaling.\n"
    )
    places = [line.partition(": ")[2].partition(": ")[0] for line in foreseen.splitlines() if not line.startswith("    ")]
    assert sorted(places) == ["acceleration.quantization", "lora.target_modules", "optimization.scheduler_params"]
    text = (here / "new.toml").read_text()
    assert 'mixed_precision_mode = "bf16"\n' in text
    assert "offload_optimizer_during_validation = true\n" in text
    checked = CliRunner().invoke(main, ["check", "new.toml"])
    assert checked.exit_code == 2
    assert set(foreseen.splitlines()) <= set(checked.stderr.splitlines())


def test_what_is_still_to_be_corrected_is_told(here: Path) -> None:
    (here / "old.yaml").write_text(old_file(model={**MODEL["model"], "revision": 3}, data={"preprocessed_data_root": str(here)}))
    assert convert("old.yaml", "-o", "new.toml") == (
        0,
        "Wrote new.toml.\nRead it, then run: ltx check new.toml\n",
        "line 3 of the old file: model.revision = 3 is not converted: ltx-trainer does not have this key either.\n"
        "\n"
        f"{HERE}\n"
        "new.toml:4: model.model_path: there is no file or folder /models/ltx.safetensors\n"
        '    Paths are relative to the run file; "tiny" is the model that comes with ltx.\n',
    )


def test_a_job_of_ai_toolkit_is_converted_and_the_trainer_can_be_told(here: Path) -> None:
    (here / "job.yaml").write_text(job({"datasets.flip_x": True}))
    told = "line 15 of the old file: datasets[0].flip_x = true is not kept: ltx changes no pictures at random.\n"
    for arguments in ((), ("--from", "ai-toolkit")):
        status, out, err = convert("job.yaml", *arguments)
        assert status == 0
        assert out.startswith("# Made by `ltx convert` from job.yaml, a configuration of ai-toolkit.\n")
        assert err.startswith(f"{told}\n{HERE}\n")
    assert convert("job.yaml", "--from", "musubi")[0] == 2
    assert set(TRAINERS) == set(NAMES)


def test_a_file_that_is_there_is_not_overwritten(here: Path) -> None:
    (here / "old.yaml").write_text(old_file())
    (here / "new.toml").write_text("mine")
    assert convert("old.yaml", "-o", "new.toml") == (2, "", "new.toml already exists\n    Name another file with -o.\n")
    assert (here / "new.toml").read_text() == "mine"


def test_a_file_with_python_tags_is_refused_and_writes_nothing(here: Path) -> None:
    (here / "old.yaml").write_text(f"model: !!python/object/apply:os.mkdir ['{here / 'ran'}']\n")
    assert convert("old.yaml", "-o", "new.toml") == (
        2,
        "",
        "old.yaml:1: the tag !!python/object/apply:os.mkdir asks for more than a plain value; it was refused, and nothing was executed\n"
        "    Remove the tag, and write a plain value.\n",
    )
    assert [path.name for path in here.iterdir()] == ["old.yaml"]


def test_files_that_cannot_be_read_are_refused(here: Path) -> None:
    (here / "latin.yaml").write_bytes(b"prompt: \xe9\n")
    remedy = "    Name a configuration of another trainer.\n"
    assert convert("nowhere.yaml") == (2, "", f"nowhere.yaml: there is no such file\n{remedy}")
    assert convert(".") == (2, "", f".: cannot be read: Is a directory\n{remedy}")
    assert convert("latin.yaml") == (2, "", "latin.yaml: is not UTF-8 text\n    Save the file as UTF-8.\n")


def test_a_run_file_that_cannot_be_written_is_told(here: Path) -> None:
    (here / "old.yaml").write_text(old_file())
    told = "old.yaml/new.toml: cannot be written: File exists\n    Make room, or name another file with -o.\n"
    assert convert("old.yaml", "-o", "old.yaml/new.toml") == (2, "", told)
