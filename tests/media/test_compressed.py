"""Images are compressed as one frame of H.264 and shown again."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from torch import Tensor

from helpers.media_made import gradient_clip
from ltxcore.media.compressed import compressed


def picture(height: int = 64, width: int = 96) -> Tensor:
    """A gradient with noise, as a sharp photo has it."""
    frames = gradient_clip(1, height, width).frames.float() * 0.7
    return (frames + 60 * torch.rand(frames.shape, generator=torch.Generator().manual_seed(0))).to(torch.uint8)


def through_a_file(frame: Tensor, path: Path, crf: int) -> Tensor:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(1), options={"crf": str(crf), "preset": "veryfast", "threads": "1"})
        stream.height, stream.width, stream.pix_fmt = frame.shape[0], frame.shape[1], "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(frame.numpy(), format="rgb24")))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        return torch.from_numpy(next(container.decode(video=0)).to_ndarray(format="rgb24"))


@pytest.mark.parametrize("crf", [18, 33])
def test_a_compressed_image_is_what_a_player_shows_of_a_clip_of_one_frame(crf: int, tmp_path: Path) -> None:
    frame = picture()
    found = compressed(frame, crf)
    assert torch.equal(found[0], through_a_file(frame[0], tmp_path / "a.mp4", crf))
    assert torch.equal(found, compressed(frame, crf))


def test_images_are_compressed_one_by_one_and_more_strongly_with_a_higher_crf() -> None:
    frame = picture()
    assert compressed(frame, 0) is frame
    errors = [float((compressed(frame, crf).float() - frame.float()).abs().mean()) for crf in (1, 18, 33, 51)]
    assert errors == sorted(errors)
    both = torch.cat([frame, frame.flip(1)])
    assert torch.equal(compressed(both, 33), torch.cat([compressed(frame, 33), compressed(frame.flip(1), 33)]))
