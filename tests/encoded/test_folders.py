"""What an encoded set holds, folder by folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.encoded_sets import put, put_text, values
from ltxcore.encoded.folders import list_encoded
from ltxcore.errors import ConfigError, DataError


def small_set(root: Path) -> Path:
    put(root, "latents", "a", {"latents": values(4, 2, 3, 3)}, rate=16.0)
    put(root, "latents", "b", {"latents": values(4, 1, 3, 3)})
    put(root, "audio_latents", "a", {"latents": values(8, 5, 16)})
    put(root, "video_masks", "a", {"mask": values(2, 3, 3).sigmoid()})
    put_text(root, "a")
    return root


def test_folders_say_what_they_hold(tmp_path: Path) -> None:
    found = list_encoded(small_set(tmp_path))
    assert (found.root, found.problems) == (tmp_path, ())
    assert [(folder.name, folder.kind, folder.modality, list(folder.entries)) for folder in found.folders] == [
        ("audio_latents", "latents", "audio", ["a"]),
        ("conditions", "text", "video+audio", ["a"]),
        ("latents", "latents", "video", ["a", "b"]),
        ("video_masks", "mask", "video", ["a"]),
    ]
    assert found.folders[0].file("a") == tmp_path / "audio_latents/a.safetensors"


def test_the_folder_of_the_dataset_leads_to_its_set(tmp_path: Path) -> None:
    small_set(tmp_path / ".precomputed")
    assert list_encoded(tmp_path, ["latents"]).root == tmp_path / ".precomputed"


def test_sounds_go_with_the_pictures_of_their_name(tmp_path: Path) -> None:
    folders = {folder.name: folder for folder in list_encoded(small_set(tmp_path)).folders}
    assert folders["latents"].sounds_among(folders) == "audio_latents"
    assert folders["latents"].sounds_among({"latents"}) is None
    assert folders["audio_latents"].sounds_among(folders) is None
    assert folders["video_masks"].sounds_among(folders) is None


def test_a_mask_has_the_rate_of_its_clip_and_a_clip_that_does_not_say_the_usual_one(tmp_path: Path) -> None:
    found = list_encoded(small_set(tmp_path))
    folders = {folder.name: folder for folder in found.folders}
    assert [found.rate(folders["latents"], name) for name in "ab"] == [16.0, 24.0]
    assert found.rate(folders["video_masks"], "a") == 16.0
    alone = list_encoded(tmp_path, ["video_masks"])
    assert alone.rate(alone.folders[0], "a") == 24.0
    assert found.video_scale == (8, 32, 32)


def test_a_file_that_has_changed_is_told_and_is_no_sample(tmp_path: Path) -> None:
    path = small_set(tmp_path) / "latents/b.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    found = list_encoded(tmp_path, ["latents"])
    assert list(found.folders[0].entries) == ["a"]
    assert [str(problem) for problem in found.problems] == [
        f"{path}: has changed since it was recorded\n    Run `ltx preprocess --verify` on its dataset, which encodes damaged files again."
    ]


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        list_encoded(small_set(tmp_path), ["latent"])
    assert str(error.value) == f'{tmp_path}: has no folder "latent"\n    Did you mean "latents"?'
    with pytest.raises(DataError, match="there is no such folder"):
        list_encoded(tmp_path / "no")
