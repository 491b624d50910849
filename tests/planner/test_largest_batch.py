"""The model's inputs that a plan counts hold everything that the run may append."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from helpers.inspected_sets import COLUMNS, FRAMES, ROWS, av_run, av_set
from helpers.mixed_sets import mixed_set, mixed_tables
from helpers.training_runs import put, write_run
from ltxcore.config.load import LoadedRun, load_run
from ltxcore.encode.buckets import Bucket
from ltxcore.encoded.manifest import read_manifest
from ltxcore.planner.costs import cost, told
from ltxcore.planner.largest_batch import inputs_of, of_bucket, of_manifest
from ltxcore.runs.passes import load_of, stored_tokens
from ltxcore.runs.run_plan import draft

CELLS = ROWS * COLUMNS


def keyframes_run(folder: Path) -> LoadedRun:
    """A run that appends one to three of four pictures."""
    drawn = {"one_of": [[0, -1], [1], [0, 1, -1]]}
    condition = {"type": "keyframes", "keyframes_dir": "keyframes", "candidates": drawn, "probability": 0.5}
    return av_run(folder, video={"is_generated": True, "latents_dir": "latents", "conditions": [condition]})


def test_keyframes_count_as_many_as_a_micro_batch_may_draw(tmp_path: Path) -> None:
    av_set(tmp_path / "data", 2)
    for number in range(2):
        told = {"pictures": torch.randn(4, 128, 1, ROWS, COLUMNS), "frames": torch.tensor([0.0, 3.0, 9.0, 16.0])}
        put(tmp_path / "data", "keyframes", f"clips/clip{number}", told, fingerprint=f"k{number}")
    found = draft(keyframes_run(tmp_path), 1, writes=False).checked()
    manifest = read_manifest(found.root, found.strategy.sources())
    for shapes in (of_manifest(manifest, found), of_bucket(found, found.base, Bucket(COLUMNS * 32, ROWS * 32, 17))):
        assert shapes.roles["video.cond0.keyframes"] == (4, 128, 1, ROWS, COLUMNS)
        video = inputs_of(found, found.base, shapes, 2)["video"]
        assert video.tokens.shape[1] == FRAMES * CELLS + 3 * CELLS
    tokens = stored_tokens(manifest, found.strategy.sources(), "clips/clip0")
    assert tokens == (FRAMES + 4) * CELLS + 8


def test_the_largest_sample_may_lack_a_modality_and_a_video_token_counts_twice(tmp_path: Path) -> None:
    root = mixed_set(tmp_path / "data", {"clip": ("video", "audio"), "sound": ("audio",)})
    told = {"fingerprint": "long", "origin": "long.wav"}
    put(root, "latents", "clip", {"latents": torch.randn(128, 3, 2, 2)}, rate=16.0, **{**told, "origin": "clip.mp4"})
    loaded = load_run(write_run(tmp_path, mixed_tables(root, tmp_path / "out")))
    found = draft(loaded, 1, writes=False).checked()
    sources = found.strategy.sources()
    manifest = read_manifest(root, sources)
    assert [load_of(manifest, sources, name) for name in ("clip", "sound")] == [2 * 12 + 8, 8]
    assert of_manifest(manifest, found).absent == frozenset()
    put(root, "audio_latents", "sound", {"latents": torch.randn(8, 40, 16)}, **told)
    put(root, "audio_masks", "sound", {"mask": torch.zeros(40)}, **told)
    shapes = of_manifest(read_manifest(root, sources), found)
    assert shapes.absent == {"video"}
    inputs = inputs_of(found, found.base, shapes, 2)
    assert {name: given.tokens.shape[1] for name, given in inputs.items()} == {"video": 1, "audio": 40}


@pytest.mark.whole
def test_a_plan_says_how_many_samples_have_which_modalities(tmp_path: Path) -> None:
    loaded = load_run(write_run(tmp_path, mixed_tables(mixed_set(tmp_path / "data"), tmp_path / "out")))
    rows = dict(row for _, part in told(cost(loaded, 1, 2**34)) for row in part)
    assert rows["samples"] == "4 samples have video and audio, 4 video alone and 2 audio alone"
