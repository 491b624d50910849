from __future__ import annotations

from pathlib import Path

import av
import pytest
import torch

from helpers.raw_media import pictures
from ltxcore.encode.buckets import Bucket
from ltxcore.encode.pixels import Cover, causal_means, cell_means, read_fitted, subsampled
from ltxcore.errors import DataError
from ltxcore.media.probe import read_clip, write_clip


@pytest.mark.parametrize(
    ("height", "width", "bucket", "resized", "top", "left"),
    [
        (64, 64, Bucket(64, 64, 1), (64, 64), 0, 0),
        (720, 1280, Bucket(640, 352, 1), (360, 640), 4, 0),
        (1080, 1920, Bucket(960, 544, 1), (544, 967), 0, 3),
        (1920, 1080, Bucket(544, 960, 1), (967, 544), 3, 0),
        (64, 64, Bucket(128, 64, 1), (128, 128), 32, 0),
    ],
)
def test_a_frame_covers_its_bucket_and_loses_as_much_at_both_ends(
    height: int, width: int, bucket: Bucket, resized: tuple[int, int], top: int, left: int
) -> None:
    cover = Cover.of(height, width, bucket)
    assert (cover.resized, cover.top, cover.left) == (resized, top, left)
    assert cover.resized[0] >= bucket.height
    assert cover.resized[1] >= bucket.width
    assert bucket.height == resized[0] or bucket.width == resized[1]


def stills(folder: Path, frames: torch.Tensor) -> Path:
    """Frames `[F, H, W, 3]` as a file without loss."""
    with av.open(str(folder / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=24)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "bgr0"
        for pixels in frames.numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="bgr0")))
        container.mux(stream.encode(None))
    return folder / "a.mkv"


def test_a_frame_of_the_right_height_is_only_cropped_to_its_centre(tmp_path: Path) -> None:
    frames = torch.randint(0, 256, (2, 32, 100, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    clip = read_fitted(stills(tmp_path, frames), Bucket(64, 32, 2))
    assert torch.equal(clip.frames, frames[:, :, 18:82])
    assert clip.rate == 24.0


@pytest.mark.parametrize(("height", "width"), [(96, 128), (180, 320), (24, 40)])
def test_a_resize_is_bicubic_with_antialiasing(tmp_path: Path, height: int, width: int) -> None:
    # Grain of a few pixels and of many, of middling values that do not overshoot.
    generator = torch.Generator().manual_seed(1)
    grains = [torch.rand(3, 3, height // size, width // size, generator=generator) for size in (2, 8)]
    smooth = sum(torch.nn.functional.interpolate(grain, size=(height, width), mode="bicubic") for grain in grains) / 2
    frames = (64 + 128 * smooth.clamp(0, 1)).round().to(torch.uint8)
    bucket = Bucket(64, 32, 3)
    cover = Cover.of(height, width, bucket)
    # The kernel of Keys with a = -0.6, as FFmpeg has it; torch's is that of -0.5, so that a level or two lie between them.
    expected = torch.nn.functional.interpolate(frames.float(), size=cover.resized, mode="bicubic", antialias=True)
    expected = expected[:, :, cover.top : cover.top + 32, cover.left : cover.left + 64].permute(0, 2, 3, 1)
    found = read_fitted(stills(tmp_path, frames.permute(0, 2, 3, 1).contiguous()), bucket).frames
    assert (found.shape, found.dtype) == ((3, 32, 64, 3), torch.uint8)
    assert (found.float() - expected).abs().max() <= 8
    assert (found.float() - expected).abs().mean() <= 1


def test_a_flat_frame_stays_flat(tmp_path: Path) -> None:
    path = stills(tmp_path, torch.full((1, 90, 70, 3), 93, dtype=torch.uint8))
    assert torch.equal(read_fitted(path, Bucket(64, 64, 1)).frames, torch.full((1, 64, 64, 3), 93, dtype=torch.uint8))


def test_a_turned_clip_is_fitted_as_it_is_shown(tmp_path: Path) -> None:
    write_clip(tmp_path / "plain.mp4", pictures(frames=9, height=64, width=128))
    with av.open(str(tmp_path / "plain.mp4")) as source, av.open(str(tmp_path / "a.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        stream.set_display_rotation(90)
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    whole = read_clip(tmp_path / "a.mp4").frames
    assert whole.shape == (9, 128, 64, 3)
    small = read_fitted(tmp_path / "a.mp4", Bucket(32, 64, 9)).frames
    assert (small.float() - whole.unflatten(1, (64, 2)).unflatten(3, (32, 2)).float().mean(dim=(2, 4))).abs().mean() < 2


def test_every_nth_frame_is_taken_and_a_file_with_too_few_is_refused(tmp_path: Path) -> None:
    frames = torch.arange(17, dtype=torch.uint8)[:, None, None, None].expand(17, 32, 32, 3).contiguous()
    path = stills(tmp_path, frames)
    clip = read_fitted(path, Bucket(32, 32, 9), factor=2)
    assert clip.frames[:, 0, 0, 0].tolist() == [0, 1, 3, 5, 7, 9, 11, 13, 15]
    assert clip.rate == 12.0
    assert read_fitted(path, Bucket(32, 32, 3), last=True).frames[:, 0, 0, 0].tolist() == [14, 15, 16]
    with pytest.raises(DataError) as error:
        read_fitted(path, Bucket(32, 32, 25))
    assert str(error.value) == f"{path}: has 17 frames, fewer than its header says; 25 are needed\n    Encode it again."


@pytest.mark.parametrize(
    ("factor", "expected"), [(1, list(range(17))), (2, [0, 1, 3, 5, 7, 9, 11, 13, 15]), (4, [0, 1, 5, 9, 13]), (16, [0, 1])]
)
def test_subsampling_keeps_frame_0_and_every_nth_from_frame_1(factor: int, expected: list[int]) -> None:
    assert subsampled(torch.arange(17), factor).tolist() == expected


def test_a_cell_of_an_uncropped_frame_is_the_mean_of_its_pixels() -> None:
    values = torch.rand(64, 96, generator=torch.Generator().manual_seed(2))
    expected = values.reshape(2, 32, 3, 32).mean(dim=(1, 3))
    torch.testing.assert_close(cell_means(values, Cover.of(64, 96, Bucket(96, 64, 1)), (8, 32, 32)), expected)


def test_a_cell_of_a_cropped_and_enlarged_frame_is_the_mean_of_the_part_that_it_shows() -> None:
    # Each source pixel is enlarged to 2 x 2; the middle 32 of 48 columns are kept, in cells of 16 x 16.
    values = torch.rand(16, 24, generator=torch.Generator().manual_seed(3))
    enlarged = values.repeat_interleave(2, 0).repeat_interleave(2, 1)[:, 8:40]
    expected = enlarged.reshape(2, 16, 2, 16).mean(dim=(1, 3))
    torch.testing.assert_close(cell_means(values, Cover.of(16, 24, Bucket(32, 32, 1)), (8, 16, 16)), expected)


def test_pixels_at_the_edge_of_a_cell_count_by_the_part_inside() -> None:
    # Three source pixels on a bucket of two cells: the middle one is half in each.
    values = torch.tensor([[0.0, 1.0, 0.5]]).expand(3, 3)
    cells = cell_means(values, Cover.of(3, 3, Bucket(64, 64, 1)), (8, 32, 32))
    torch.testing.assert_close(cells, torch.tensor([[(0.0 + 0.5) / 1.5, (0.5 + 0.5) / 1.5]]).expand(2, 2))


def test_the_mean_over_time_takes_frame_0_alone_and_then_groups() -> None:
    cells = torch.rand(17, 2, 3, generator=torch.Generator().manual_seed(4))
    expected = torch.stack([cells[0], cells[1:9].mean(dim=0), cells[9:17].mean(dim=0)])
    torch.testing.assert_close(causal_means(cells, 8), expected)
    assert torch.equal(causal_means(cells[:1], 8), cells[:1])
