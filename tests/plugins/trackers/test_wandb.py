"""Weights & Biases, offline: what it keeps on the disk is read back with its own reader."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ltxcore.media.probe import write_clip, write_sound
from ltxcore.protocols import Clip, Sound
from ltxcore.registry import load
from ltxplugins.trackers.wandb import Wandb

pytest.importorskip("wandb", reason="wandb is not installed")

TRACK = """
import sys, pathlib
from ltxcore.errors import ConfigError
from ltxplugins.trackers.wandb import Wandb
folder, first, mode = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
tracker = Wandb(project="mine", tags=["a"], mode=mode)
try:
    tracker.start(folder, {"seed": 1, "optimization": {"steps": 3}}, 3, first)
except ConfigError as error:
    print(error)
    raise SystemExit(2)
for step in range(first + 1, 4):
    tracker.log(step, {"loss": 1 / step, "loss/audio": 2 / step})
for name in ("one.mp4", "one.wav", "one.png"):
    tracker.sample(3, name, folder / name)
tracker.finish()
tracker.finish()
"""


def track(folder: Path, first: int = 0, mode: str = "offline", **environment: str) -> subprocess.CompletedProcess[str]:
    """A run in a process of its own, as wandb starts a service that outlives a test."""
    known = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    home = {"HOME": str(folder), "WANDB_CACHE_DIR": str(folder / "cache"), "WANDB_CONFIG_DIR": str(folder / "config")}
    return subprocess.run(
        [sys.executable, "-c", TRACK, str(folder), str(first), mode],
        capture_output=True,
        text=True,
        check=False,
        env={**known, **home, **environment},
        cwd=folder,
    )


def records(folder: Path) -> list:
    """What the offline runs of an output folder hold, in order."""
    from wandb.proto import wandb_internal_pb2

    found = []
    for path in sorted((folder / "wandb").glob("offline-run-*/*.wandb")):
        for content in log_of(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(content)
            found.append(record)
    return found


def log_of(data: bytes, block: int = 32768) -> Iterator[bytes]:
    """Records of a LevelDB log: after 7 bytes of wandb's own, in blocks of 32 KiB, each piece with checksum, length and kind before it (1 whole, 2 first, 3 middle, 4 last)."""
    position, pieces = 7, b""
    while position + 7 <= len(data):
        if block - position % block < 7:
            position += block - position % block
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        if not kind:
            return
        pieces = (b"" if kind in (1, 2) else pieces) + data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            yield pieces


def history(folder: Path) -> list[dict]:
    rows = [record.history for record in records(folder) if record.HasField("history")]
    return [{"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in row.item} for row in rows]


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("offline") / "home" / "alice" / "my_run"
    folder.mkdir(parents=True)
    subprocess.run(["git", "init", "-q", folder], check=True)
    subprocess.run(["git", "-C", folder, "remote", "add", "origin", "https://alice:word@example.org/a"], check=True)
    write_clip(folder / "one.mp4", Clip(torch.zeros(9, 32, 32, 3, dtype=torch.uint8), 8.0))
    write_clip(folder / "one.png", Clip(torch.zeros(1, 32, 32, 3, dtype=torch.uint8), 1.0))
    write_sound(folder / "one.wav", Sound(torch.zeros(2, 8000), 16000))
    done = track(folder)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    return folder


def test_the_wandb_tracker_is_registered_under_its_name() -> None:
    assert load().get("tracker", "wandb").value is Wandb


def test_numbers_are_kept_with_their_steps(offline: Path) -> None:
    losses = [(row["step"], row["loss"], row["loss/audio"]) for row in history(offline) if "loss" in row]
    assert losses == [(step, 1 / step, 2 / step) for step in (1, 2, 3)]


def test_samples_are_kept_as_what_they_are(offline: Path) -> None:
    kinds = {}
    for row in history(offline):
        for key, value in row.items():
            name, _, inner = key.removeprefix("samples/").partition("/")
            if key.startswith("samples/") and (inner == "_type" or isinstance(value, dict)):
                kinds[name] = value if inner else value["_type"]
    assert kinds == {"one.mp4": "video-file", "one.wav": "audio-file", "one.png": "image-file"}
    kept = {path.suffix for path in (offline / "wandb").rglob("media/**/*") if path.is_file()}
    assert kept == {".mp4", ".wav", ".png"}


def test_the_run_has_the_name_of_its_folder_its_project_its_tags_and_the_run_file(offline: Path) -> None:
    run = next(record.run for record in records(offline) if record.HasField("run"))
    assert (run.display_name, run.project, list(run.tags)) == ("my_run", "mine", ["a"])
    assert {item.key: json.loads(item.value_json) for item in run.config.update if item.key != "_wandb"} == {
        "seed": 1,
        "optimization": {"steps": 3},
    }


def test_a_run_that_goes_on_is_the_same_run(offline: Path) -> None:
    run_id = (offline / "wandb" / "ltx-run-id.txt").read_text().strip()
    assert track(offline, first=2).returncode == 0
    assert {record.run.run_id for record in records(offline) if record.HasField("run")} == {run_id}
    assert [row["step"] for row in history(offline) if "loss" in row] == [1, 2, 3, 3]
    assert track(offline).returncode == 0
    assert (offline / "wandb" / "ltx-run-id.txt").read_text().strip() != run_id


def test_where_nobody_is_logged_in_it_says_what_to_do(tmp_path: Path) -> None:
    done = track(tmp_path, mode="online", WANDB_BASE_URL="http://127.0.0.1:9", NETRC=str(tmp_path / "netrc"))
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout.startswith("trackers.wandb: Weights & Biases could not be started: ")
    assert done.stdout.endswith(
        '\n    Log in with `wandb login`, or keep the metrics on this machine: mode = "offline" under [trackers.wandb], or WANDB_MODE=offline.\n'
    )


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Wandb().problems() == []
    monkeypatch.setitem(sys.modules, "wandb", None)
    what = "the tracker for Weights & Biases needs the package wandb, which is not installed"
    assert Wandb().problems() == [((), what, 'Install it: pip install "ltx[wandb]"')]


def test_a_folder_of_that_name_is_no_package(tmp_path: Path) -> None:
    (tmp_path / "wandb").mkdir()
    code = "import sys; sys.path[:] = ['.', *(p for p in sys.path if 'site-packages' not in p)]; from ltxplugins.trackers.installed import missing; print(missing('wandb', 'W'))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert "which is not installed" in done.stdout, done.stderr


def test_nothing_is_sent_of_the_user_and_the_machines_files(offline: Path) -> None:
    sent = list((offline / "wandb").glob("offline-run-*/*.wandb"))
    assert sent
    assert not any(record.run.host for record in records(offline) if record.HasField("run"))
    for told in ("alice", str(offline.parent), "example.org", sys.executable):
        assert not [path for path in sent if told.encode() in path.read_bytes()]
