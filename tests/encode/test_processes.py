"""`torchrun -m ltxcore preprocess`: two real processes that share the work, against one that does it all."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
from safetensors import safe_open

from helpers.launches import finish, start, torchrun
from helpers.raw_media import clip_file, dataset_file, encode, mask_file

FOLDERS = ("conditions", "latents", "audio_latents", "audio_masks")
OPTIONS = ("--model-path", "tiny", "--resolution-buckets", "64x64x17;64x32x17", "--on-error", "skip", "--no-progress")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven rows: five whole ones of two shapes, a clip without sound and one that is too short."""
    folder = tmp_path_factory.mktemp("shared")
    rows = []
    for index in range(7):
        frames = 9 if index == 2 else 17
        clip_file(folder / f"clips/{index}.mp4", seed=index, sound=index != 4, height=32 if index % 2 else 64, frames=frames)
        mask_file(folder / f"masks/{index}.wav", [1.0, 0.0, 1.0])
        rows.append({"video": f"clips/{index}.mp4", "audio_mask": f"masks/{index}.wav", "caption": f"clip number {index}"})
    return dataset_file(folder / "set.jsonl", rows)


def contents(root: Path) -> dict[str, tuple[dict[str, str], dict[str, bytes]]]:
    """Every sample: what its header says, and the bytes of its tensors."""
    found = {}
    for path in sorted(root.rglob("*.safetensors")):
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key).numpy().tobytes() for key in file.keys()}  # noqa: SIM118 (not a mapping)
            found[path.relative_to(root).as_posix()] = (file.metadata(), tensors)
    return found


def shares(said: str) -> dict[int, dict[str, tuple[int, int]]]:
    """Of each process that said its share: files made and reused, by folder."""
    told: dict[int, dict[str, tuple[int, int]]] = {}
    for rank, counts in re.findall(r"process (\d) of 2:\n((?:\w+ +\d+ made +\d+ reused\n)+)", said):
        lines = re.findall(r"(\w+) +(\d+) made +(\d+) reused\n", counts)
        told[int(rank)] = {folder: (int(made), int(reused)) for folder, made, reused in lines}
    return told


def test_two_processes_make_every_sample_once_and_what_one_would_make(dataset: Path, tmp_path: Path) -> None:
    alone = encode(dataset, tmp_path / "one", resolution_buckets="64x64x17;64x32x17", on_error="skip")
    assert {folder: counts.done for folder, counts in alone.folders.items()} == dict(zip(FOLDERS, (6, 6, 5, 5), strict=True))
    root = tmp_path / "two"
    command = [*torchrun(2, "-m", "ltxcore", "preprocess"), str(dataset), "--output-dir", str(root), *OPTIONS]
    for first in (True, False):
        process = start(command)
        said = finish(process, 300)
        assert process.returncode == 0, said
        told = shares(said)
        assert sorted(told) == [0, 1], said
        sums = {folder: tuple(map(sum, zip(told[0][folder], told[1][folder], strict=True))) for folder in FOLDERS}
        whole = {folder: counts.done for folder, counts in alone.folders.items()}
        assert sums == {folder: (made, 0) if first else (0, made) for folder, made in whole.items()}
        assert all(sum(told[rank]["latents"]) == 3 for rank in (0, 1))
        closing = str(alone).replace(str(alone.root), str(root)).partition("5 samples")
        assert said.count(closing[1] + closing[2]) == 1
        assert said.count("samples in") == 1
    assert contents(root) == contents(tmp_path / "one")
    for folder in FOLDERS:
        lines = [json.loads(line) for path in (root / folder).glob("manifest-*.jsonl") for line in path.read_text().splitlines()]
        assert set(Counter(line["name"] for line in lines).values()) == {1}
        assert len(list((root / folder).glob("manifest-*.jsonl"))) == 2
