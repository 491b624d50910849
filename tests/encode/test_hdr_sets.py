"""Datasets with HDR clips: converted, or kept as they are; and what becomes of samples that were encoded before."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers.encoded_sets import read_latents
from helpers.hdr_made import BT709, GREYS, HLG, PQ, STUDIO, as_rgb, as_yuv, middles, patches, shown, with_dolby_vision, write_hdr, write_png
from helpers.raw_media import dataset_file, encode, message, pictures
from ltxcore.codecs.tiny_video import TinyVideoCodec
from ltxcore.encode.buckets import Bucket
from ltxcore.encode.pixels import read_fitted
from ltxcore.encoded.manifest import read_source
from ltxcore.encoded.store import read_mask
from ltxcore.errors import DataError
from ltxcore.media.probe import write_clip

RAMP = GREYS[:, 4::8]
BUCKET = Bucket(128, 32, 9)
OPTIONS: dict[str, Any] = {"resolution_buckets": f"{BUCKET};128x32x1", "skip_audio": True}


def hdr_clip(path: Path, transfer: int = HLG, **options: Any) -> Path:
    """Eight greys, each 32 pixels wide, 64 pixels high: twice the size of the bucket."""
    return write_hdr(path, patches(as_yuv(RAMP, 10, STUDIO), 64, 32), transfer, frames=9, **options)


def plain_clip(path: Path) -> Path:
    write_clip(path, pictures(frames=9, height=32, width=128))
    return path


def set_of(folder: Path, *files: Path, **columns: str) -> Path:
    return dataset_file(folder / "set.jsonl", [{"video": file.name, "caption": "a ramp", **columns} for file in files])


def of_version_0_1_0(folder: str, file: Path, **more: Any) -> str:
    """The fingerprint that version 0.1.0 gave what it made of a file."""
    content = hashlib.sha256(file.read_bytes()).hexdigest()
    told = {"version": 2, "folder": folder, "content": content, "size": str(BUCKET), **more}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


@pytest.mark.parametrize("transfer", [HLG, PQ])
def test_latents_are_of_the_pictures_as_bt709_has_them(tmp_path: Path, transfer: int) -> None:
    file = hdr_clip(tmp_path / "a.mkv", transfer)
    summary = encode(set_of(tmp_path, file), **OPTIONS)
    clip = read_fitted(file, BUCKET)
    expected = shown(as_rgb(as_yuv(RAMP, 10, STUDIO), 10, STUDIO), transfer)
    assert np.abs(middles(clip.frames[4].numpy().astype(np.float64), 32, 16) - expected).max() < 1
    assert torch.equal(read_latents(summary.root / "latents/a.safetensors")[0], TinyVideoCodec().encode(clip))
    assert f'{tmp_path / "set.jsonl"}: 1 file is HDR, and is converted to BT.709 (hdr = "bt709"): a.mkv' in summary.notes


def test_pictures_can_be_kept_and_are_then_made_as_version_0_1_0_made_them(tmp_path: Path) -> None:
    file = hdr_clip(tmp_path / "a.mkv")
    summary = encode(set_of(tmp_path, file), hdr="keep", **OPTIONS)
    as_bt709 = read_fitted(hdr_clip(tmp_path / "b.mkv", BT709), BUCKET)
    assert torch.equal(read_latents(summary.root / "latents/a.safetensors")[0], TinyVideoCodec().encode(as_bt709))
    entry = read_source(summary.root, "latents")["a"]
    assert entry.fingerprint == of_version_0_1_0("latents", file, encoder=TinyVideoCodec().fingerprint, factor=1)
    assert f'{tmp_path / "set.jsonl"}: 1 file is HDR, and is left as it is, flat and pale (hdr = "keep"): a.mkv' in summary.notes


def test_of_a_set_of_version_0_1_0_the_hdr_clips_alone_are_encoded_anew(tmp_path: Path) -> None:
    data = set_of(tmp_path, hdr_clip(tmp_path / "a.mkv"), plain_clip(tmp_path / "b.mp4"))
    before = read_source(encode(data, hdr="keep", **OPTIONS).root, "latents")
    again = encode(data, **OPTIONS)
    assert (again.folders["latents"].done, again.folders["latents"].reused) == (1, 1)
    after = read_source(again.root, "latents")
    assert after["a"].fingerprint != before["a"].fingerprint
    assert after["b"].fingerprint == before["b"].fingerprint
    assert encode(data, **OPTIONS).done == 0
    kept = encode(data, hdr="keep", **OPTIONS)
    assert kept.folders["latents"].done == 1
    assert read_source(kept.root, "latents") == before


def test_references_and_stills_are_converted_too(tmp_path: Path) -> None:
    still = write_png(tmp_path / "a.png", np.moveaxis(patches(RAMP, 32, 16), 0, -1), PQ)
    summary = encode(set_of(tmp_path, still), **OPTIONS)
    expected = read_fitted(still, Bucket(128, 32, 1))
    assert np.abs(middles(expected.frames[0].numpy().astype(np.float64), 32, 16) - shown(RAMP, PQ)).max() < 1
    assert torch.equal(read_latents(summary.root / "latents/a.safetensors")[0], TinyVideoCodec().encode(expected))
    folder = tmp_path / "references"
    folder.mkdir()
    reference = hdr_clip(folder / "r.mkv")
    summary = encode(set_of(folder, plain_clip(folder / "a.mp4"), reference_video="r.mkv"), **OPTIONS)
    assert torch.equal(
        read_latents(summary.root / "reference_latents/a.safetensors")[0], TinyVideoCodec().encode(read_fitted(reference, BUCKET))
    )
    assert any("r.mkv" in note for note in summary.notes)


def test_a_mask_is_numbers_and_no_light(tmp_path: Path) -> None:
    grey = as_yuv(np.full((3, 1), 0.5), 10, STUDIO)
    mask = write_hdr(tmp_path / "m.mkv", patches(grey, 64, 256), HLG, frames=9)
    summary = encode(set_of(tmp_path, plain_clip(tmp_path / "a.mp4"), video_mask="m.mkv"), **OPTIONS)
    assert read_mask(summary.root / "video_masks/a.safetensors").unique().tolist() == pytest.approx([0.5], abs=0.005)
    entry = read_source(summary.root, "video_masks")["a"]
    assert entry.fingerprint == of_version_0_1_0("video_masks", mask, encoder="", scale=list(TinyVideoCodec().scale))
    assert not any("HDR" in note for note in summary.notes)


def test_dolby_vision_that_cannot_be_shown_is_refused_with_its_row_and_can_be_left_out(tmp_path: Path) -> None:
    options = {"codec": "libx265", "pixels": "yuv420p10le"}
    with_dolby_vision(hdr_clip(tmp_path / "a.mp4", **options), 5, 0, box=b"dvcC")
    with_dolby_vision(hdr_clip(tmp_path / "b.mp4", **options), 8, 4, box=b"dvvC")
    data = set_of(tmp_path, tmp_path / "a.mp4", tmp_path / "b.mp4")
    with pytest.raises(DataError) as refused:
        encode(data, **OPTIONS)
    assert f"{data}:1: {tmp_path / 'a.mp4'}" in message(refused)
    assert "Dolby Vision profile 5" in message(refused)
    summary = encode(data, on_error="skip", **OPTIONS)
    assert summary.samples == ("b",)
    assert len(summary.refused) == 1


def test_a_clip_that_is_not_hdr_is_not_told_of(tmp_path: Path) -> None:
    summary = encode(set_of(tmp_path, plain_clip(tmp_path / "a.mp4")), **OPTIONS)
    assert not any("HDR" in note for note in summary.notes)
