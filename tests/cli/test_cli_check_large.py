"""`ltx check` of datasets of more files than it opens."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from cli.test_cli_check import check, raw_run
from helpers.raw_media import clip_file
from ltxcore.dataset.rows import Sample
from ltxcore.encode import survey
from ltxcore.encode.survey import spread


def samples(count: int, files: int = 1) -> list[Sample]:
    return [Sample(str(n), "", "", {f"role{file}": Path(f"{n}-{file}.mp4") for file in range(files)}) for n in range(count)]


@pytest.mark.parametrize(
    ("count", "files"), [(1, 1), (1, 3), (7, 1), (200, 1), (201, 1), (1999, 1), (100, 2), (150, 2), (150, 3), (5000, 7)]
)
def test_the_samples_that_are_opened_are_few_and_spread_over_all_and_the_same_ones_each_time(count: int, files: int) -> None:
    everything = samples(count, files)
    chosen = spread(everything)
    names = [sample.name for sample in chosen]
    assert len(chosen) == min(count, max(1, 200 // files))
    assert len(set(names)) == len(names)
    assert names == [sample.name for sample in spread(everything)]
    numbers = [int(name) for name in names]
    assert numbers == sorted(numbers)
    if len(numbers) > 1:
        assert (numbers[0], numbers[-1]) == (0, count - 1)
        steps = {after - before for before, after in itertools.pairwise(numbers)}
        assert max(steps) - min(steps) <= 1


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of 12 clips with captions, of which a check opens 5."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(survey, "MOST_OPENED", 5)
    clip_file(tmp_path / "one.mp4", frames=17)
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(12):
        os.link(tmp_path / "one.mp4", folder / f"{number:02d}.mp4")
        (folder / f"{number:02d}.txt").write_text("a clip")
    return folder


def test_a_run_says_how_many_files_were_not_opened_and_what_opens_them(many: Path) -> None:
    path = raw_run(many.parent, "clips")
    status, out, err = check(str(path))
    assert (status, err) == (0, "")
    assert f"{many}: resolution_buckets is 64x64x17, the size of all its clips that were opened\n" in out
    assert f"{many}: 5 of its files were opened, and 7 more were not; `ltx doctor {path}` opens every one.\n" in out
    (many / "01.mp4").unlink()
    (many / "01.mp4").write_bytes(b"no clip")  # not one of the five
    assert check(str(path))[0] == 0
    (many / "11.mp4").unlink()
    (many / "11.mp4").write_bytes(b"no clip")
    assert check(str(path))[2].startswith(f"{many}/11.mp4: this is not a clip")


def test_sizes_of_some_clips_that_differ_are_refused_with_a_word_that_they_are_of_some(many: Path) -> None:
    (many / "11.mp4").unlink()
    clip_file(many / "11.mp4", frames=9)
    status, _, err = check(str(raw_run(many.parent, "clips")))
    assert status == 2
    assert err.startswith(f"{many}: the clips have 2 sizes (width x height x frames): 64x64x9, 64x64x17 (of 5 files that were opened)\n")


def test_a_dataset_is_told_of_the_files_that_were_opened(many: Path) -> None:
    status, out, err = check("clips")
    assert (status, err) == (0, "")
    assert "clips is a dataset of 12 samples.\n  clips       5: 64 x 64 pixels, 17 frames" in out
    assert "This is based on 5 files spread over the dataset; 7 more were not opened. `ltx doctor clips` opens every file.\n" in out
    assert out.endswith('resolution_buckets = "64x64x17"\nThe files that were not opened may need other buckets.\n')
