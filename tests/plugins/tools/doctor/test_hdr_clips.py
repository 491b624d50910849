"""The doctor says which clips are HDR, and what becomes of them."""

from pathlib import Path
from typing import Any

import pytest

from helpers.hdr_made import GREYS, HLG, STUDIO, as_yuv, patches, with_dolby_vision, write_hdr
from helpers.raw_media import clip_file, dataset_file, encode
from plugins.tools.doctor.healthy import checkup, findings

OPTIONS: dict[str, Any] = {"resolution_buckets": "128x64x9", "skip_audio": True}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """One clip of HLG, and one that is not HDR."""
    planes = patches(as_yuv(GREYS[:, ::8], 10, STUDIO), 64, 16)[..., :128]
    write_hdr(tmp_path / "a.mp4", planes, HLG, codec="libx265", pixels="yuv420p10le", frames=9)
    clip_file(tmp_path / "b.mp4", frames=9, height=64, width=128)
    return dataset_file(tmp_path / "set.jsonl", [{"video": f"{name}.mp4", "caption": f"the clip {name}"} for name in "ab"])


def test_clips_that_are_converted_are_named(data: Path) -> None:
    found = checkup(data, **OPTIONS)
    assert f'{data}: 1 file is HDR, and is converted to BT.709 (hdr = "bt709"): a.mp4.' in found.looked
    assert not found.findings


def test_clips_that_are_kept_are_named(data: Path) -> None:
    assert (
        f'{data}: 1 file is HDR, and is left as it is, flat and pale (hdr = "keep"): a.mp4.' in checkup(data, hdr="keep", **OPTIONS).looked
    )


def test_a_set_without_hdr_is_not_told_of(data: Path) -> None:
    dataset_file(data, [{"video": "b.mp4", "caption": "the other clip"}])
    assert not any("HDR" in sentence for sentence in checkup(data, **OPTIONS).looked)


def test_samples_that_were_encoded_with_the_pictures_kept_are_stale_where_they_are_to_be_converted(data: Path) -> None:
    encode(data, hdr="keep", **OPTIONS)
    assert not [each for each in findings(data, hdr="keep", model="tiny", **OPTIONS) if each.check == "stale"]
    stale = [each for each in findings(data, model="tiny", **OPTIONS) if each.check == "stale"]
    assert len(stale) == 1
    assert "a" in stale[0].where + stale[0].what


def test_dolby_vision_that_cannot_be_shown_is_an_error_with_its_row(data: Path) -> None:
    file = with_dolby_vision(data.parent / "a.mp4", 5, 0, box=b"dvcC")
    found = [each for each in findings(data, **OPTIONS) if each.check == "unreadable"]
    assert [each.where for each in found] == [f"{data}:1: {file}"]
    assert "Dolby Vision profile 5" in found[0].what
