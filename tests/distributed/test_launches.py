"""Every way to start several processes gives the same run; interrupting one saves it; and what goes wrong is told once.

Takes about two minutes on two free cores.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from safetensors.torch import load_file

from helpers.engine_modes import make_set, run_tables, write, zero
from helpers.launches import CHECKED, UNCHECKED, finish, start, torchrun
from helpers.sampling import sampled
from ltxcore.engines.launcher import free_port

pytestmark = pytest.mark.slow

LTX = [sys.executable, "-m", "ltxcore"]
DEEPSPEED = [sys.executable, "-m", "deepspeed.launcher.runner"]
MODE = "audio_inpainting"
SHORT = {"steps": 3, "batch_size": 2, "learning_rate": 2e-3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("launches")
    make_set(path / "data")
    return path


def run_file(folder: Path, name: str, mode: str = MODE, **changed: object) -> Path:
    tables = {"optimization": SHORT, "engine": {**zero(folder, 3), "name": "auto"}, "data": {"held_out": 0}, **changed}
    return write(folder, name, run_tables(mode, folder / "data", folder / name, **tables))


@pytest.fixture(scope="module")
def own(folder: Path) -> list[float]:
    """Losses of a run of two processes of `ltx launch`, each message of which is checked against that of the other process."""
    return finished(folder, "own", [*LTX, "launch", "--num-gpus", "2"], CHECKED)


def finished(folder: Path, name: str, command: list[str], environment: Mapping[str, str] = UNCHECKED) -> list[float]:
    """Losses of a run that a launcher starts."""
    process = start([*command, str(run_file(folder, name))], **environment)
    said = finish(process, limit=900)
    assert process.returncode == 0, said
    assert said.count("Done, 3 steps.") == 1, said
    assert "in 2 processes" in said
    return losses(folder / name)


OTHERS = {
    "deepspeed_of_ours": [*LTX, "launch", "--launcher", "deepspeed", "--num-gpus", "2"],
    "torchrun": torchrun(2, "-m", "ltxcore", "run"),
    "deepspeed": [*DEEPSPEED, "--num_gpus", "2", "--master_port", "29541", "--module", "ltxcore", "run"],
}


# The other two start and end in test_ends too.
@pytest.mark.parametrize("launcher", sampled(OTHERS, 0, lambda launcher: {launcher} & {"deepspeed"}))
def test_every_launcher_gives_the_same_run(folder: Path, own: list[float], launcher: str) -> None:
    assert finished(folder, launcher, OTHERS[launcher]) == own


def test_machines_of_a_hostfile_give_the_same_run_as_one(folder: Path, own: list[float]) -> None:
    """This machine twice, by two of its names: the same command on each, with the number of its line."""
    hosts = folder / "hosts"
    hosts.write_text("localhost slots=1\n127.0.0.1 slots=1\n")
    path = run_file(folder, "two_machines")
    port = ["--master-port", str(free_port())]
    two = [start([*LTX, "launch", "--hostfile", str(hosts), "--node-rank", str(rank), *port, str(path)], **UNCHECKED) for rank in (0, 1)]
    said = [finish(process, limit=900) for process in two]
    assert [process.returncode for process in two] == [0, 0], said
    assert [text.count("Done, 3 steps.") for text in said] == [1, 0], said
    assert "in 2 processes" in said[0]
    assert losses(folder / "two_machines") == own


def losses(output: Path) -> list[float]:
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def test_the_example_trains_all_weights_in_bf16_from_raw_clips_that_two_processes_share(folder: Path) -> None:
    example = Path(__file__).parents[2] / "examples" / "full_finetune_zero3.toml"
    shutil.copytree(example.parent / "media", folder / "media", ignore=shutil.ignore_patterns(".precomputed"))
    dataset = folder / "media" / "clips.jsonl"
    dataset.write_text("\n".join(dataset.read_text().splitlines()[:12]))
    settings = {
        "model.model_path": "tiny-untrained",
        "output_dir": folder / "example",
        "optimization.steps": 2,
        "data.dataset": dataset,
        "data.held_out": 2,
        "validation.inference_steps": 2,
        "validation.skip_initial_validation": "true",
        "checkpoints.precision": "float32",
    }
    process = start(
        [*LTX, "launch", "--num-gpus", "2", str(example), *(f"--set={key}={value}" for key, value in settings.items())], **UNCHECKED
    )
    said = finish(process, limit=900)
    assert process.returncode == 0, said
    assert [path.name for path in (folder / "media" / ".precomputed" / "latents").glob("manifest*")] == ["manifest-0.jsonl"]
    weights = load_file(folder / "example" / "model.safetensors")
    assert any(bool((tensor.bfloat16().float() != tensor).any()) for tensor in weights.values()), (
        "float32 masters are saved, not their bf16 copies"
    )


def test_an_interrupted_launch_saves_and_tells_the_command_that_goes_on(folder: Path) -> None:
    path = run_file(folder, "interrupted", optimization={**SHORT, "steps": 2000})
    process = start([*LTX, "launch", "--num-gpus", "2", str(path)], **UNCHECKED)
    wait_for(folder / "interrupted" / "metrics.jsonl", lines=4)
    process.send_signal(signal.SIGTERM)
    said = finish(process, limit=900)
    assert process.returncode == 130, said
    assert said.count("Stopped after step") == 1, said
    assert said.splitlines()[-1].strip() == f"ltx launch --num-gpus 2 {folder / 'interrupted' / 'run.toml'}"
    assert len(list((folder / "interrupted" / "checkpoints").glob("step_*/manifest.json"))) == 1


def wait_for(path: Path, lines: int) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and (not path.exists() or len(path.read_text().splitlines()) < lines):
        time.sleep(0.1)


def test_a_sample_that_one_process_cannot_read_ends_both_and_is_told_once(folder: Path) -> None:
    torn = folder / "torn"
    make_set(torn)
    sample = torn / "audio_latents" / "sound05.safetensors"
    sample.write_bytes(bytes(sample.stat().st_size))  # of the right size, so that only reading it shows
    data = {"preprocessed_data_root": str(torn), "held_out": 0, "num_dataloader_workers": 1}
    tables = run_tables(MODE, torn, folder / "torn.out", optimization={**SHORT, "steps": 30}, engine=zero(folder, 3), data=data)
    process = start([*LTX, "launch", "--num-gpus", "2", str(write(folder, "torn_run", tables))], **UNCHECKED)
    said = finish(process, limit=900)
    assert process.returncode == 2, said
    assert "Traceback" not in said
    assert "ended without a message" not in said
    assert said.count("sound05.safetensors") == 1, said


def test_what_all_processes_find_wrong_is_told_once(folder: Path) -> None:
    process = start([*torchrun(2, "-m", "ltxcore", "run"), str(run_file(folder, "wrong")), "--set", "engine.name=single"])
    said = finish(process, limit=900)
    assert process.returncode != 0
    assert said.count('"single" is an engine for one process, but there are 2') == 1, said
