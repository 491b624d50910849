"""Every command that writes, killed at any write and refused by the disk at any write: given again, it makes what it would have made without that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from helpers.converted_configs import old_file
from helpers.older_runs import brought

WORKER = Path(__file__).parent / "helpers" / "interrupted.py"

RUN = ["out/new/*.safetensors", "out/new/metrics.jsonl", "out/new/run.toml", "out/new/samples/*"]
SET = ["out/set/*/**/*.safetensors"]

SMALL = ["--set", "model.model_path=small.safetensors"]
"""A model of one block, in which a run takes a second."""

CAPTION = ["--base-url", "{server}", "--model", "m", "--frames", "1", "--size", "32", "--workers", "1", "--no-progress"]

DRAWN = ["--model", "tiny", "--inference-steps", "2", "--no-generate-video"]

COMMANDS: dict[str, dict[str, Any]] = {
    "run": {
        "command": ["run", "single.toml", "--set", "output_dir=out/new", "--set", "checkpoints.interval=1", *SMALL],
        "outputs": RUN,
        "checkpoints": "out/new/checkpoints",
    },
    "start over": {
        "command": ["run", "single.toml", "--set", "checkpoints.no_resume=true", "--set", "checkpoints.interval=3", *SMALL],
        "outputs": [pattern.replace("new", "single") for pattern in RUN],
    },
    "go on": {
        "command": ["run", "out/single/run.toml"],
        "outputs": [pattern.replace("new", "single") for pattern in RUN],
        "checkpoints": "out/single/checkpoints",
    },
    "preprocess": {
        "command": ["preprocess", "plain/clips.jsonl", "--model-path", "tiny", "--output-dir", "out/set", "--no-progress"],
        "outputs": SET,
    },
    "inspect": {
        "command": [
            "inspect",
            "single.toml",
            "--set",
            "output_dir=out/new",
            *SMALL,
            "--png",
            "out/seen.png",
            "--dump",
            "out/seen.safetensors",
        ],
        "outputs": ["out/seen.*", "plain/.precomputed/*/**/*.safetensors"],
    },
    "export": {
        "command": ["export", "out/finished/lora.safetensors", "--for", "comfyui", "-o", "out/exported.safetensors"],
        "outputs": ["out/exported.safetensors"],
    },
    "report": {"command": ["report", "out/finished"], "outputs": ["out/finished/report.html"]},
    "decode": {"command": ["decode", "plain/.precomputed", "-o", "out/decoded", "--no-progress"], "outputs": ["out/decoded/**/*.*"]},
    "reference": {
        "command": ["reference", "plain/clips.jsonl", "-o", "references.jsonl", "--no-progress"],
        "outputs": ["references.jsonl", "references/**/*.mp4"],
    },
    "split": {
        "command": ["split", "plain/clips", "-o", "out/scenes", "--min-seconds", "0", "--no-progress"],
        "outputs": ["out/scenes/**/*.mp4", "out/scenes/dataset.jsonl"],
    },
    "caption": {"command": ["caption", "plain/clips", "-o", "out/set.jsonl", *CAPTION], "outputs": ["out/set.jsonl"]},
    "caption beside": {"command": ["caption", "plain/clips", *CAPTION], "outputs": ["plain/clips/*.txt"]},
    "captions": {
        "command": ["captions", "told", "--replace", "disc", "disc disc", "--write"],
        "outputs": ["told/*.txt"],
    },
    "sample": {
        "command": ["sample", "a square", "--model", "tiny", "--video-dims", "64x64x9", "--inference-steps", "2", "-o", "out/square.mp4"],
        "outputs": ["out/square.mp4"],
    },
    "sample a file": {
        "command": ["sample", "prompts.jsonl", *DRAWN, "-o", "out/drawn.wav"],
        "outputs": ["out/drawn*"],
    },
    "sample to a folder": {"command": ["sample", "prompts.jsonl", *DRAWN, "-o", "out/all"], "outputs": ["out/all/*"]},
    "publish": {"command": ["publish", "out/finished", "--to", "me/it", "--dry-run", "out/upload"], "outputs": ["out/upload/**/*"]},
    "convert": {"command": ["convert", "old.yaml", "-o", "out/old.toml"], "outputs": ["out/old.toml"]},
    "plugins new": {"command": ["plugins", "new", "every_other", "--into", "out"], "outputs": ["out/ltx-every-other/**/*"]},
}
"""Every command that writes; the others only print."""


def results(tmp_path: Path, jobs: dict[str, dict[str, Any]], limit: float) -> dict[str, dict[str, Any]]:
    path, memory = tmp_path / "jobs.json", Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as place:
        folder = brought(Path(place) / "films")
        (folder / "old.yaml").write_text(old_file())
        (folder / "prompts.jsonl").write_text('{"prompt": "one"}\n{"prompt": "two"}\n{"prompt": "three"}\n')
        (folder / "told").mkdir()
        for number in range(3):
            (folder / f"told/{number}.mp4").touch()
            (folder / f"told/{number}.txt").write_text(f"a disc {number}\n")
        path.write_text(json.dumps({name: {"folder": str(folder), **job} for name, job in jobs.items()}))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "ignore"}
        done = subprocess.run([sys.executable, WORKER, path], env=environment, timeout=limit, check=False)
    assert done.returncode == 0
    found: dict[str, dict[str, Any]] = json.loads(path.with_suffix(".results").read_text())
    return found


def sound(found: dict[str, dict[str, Any]]) -> None:
    wrong = [f"{name}: {what}" for name, result in found.items() for what in result["wrong"]]
    assert not wrong, "\n\n".join(wrong)
    assert all(result["tried"] for result in found.values())


@pytest.mark.whole
@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("fault", ["kill", "ENOSPC", "EDQUOT", "EROFS", "ENOENT"])
def test_a_command_goes_on_from_every_fault(tmp_path: Path, name: str, fault: str) -> None:
    """As far as it is, it tells with `-n 0 -s`; LTX_FIRST is the moment to begin at."""
    sound(results(tmp_path, {name: {**COMMANDS[name], "fault": fault, "first": int(os.environ.get("LTX_FIRST", "1"))}}, 6 * 3600))


def sampled(tmp_path: Path, points: int, *faults: tuple[str, str]) -> None:
    """Some moments of each command, spread over what it does; the whole is above."""
    sound(results(tmp_path, {f"{name} {fault}": {**COMMANDS[name], "fault": fault, "points": points} for name, fault in faults}, 900))


def test_small_commands_killed_and_without_room_lose_nothing(tmp_path: Path) -> None:
    sampled(
        tmp_path,
        1,
        ("export", "kill"),
        ("convert", "kill"),
        ("plugins new", "kill"),
        ("caption beside", "kill"),
        ("captions", "kill"),
        ("publish", "EDQUOT"),
    )


@pytest.mark.slow
def test_large_commands_killed_and_without_room_lose_nothing(tmp_path: Path) -> None:
    sampled(tmp_path, 1, ("run", "kill"), ("go on", "ENOSPC"), ("start over", "kill"), ("preprocess", "ENOENT"), ("decode", "EROFS"))
    sampled(tmp_path, 1, ("inspect", "kill"), ("sample", "kill"), ("caption", "ENOSPC"))


@pytest.mark.slow
def test_a_run_whose_disk_is_read_only_full_or_gone_keeps_its_last_checkpoint_and_goes_on(tmp_path: Path) -> None:
    sampled(tmp_path, 5, ("run", "EROFS"), ("run", "ENOENT"), ("run", "EDQUOT"))
