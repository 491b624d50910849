"""Real processes that encode one dataset together, some of which are killed, against one that does it all."""

from __future__ import annotations

import json
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from helpers.launches import finish, start, torchrun
from helpers.raw_media import clip_file, dataset_file, encode, mask_file
from ltxcore.encode.ledger import Summary
from ltxcore.encoded.manifest import read_source

FOLDERS = ("conditions", "latents", "audio_latents", "audio_masks")
OPTIONS = ("--model-path", "tiny", "--resolution-buckets", "64x64x17;64x32x17", "--on-error", "skip", "--no-progress")

LATE = """
import sys, time
real = time.time
time.time = lambda: real() - 86_400
time.time_ns = lambda: round(time.time() * 1e9)
from ltxcore.cli.main import main
sys.argv[0] = "ltx"
main()
"""
"""A program that runs `ltx` with a clock that is a day behind."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty rows: whole ones of two shapes, a clip without sound and one that is too short."""
    folder = tmp_path_factory.mktemp("shared")
    rows = []
    for index in range(20):
        frames = 9 if index == 2 else 17
        clip_file(folder / f"clips/{index}.mp4", seed=index, sound=index != 4, height=32 if index % 2 else 64, frames=frames)
        mask_file(folder / f"masks/{index}.wav", [1.0, 0.0, 1.0])
        rows.append({"video": f"clips/{index}.mp4", "audio_mask": f"masks/{index}.wav", "caption": f"clip number {index % 15}"})
    return dataset_file(folder / "set.jsonl", rows)


@pytest.fixture(scope="module")
def alone(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Summary:
    return encode(dataset, tmp_path_factory.mktemp("alone") / "one", resolution_buckets="64x64x17;64x32x17", on_error="skip")


def files(root: Path) -> dict[str, bytes]:
    """The encoded samples, byte for byte, without the hidden file that a killed process was writing."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("[!.]*.safetensors"))}


def manifests(root: Path) -> dict[str, list[dict[str, Any]]]:
    """The lines of all manifests, without the times in them."""
    found = {}
    for path in sorted(root.rglob("manifest*.jsonl")):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        found[path.relative_to(root).as_posix()] = [{key: value for key, value in line.items() if key != "time"} for line in lines]
    return found


def shares(said: str) -> list[dict[str, tuple[int, int, int]]]:
    """Of each process: files made, reused and made by others, by folder."""
    pattern = r"^(\w+) +(\d+) made +(\d+) reused(?: +(\d+) made by others)?$"
    found: list[dict[str, tuple[int, int, int]]] = []
    for folder, *counts in re.findall(pattern, said, re.MULTILINE):
        if folder == FOLDERS[0]:
            found.append({})
        found[-1][folder] = tuple(int(count or 0) for count in counts)  # type: ignore[assignment]
    return found


def command(dataset: Path, root: Path) -> list[str]:
    return ["preprocess", str(dataset), "--output-dir", str(root), *OPTIONS, "--workers", "1"]


def check_as_if_alone(root: Path, alone: Summary) -> None:
    assert files(root) == files(alone.root)
    assert manifests(root) == manifests(alone.root)
    assert not [path.name for path in root.iterdir() if path.name.startswith(".")]


def test_processes_of_a_launcher_make_every_sample_once_and_what_one_would_make(dataset: Path, alone: Summary, tmp_path: Path) -> None:
    root = tmp_path / "two"
    whole = {folder: counts.done for folder, counts in alone.folders.items()}
    assert whole == dict(zip(FOLDERS, (19, 19, 18, 18), strict=True))
    for first in (True, False):
        process = start([*torchrun(2, "-m", "ltxcore"), *command(dataset, root)])
        said = finish(process, 300)
        assert process.returncode == 0, said
        told = shares(said)
        assert len(told) == 2, said
        for folder, count in whole.items():
            assert sum(each[folder][0] for each in told) == (count if first else 0)
            assert all(sum(each[folder]) == count for each in told)
        assert said.count("18 samples in") == 1
        check_as_if_alone(root, alone)


def test_what_a_killed_process_leaves_is_done_by_those_that_started_beside_it(dataset: Path, alone: Summary, tmp_path: Path) -> None:
    """Three processes know nothing of each other but the folder; one of them has a clock that is a day behind, and one is killed."""
    root = tmp_path / "three"
    killed, *others = (
        start([sys.executable, *program, *command(dataset, root)]) for program in (("-m", "ltxcore"), ("-m", "ltxcore"), ("-c", LATE))
    )
    try:
        until = time.monotonic() + 200
        while not list(root.glob("latents/clips/*.safetensors")) and time.monotonic() < until:
            time.sleep(0.002)
    finally:
        killed.send_signal(signal.SIGKILL)
        finish(killed, 60)
    for process in others:
        said = finish(process, 300)
        assert process.returncode == 0, said
        assert "18 samples in" in said
        ((_, (made, reused, by_others)), *_) = shares(said)[0].items()
        assert made + reused + by_others == 19
    check_as_if_alone(root, alone)
    assert read_source(root, "latents").keys() == read_source(alone.root, "latents").keys()


def test_a_new_version_of_a_sample_counts_although_the_clock_of_its_process_is_behind(tmp_path: Path) -> None:
    clips = [clip_file(tmp_path / f"{index}.mp4", seed=index, height=64) for index in range(4)]
    path = dataset_file(tmp_path / "set.jsonl", [{"video": clip.name, "caption": clip.stem} for clip in clips])
    root = tmp_path / "root"
    encode(path, root, skip_audio=True, resolution_buckets="64x64x9")
    arguments = ["preprocess", str(path), "--output-dir", str(root), "--model-path", "tiny", "--resolution-buckets", "64x64x17"]
    late = [start([sys.executable, "-c", LATE, *arguments, "--skip-audio", "--no-progress"]) for _ in range(2)]
    for process in late:
        said = finish(process, 300)
        assert process.returncode == 0, said
    assert {entry.shape[1] for entry in read_source(root, "latents").values()} == {3}
    assert [entry["shape"][1] for entry in manifests(root)["latents/manifest-0.jsonl"]] == [3] * 4
