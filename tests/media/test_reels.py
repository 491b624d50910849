"""Windows that are read one after the other hold the frames that they hold when each is read by itself."""

from __future__ import annotations

import random
from contextlib import closing
from pathlib import Path

import pytest
import torch

from helpers.raw_media import clip_file
from ltxcore.errors import DataError
from ltxcore.media.probe import read_clip
from ltxcore.media.reels import Reels

FRAMES = 40


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip_file(tmp_path_factory.mktemp("film") / "film.mp4", frames=FRAMES, sound=False)


def test_windows_that_overlap_or_leave_gaps_or_go_back_hold_the_same_frames(film: Path) -> None:
    whole, draw = read_clip(film), random.Random(3)
    with closing(Reels()) as reels:
        for _ in range(6):
            start = 0
            while start < FRAMES:
                most = draw.randint(1, 12)
                found = reels.read(film, "whole", start, most)
                assert torch.equal(found.frames, whole.frames[start : start + most])
                assert found.rate == whole.rate
                start += draw.choice([0, 1, most - 1, most, most + 3])


def test_a_file_is_opened_once_for_windows_in_order_and_sizes_are_kept_apart(film: Path, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(film.read_bytes())
    half = read_clip(film, resize=lambda height, width: (height // 2, width // 2))
    whole = read_clip(film)
    with closing(Reels()) as reels:
        reels.read(path, "whole", 0, 9)
        reels.read(path, "half", 4, 9, resize=lambda height, width: (height // 2, width // 2))
        path.unlink()
        assert torch.equal(reels.read(path, "whole", 12, 9).frames, whole.frames[12:21])
        assert torch.equal(reels.read(path, "half", 8, 9).frames, half.frames[8:17])
        assert torch.equal(reels.read(path, "whole", 20, 9).frames, whole.frames[20:29])
        with pytest.raises(DataError, match="there is no such file"):
            reels.read(path, "whole", 0, 9)


def test_a_window_after_the_end_of_a_file_is_refused_and_one_that_crosses_it_is_short(film: Path) -> None:
    with closing(Reels()) as reels:
        assert reels.read(film, "whole", FRAMES - 3, 9).frames.shape[0] == 3
        with pytest.raises(DataError, match="its video stream is empty"):
            reels.read(film, "whole", FRAMES + 1, 9)
