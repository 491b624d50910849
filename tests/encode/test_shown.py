"""Samples are made of what clips show: the frames of a cut, at their true times if the user wants it, of square pixels, before a background."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from encode.test_encoding import stored
from helpers.encoded_sets import read_latents
from helpers.media_made import cut_without_encoding, number_of, timed_clip, tone
from helpers.raw_media import RATE, clip_file, dataset_file, encode, message, pictures
from ltxcore.codecs.load_codecs import video_codec
from ltxcore.config.colors import parse_color
from ltxcore.encode.buckets import Bucket
from ltxcore.encode.latent_masks import video_mask
from ltxcore.encode.pixels import Cover
from ltxcore.encoded.manifest import read_source
from ltxcore.encoded.store import read_mask
from ltxcore.errors import ConfigError, DataError
from ltxcore.media.probe import probe, read_clip, write_clip
from ltxcore.protocols import Clip, Entry

UNEVEN = [*range(0, 16), *range(16, 48, 2), *range(48, 64)]
"""Ticks of 1/16 s at which frames of a clip start: a second at 16 frames, two at 8, one at 16 again."""


def uneven_clip(path: Path, sound: bool = False) -> Path:
    """48 frames in 4 s, numbered, of which the sixteen in the middle last twice as long."""
    timed_clip(path, UNEVEN, Fraction(1, RATE), rate=RATE)
    if not sound:
        return path
    with_sound = path.with_name(f"loud_{path.name}")
    heard = tone(4.0, 16_000)
    with av.open(str(path)) as source, av.open(str(with_sound), "w") as target:
        copied, track = target.add_stream_from_template(source.streams.video[0]), target.add_stream("aac", rate=16_000, layout="mono")
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = copied
                target.mux(packet)
        frame = av.AudioFrame.from_ndarray(heard.samples.numpy(), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16_000, 0, Fraction(1, 16_000)
        target.mux(track.encode(frame))
        target.mux(track.encode(None))
    return with_sound


def made(folder: Path, rows: Sequence[dict[str, str]], root: str = "out", **options: Any) -> tuple[Any, dict[str, dict[str, Entry]]]:
    """The summary of encoding some rows, and what there is then, by folder and sample."""
    summary = encode(dataset_file(folder / "set.jsonl", [{**row, "caption": "c"} for row in rows]), folder / root, **options)
    return summary, {folder_: dict(read_source(folder / root, folder_)) for folder_ in summary.folders if folder_ != "conditions"}


def test_a_cut_goes_to_the_bucket_of_the_frames_that_it_shows(tmp_path: Path) -> None:
    cut_without_encoding(timed_clip(tmp_path / "whole.mp4", range(72), Fraction(1, 24)), tmp_path / "cut.mp4", 0.7)
    summary, entries = made(tmp_path, [{"video": "cut.mp4"}], resolution_buckets="64x64x65;64x64x49;64x64x33", skip_audio=True)
    assert summary.refused == ()
    assert entries["latents"]["cut"].shape == (128, 7, 2, 2)
    latents, rate = read_latents(stored(tmp_path / "out", "latents", "cut"))
    assert rate == 24.0
    assert torch.equal(latents, video_codec("tiny").encode(Clip(read_clip(tmp_path / "cut.mp4").frames[:49], 24.0)))


def test_uneven_clips_are_named_whether_they_are_resampled_or_not(tmp_path: Path) -> None:
    uneven_clip(tmp_path / "uneven.mp4")
    clip_file(tmp_path / "even.mp4", frames=48, sound=False)
    rows = [{"video": "even.mp4"}, {"video": "uneven.mp4"}]
    options: dict[str, Any] = {"skip_audio": True, "resolution_buckets": "64x64x33"}
    summary, _ = made(tmp_path, rows, **options)
    path = tmp_path / "set.jsonl"
    assert summary.notes == (
        f"{path}: 1 of 2 clips has a variable frame rate: uneven.mp4; its frames are used as if they were all equally long; "
        'variable_rate = "resample" uses their true times',
    )
    assert summary.notes[0] in str(summary)
    summary, _ = made(tmp_path, rows, variable_rate="resample", **options)
    assert summary.notes == (f"{path}: 1 of 2 clips has a variable frame rate, and is resampled to a constant one: uneven.mp4",)
    # Of 16 frames only those that are shown equally long are used.
    summary, _ = made(tmp_path, rows, "other", skip_audio=True, resolution_buckets="64x64x9")
    assert summary.notes == ()


def test_a_resampled_clip_has_the_frame_of_each_time_and_its_sound(tmp_path: Path) -> None:
    path = uneven_clip(tmp_path / "a.mp4", sound=True)
    rows = [{"video": path.name}]
    _, kept = made(tmp_path, rows, resolution_buckets="64x64x57;64x64x41")
    _, entries = made(tmp_path, rows, variable_rate="resample", resolution_buckets="64x64x57;64x64x41")
    name = path.stem
    assert kept["latents"][name].shape == (128, 6, 2, 2)
    assert kept["latents"][name].rate == 12  # 48 frames in 4 s
    assert entries["latents"][name].shape == (128, 8, 2, 2)
    assert entries["latents"][name].rate == RATE
    true = [max(number for number, tick in enumerate(UNEVEN) if tick <= time) for time in range(57)]
    frames = read_clip(path).frames
    assert [number_of(frame) for frame in frames] == list(range(48))
    latents, rate = read_latents(stored(tmp_path / "out", "latents", name))
    assert torch.equal(latents, video_codec("tiny").encode(Clip(frames[true], float(RATE))))
    assert rate == RATE
    assert entries["audio_latents"][name].shape[1] == int(57 / RATE * 100) // 4 + 1


def test_only_uneven_clips_are_made_anew_where_they_are_to_be_resampled(tmp_path: Path) -> None:
    uneven_clip(tmp_path / "uneven.mp4")
    clip_file(tmp_path / "even.mp4", frames=48, sound=False)
    rows = [{"video": "even.mp4"}, {"video": "uneven.mp4"}]
    options: dict[str, Any] = {"skip_audio": True, "resolution_buckets": "64x64x41"}
    _, before = made(tmp_path, rows, **options)
    summary, after = made(tmp_path, rows, variable_rate="resample", **options)
    assert (summary.folders["latents"].done, summary.folders["latents"].reused) == (1, 1)
    assert before["latents"]["even"].fingerprint == after["latents"]["even"].fingerprint
    assert before["latents"]["uneven"].fingerprint != after["latents"]["uneven"].fingerprint
    summary, again = made(tmp_path, rows, **options)
    assert summary.folders["latents"].done == 1
    assert again["latents"]["uneven"].fingerprint == before["latents"]["uneven"].fingerprint


def test_what_goes_with_an_uneven_clip_frame_by_frame_is_taken_at_the_same_times(tmp_path: Path) -> None:
    uneven_clip(tmp_path / "a.mp4")
    timed_clip(tmp_path / "reference.mp4", range(48), Fraction(1, 12), rate=12)
    level = torch.arange(48, dtype=torch.uint8)[:, None, None, None].expand(-1, 64, 64, 3) * 5
    write_clip(tmp_path / "mask.mp4", Clip(level.contiguous(), 12.0))
    rows = [{"video": "a.mp4", "reference_video": "reference.mp4", "video_mask": "mask.mp4"}]
    _, entries = made(tmp_path, rows, variable_rate="resample", resolution_buckets="64x64x57", skip_audio=True)
    assert entries["reference_latents"]["a"].rate == entries["latents"]["a"].rate == RATE
    true = [max(number for number, tick in enumerate(UNEVEN) if tick <= time) for time in range(57)]
    frames = read_clip(tmp_path / "reference.mp4").frames
    latents, _ = read_latents(stored(tmp_path / "out", "reference_latents", "a"))
    assert torch.equal(latents, video_codec("tiny").encode(Clip(frames[true], float(RATE))))
    mask = read_mask(stored(tmp_path / "out", "video_masks", "a"))
    expected = torch.tensor([true[0], *(sum(true[first : first + 8]) / 8 for first in range(1, 57, 8))]) * 5 / 255
    assert (mask[:, 0, 0] - expected).abs().max() < 0.02


def wide_pixels(path: Path) -> Path:
    """17 frames of 64 x 64 pixels that are twice as wide as high."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2)
        for picture in pictures().frames.numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    return path


def test_the_bucket_of_a_clip_is_chosen_by_its_shape_with_square_pixels(tmp_path: Path) -> None:
    wide_pixels(tmp_path / "a.mp4")
    _, entries = made(tmp_path, [{"video": "a.mp4"}], resolution_buckets="64x64x17;128x64x17", skip_audio=True)
    assert entries["latents"]["a"].shape == (128, 3, 2, 4)
    summary, _ = made(tmp_path, [{"video": "a.mp4"}], "other", skip_audio=True)
    assert summary.notes == (f"{tmp_path}/set.jsonl: resolution_buckets is 128x64x17, the size of all its clips",)


def test_a_mask_lies_on_the_pixels_that_it_was_drawn_on(tmp_path: Path) -> None:
    wide_pixels(tmp_path / "a.mp4")
    grey = np.zeros((64, 64), np.uint8)
    grey[:, 16:32] = 255
    Image.fromarray(grey).save(tmp_path / "stored.png")
    Image.fromarray(grey.repeat(2, axis=1)).save(tmp_path / "shown.png")
    for name in ("stored", "shown"):
        made(tmp_path, [{"video": "a.mp4", "video_mask": f"{name}.png"}], name, resolution_buckets="128x64x17", skip_audio=True)
        assert read_mask(stored(tmp_path / name, "video_masks", "a"))[0].tolist() == [[0.0, 1.0, 0.0, 0.0]] * 2
    Image.fromarray(grey.repeat(3, axis=1)).save(tmp_path / "other.png")
    with pytest.raises(DataError, match="which is a different aspect ratio"):
        made(tmp_path, [{"video": "a.mp4", "video_mask": "other.png"}], "other", resolution_buckets="128x64x17", skip_audio=True)


def test_a_mask_of_wide_pixels_is_measured_as_it_is_shown() -> None:
    values = torch.zeros(1, 64, 64)
    values[:, :, 16:32] = 1.0
    bucket = Bucket(96, 64, 1)  # 128 x 64 without sixteen at either end
    assert Cover.of(64, 128, bucket).left == 16
    expected = video_mask(values.repeat_interleave(2, dim=2), bucket, (8, 32, 32))
    assert torch.allclose(video_mask(values, bucket, (8, 32, 32), (64, 128)), expected, atol=1e-6)


def transparent(path: Path, alpha: int = 0) -> Path:
    """A red picture whose left half has this alpha."""
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[...] = (255, 0, 0, 255)
    pixels[:, :32, 3] = alpha
    Image.fromarray(pixels).save(path)
    return path


def test_the_colour_behind_pictures_matters_to_transparent_ones_alone(tmp_path: Path) -> None:
    transparent(tmp_path / "through.png")
    transparent(tmp_path / "opaque.png", alpha=255)
    rows = [{"video": "through.png"}, {"video": "opaque.png"}]
    options: dict[str, Any] = {"skip_audio": True, "resolution_buckets": "64x64x1"}
    made(tmp_path, rows, **options)
    pixels = read_clip(tmp_path / "through.png").frames
    assert pixels[0, 0, 0].tolist() == [0, 0, 0]
    latents, _ = read_latents(stored(tmp_path / "out", "latents", "through"))
    assert torch.equal(latents, video_codec("tiny").encode(Clip(pixels, 1.0)))
    summary, _ = made(tmp_path, rows, alpha_color="#0000FF", **options)
    assert (summary.folders["latents"].done, summary.folders["latents"].reused) == (1, 1)
    pixels[:, :, :32] = torch.tensor([0, 0, 255], dtype=torch.uint8)
    latents, _ = read_latents(stored(tmp_path / "out", "latents", "through"))
    assert torch.equal(latents, video_codec("tiny").encode(Clip(pixels, 1.0)))


def test_where_a_mask_is_transparent_nothing_is_given_whatever_is_behind_clips(tmp_path: Path) -> None:
    clip_file(tmp_path / "a.mp4", sound=False)
    pixels = np.full((64, 64, 4), 255, np.uint8)
    pixels[:, :32, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    made(tmp_path, [{"video": "a.mp4", "video_mask": "mask.png"}], skip_audio=True, alpha_color="white")
    assert read_mask(stored(tmp_path / "out", "video_masks", "a"))[0].tolist() == [[0.0, 1.0]] * 2


def test_a_colour_that_is_none_is_refused(tmp_path: Path) -> None:
    clip_file(tmp_path / "a.mp4", sound=False)
    with pytest.raises(ConfigError) as error:
        made(tmp_path, [{"video": "a.mp4"}], skip_audio=True, alpha_color="#12345")
    remedy = 'Write it as "#RRGGBB", such as "#00FF00", or as black, white, gray, grey.'
    assert message(error) == f'preprocessing.alpha_color: "#12345" is not a colour\n    {remedy}'


@pytest.mark.parametrize(
    ("text", "color"),
    [
        ("#000000", (0, 0, 0)),
        (" #00fF10 ", (0, 255, 16)),
        ("#0f8", (0, 255, 136)),
        ("White", (255, 255, 255)),
        ("gray", (128, 128, 128)),
        ("", None),
        ("00ff00", None),
        ("#00ff0", None),
        ("#gg0000", None),
        ("#+10000", None),
        ("mauve", None),
    ],
)
def test_colours_are_read_as_people_write_them(text: str, color: tuple[int, int, int] | None) -> None:
    assert parse_color(text) == color


def test_files_that_are_read_as_they_always_were_have_no_corrections(tmp_path: Path) -> None:
    clip_file(tmp_path / "a.mp4")
    write_clip(tmp_path / "a.png", pictures(frames=1))
    assert probe(tmp_path / "a.mp4").picture_corrections == probe(tmp_path / "a.png").picture_corrections == ()
