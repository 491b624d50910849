"""Pictures of clips are stored with the frames that they show, checked against the latents, and stacked into micro-batches."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from helpers.encoded_sets import TEXT, VIDEO, message, put, put_text, values
from ltxcore.encoded.manifest import read_manifest
from ltxcore.encoded.micro_batch import load_batch
from ltxcore.encoded.strategy_data import whole_set
from ltxcore.errors import DataError
from ltxcore.protocols import Source

PLACE = "training_strategy.video.conditions.0.keyframes_dir"
KEYFRAMES = Source("keyframes", "pictures", "video", where=PLACE, appends=True)
SOURCES = {"text": TEXT, "video": VIDEO, "video.cond0.keyframes": KEYFRAMES}
ADDS = (
    "Run `ltx preprocess` on its dataset with --keyframe-candidates 4, which adds the pictures and leaves the rest as it is; or name the "
    "dataset in data.dataset, and the run adds them."
)


def clip(root: Path, name: str, pictures: Tensor | None = None, frames: tuple[float, ...] = (0, 16), seed: int = 0) -> None:
    put_text(root, name)
    put(root, "latents", name, {"latents": values(16, 3, 2, 2, seed=seed)}, rate=16.0)
    if pictures is not None:
        put(root, "keyframes", name, {"pictures": pictures, "frames": torch.tensor(frames, dtype=torch.float32)})


def refused(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_manifest(root, SOURCES)
    return message(caught.value, root)


def test_a_micro_batch_has_them_stacked_with_their_frames(tmp_path: Path) -> None:
    clip(tmp_path, "a", values(2, 16, 1, 2, 2))
    clip(tmp_path, "b", values(2, 16, 1, 2, 2, seed=1), (0, 8))
    manifest = read_manifest(tmp_path, SOURCES)
    found = load_batch(tmp_path, SOURCES, ["b", "a"], list(SOURCES), manifest).pictures["video.cond0.keyframes"]
    assert torch.equal(found.latents, torch.stack([values(2, 16, 1, 2, 2, seed=1), values(2, 16, 1, 2, 2)]))
    assert found.frames.tolist() == [[0, 8], [0, 16]]
    entry = manifest.entries["video.cond0.keyframes"]["a"]
    assert (entry.shape, entry.kind, entry.modality, entry.rate) == ((2, 16, 1, 2, 2), "pictures", "video", None)


@pytest.mark.parametrize(
    ("shape", "frames", "said"),
    [
        ((2, 16, 2, 2), (0, 1), "pictures of shape [2, 16, 2, 2] are not [K, C, 1, H, W]"),
        ((2, 16, 3, 2, 2), (0, 1), "pictures of shape [2, 16, 3, 2, 2] are not [K, C, 1, H, W]"),
        ((2, 16, 1, 2, 2), (0, 1, 2), "there are 2 pictures, but frame numbers of shape [3]"),
        ((2, 16, 1, 2, 2), (0, -1), "the frame numbers of the pictures, 0, -1, must be whole numbers from 0"),
        ((2, 16, 1, 2, 2), (0, 0.5), "the frame numbers of the pictures, 0, 0.5, must be whole numbers from 0"),
        ((2, 16, 1, 2, 2), (0, float("nan")), "the frame numbers of the pictures, 0, nan, must be whole numbers from 0"),
    ],
)
def test_what_is_no_set_of_pictures_is_not_written(tmp_path: Path, shape: tuple[int, ...], frames: tuple[float, ...], said: str) -> None:
    with pytest.raises(DataError) as caught:
        clip(tmp_path, "a", values(*shape), frames)
    assert said in message(caught.value, tmp_path)


def test_a_set_that_was_encoded_without_them_is_named_with_what_to_do(tmp_path: Path) -> None:
    clip(tmp_path, "a")
    assert refused(tmp_path) == f'{PLACE}: there is no folder "keyframes" in ROOT\n    {ADDS}'


def test_clips_that_lack_them_are_named_with_what_to_do(tmp_path: Path) -> None:
    clip(tmp_path, "a", values(2, 16, 1, 2, 2))
    clip(tmp_path, "b")
    assert refused(tmp_path) == f'{PLACE}: "keyframes" lacks 1 sample of "conditions", "latents": b\n    {ADDS}'


def test_pictures_of_another_size_than_the_latents_are_named(tmp_path: Path) -> None:
    clip(tmp_path, "a", values(2, 16, 1, 2, 2))
    clip(tmp_path, "b", values(2, 16, 1, 2, 4))
    remedy = "\n    Run `ltx preprocess` again, with the options of the latents."
    assert (
        refused(tmp_path) == f'{PLACE}: the pictures of 1 sample of "keyframes" do not fit the latents: b (2 x 4 cells for 2 x 2){remedy}'
    )


def test_latents_are_no_pictures(tmp_path: Path) -> None:
    clip(tmp_path, "a")
    put(tmp_path, "keyframes", "a", {"latents": values(16, 3, 2, 2)}, rate=16.0)
    assert f'{PLACE}: "keyframes" is read as pictures of clips, but 1 sample holds video latents: a' in refused(tmp_path)


def test_a_set_without_a_run_file_is_read_with_them(tmp_path: Path) -> None:
    clip(tmp_path, "a", values(2, 16, 1, 2, 2))
    data = whole_set(tmp_path)
    assert data.sources["video.cond0.keyframes"].folder == "keyframes"
    manifest, problems = data.manifest()
    assert (problems, data.refusals(manifest)) == ((), ())
