"""What encoding is about to do is said before it does it: how much, of which sizes, and what it takes on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.raw_media import clip_file, dataset_file
from ltxcore.codecs.source import Codecs
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.encode.preprocess import preprocess
from ltxcore.encode.standing import Standing
from ltxcore.encode.survey import Survey
from ltxcore.runs import work_ahead
from ltxcore.runs.work_ahead import told


def said_of(folder: Path, buckets: str, rows: list[dict[str, str]]) -> tuple[list[str], Path]:
    """What is said before a dataset is encoded, and where its samples then are."""
    found: list[str] = []

    def before(seen: Survey, standing: Standing) -> None:
        found.extend(told(seen, standing))

    path = dataset_file(folder / "set.jsonl", rows)
    options = PreprocessingTable(resolution_buckets=buckets, on_error="skip")
    return found, preprocess(path, None, options, Codecs("tiny", device="cpu"), before=before).root


def test_sizes_are_counted_and_the_space_is_that_of_the_files(tmp_path: Path) -> None:
    for name, width, sound in (("a", 64, True), ("b", 64, False), ("c", 96, True)):
        clip_file(tmp_path / f"{name}.mp4", width=width, frames=33, sound=sound)
    rows = [{"video": f"{name}.mp4", "reference_video": f"{name}.mp4", "caption": "c"} for name in "abc"]
    lines, root = said_of(tmp_path, "64x64x33;96x64x17", rows)
    assert lines[:3] == [f"{tmp_path}/set.jsonl: 3 samples to encode", "  64x64x33         2 samples", "  96x64x17         1 sample"]
    files = [path for folder in ("latents", "reference_latents", "audio_latents") for path in (root / folder).glob("*.safetensors")]
    assert len(files) == 3 + 3 + 2
    size = sum(path.stat().st_size for path in files)
    assert float(lines[3].split()[0]) * 2**20 == pytest.approx(size, rel=0.15)


def test_many_sizes_are_summed_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_ahead, "SHOWN", 1)
    for number, width in enumerate((64, 64, 96, 128)):
        clip_file(tmp_path / f"{number}.mp4", width=width, frames=9)
    lines, _ = said_of(tmp_path, "64x64x9;96x64x9;128x64x9", [{"video": f"{number}.mp4", "caption": "c"} for number in range(4)])
    assert lines[1:3] == ["  64x64x9          2 samples", "  other sizes (2)  2 samples"]
