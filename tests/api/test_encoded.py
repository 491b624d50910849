"""Samples of an encoded set through the public door."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from helpers.encoded_sets import put, put_text, values
from ltxcore.api import DataError
from ltxcore.api.encoded import list_encoded, read_sample


def test_each_kind_of_sample_is_read_as_its_tensors(tmp_path: Path) -> None:
    latents, mask = values(4, 2, 3, 3), values(2, 3, 3).sigmoid()
    put(tmp_path, "latents", "a", {"latents": latents})
    put(tmp_path, "video_masks", "a", {"mask": mask})
    put_text(tmp_path, "a", words=5)
    conditions, clips, masks = list_encoded(tmp_path).folders
    assert torch.equal(read_sample(clips.file("a"), "latents")["latents"], latents)
    assert torch.equal(read_sample(masks.file("a"), "mask")["mask"], mask)
    assert {name: len(tensor) for name, tensor in read_sample(conditions.file("a"), "text").items()} == {"video": 5, "audio": 5}


def test_another_kind_or_latents_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    put(tmp_path, "latents", "a", {"latents": values(4, 2, 3, 3) * float("nan")})
    path = tmp_path / "latents/a.safetensors"
    with pytest.raises(DataError) as error:
        read_sample(path, "mask")
    assert str(error.value) == f"{path}: holds video latents, not a mask"
    with pytest.raises(DataError, match="has NaN or infinite values"):
        read_sample(path, "latents")
