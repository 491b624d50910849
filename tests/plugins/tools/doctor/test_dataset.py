"""One fault planted in a healthy set of raw media is found by its name, and nothing else is."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from helpers.clicks_made import changed
from helpers.media_made import cut_without_encoding, timed_clip
from helpers.media_made import encode as encoded_as
from helpers.raw_media import RATE, mask_file, pictures
from ltxcore.encoded.store import write_sample
from ltxcore.protocols import Entry, Sound
from plugins.tools.doctor.healthy import BUCKET, change_row, found, put_clip, put_sound, put_video_mask, rows, stereo, write_rows

SKIP = 'or leave it out with on_error = "skip".'
TRAIN_WITHOUT = 'Or set missing = "train_without" under [data], if the run generates both video and audio.'
NAME_A_SOUND = f'Set skip_audio, name a sound in a column "audio", or keep only its video with on_error = "skip". {TRAIN_WITHOUT}'


def test_nothing_is_wrong_with_the_healthy_set_and_nothing_is_written(raw: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in raw.rglob("*")}
    assert found(raw, raw / "set.jsonl") == []
    assert found(raw, raw / "set.jsonl", resolution_buckets=BUCKET, deep=True, model="tiny") == []
    assert {path: path.stat().st_mtime_ns for path in raw.rglob("*")} == before


def test_windows_of_a_clip_are_no_copies_of_it_and_the_parts_of_its_sound_are_heard_apart(raw: Path) -> None:
    windows = {"resolution_buckets": "64x64x9", "windows": "stride:8", "deep": True}
    assert found(raw, raw / "set.jsonl", **windows) == []
    sound = stereo(number=1)
    sound.samples[:, 5_000:] = 0
    put_clip(raw / "clips/1.mp4", 1, sound=sound)
    ((check, _, where, what, _),) = found(raw, raw / "set.jsonl", **windows)
    assert (check, where) == ("silent-sound", "TMP/set.jsonl:2, from frame 8: TMP/clips/1.mp4")
    assert what == "the audio is silent: no sample is above -60 dB of full scale"


# ---------------------------------------------------------------- rows


def test_a_missing_file(raw: Path) -> None:
    (raw / "clips/1.mp4").unlink()
    assert found(raw, raw / "set.jsonl") == [
        ("dataset", "error", "TMP/set.jsonl:2", 'the video "clips/1.mp4" is not there', "Paths are relative to TMP.")
    ]


def test_an_empty_cell(raw: Path) -> None:
    change_row(raw, 3, video_mask=" ")
    assert found(raw, raw / "set.jsonl") == [
        ("dataset", "error", "TMP/set.jsonl:3", 'the value of "video_mask" is empty', "Name a file, or leave the row out.")
    ]


def test_a_row_that_is_there_twice(raw: Path) -> None:
    write_rows(raw, [*rows(), rows()[0] | {"caption": "once more"}])
    assert found(raw, raw / "set.jsonl") == [
        ("dataset", "error", "TMP/set.jsonl:4", '"clips/0.mp4" is already in line 1', "Keep one of the rows.")
    ]


def test_two_rows_that_would_write_one_name(raw: Path) -> None:
    put_clip(raw / "clips/0.mkv.mp4", 9)
    shutil.move(raw / "clips/0.mkv.mp4", raw / "clips/0.mov")
    write_rows(raw, [*rows(), rows()[0] | {"video": "clips/0.mov", "caption": "another"}])
    assert found(raw, raw / "set.jsonl") == [
        (
            "dataset",
            "error",
            "TMP/set.jsonl:4",
            'the samples of "clips/0.mov" and of "clips/0.mp4" in line 1 would have the same name: "clips/0"',
            "Rename one of the files; extensions are ignored.",
        )
    ]


def test_a_row_that_is_no_row(raw: Path) -> None:
    path = raw / "set.jsonl"
    path.write_text(path.read_text() + "nonsense\n")
    assert found(raw, path) == [
        (
            "dataset",
            "error",
            "TMP/set.jsonl:4",
            "is not a JSON object: Expecting value",
            "Each line must be one object with the columns as keys.",
        )
    ]


def test_a_column_that_is_missing(raw: Path) -> None:
    write_rows(raw, [{"video": row["video"]} for row in rows()])
    assert found(raw, raw / "set.jsonl") == [
        (
            "dataset",
            "error",
            "TMP/set.jsonl",
            "has no caption column; its columns are video",
            'Add a column "caption", or name yours with --caption-column (in a run file: preprocessing.caption_column).',
        )
    ]


# ---------------------------------------------------------------- captions


def test_an_empty_caption(raw: Path) -> None:
    change_row(raw, 2, caption="  ")
    expected = (
        "empty-caption",
        "warning",
        "TMP/set.jsonl:2",
        "the caption is empty",
        "Describe the clip, or leave the caption empty if the run should learn without text.",
    )
    assert found(raw, raw / "set.jsonl") == [expected]
    assert found(raw, raw / "set.jsonl", lora_trigger="TRIGGER") == [expected]


def test_a_caption_that_two_rows_have(raw: Path) -> None:
    change_row(raw, 3, caption="clip number 0")
    assert found(raw, raw / "set.jsonl") == [
        (
            "duplicate-caption",
            "warning",
            "TMP/set.jsonl:3",
            "the caption is the same as that of line 1",
            "Describe how the clips differ, unless they are alike.",
        )
    ]


def test_a_caption_that_the_text_encoder_does_not_take_whole(raw: Path) -> None:
    change_row(raw, 1, caption=" ".join(["word"] * 1025))
    remedy = "Shorten the caption, and put what matters first."
    what = "the caption has 1025 words, but the text encoder only takes {} tokens: the rest is ignored"
    assert found(raw, raw / "set.jsonl") == [("long-caption", "warning", "TMP/set.jsonl:1", what.format(1024), remedy)]
    assert found(raw, raw / "set.jsonl", model="tiny") == [("long-caption", "warning", "TMP/set.jsonl:1", what.format(32), remedy)]


# ---------------------------------------------------------------- files


def test_a_file_that_is_no_medium(raw: Path) -> None:
    (raw / "clips/1.mp4").write_text("this is no clip")
    assert found(raw, raw / "set.jsonl") == [
        (
            "unreadable",
            "error",
            "TMP/set.jsonl:2: TMP/clips/1.mp4",
            "this is not a clip, a sound or an image that can be read",
            "Play the file to see whether it is intact, and convert it to MP4, WAV or PNG.",
        )
    ]


def test_a_file_that_is_cut_short(raw: Path) -> None:
    path = raw / "clips/2.mp4"
    path.write_bytes(path.read_bytes()[:-500])
    assert found(raw, raw / "set.jsonl") == [
        (
            "unreadable",
            "error",
            "TMP/set.jsonl:3: TMP/clips/2.mp4",
            "this file is cut short: it ends earlier than its header says",
            "Copy or download the file again.",
        )
    ]


def test_a_clip_that_is_there_under_two_names(raw: Path) -> None:
    shutil.copy(raw / "clips/0.mp4", raw / "clips/2.mp4")
    assert found(raw, raw / "set.jsonl") == [
        (
            "duplicate-clip",
            "warning",
            "TMP/set.jsonl:3: TMP/clips/2.mp4",
            'is a copy of "clips/0.mp4" in line 1',
            "Keep one of the rows, or it counts twice.",
        )
    ]


def test_frames_that_are_not_all_there_are_found_where_they_are_decoded(raw: Path) -> None:
    damage(raw / "clips/1.mp4")
    assert found(raw, raw / "set.jsonl", resolution_buckets=BUCKET) == []
    (finding,) = found(raw, raw / "set.jsonl", resolution_buckets=BUCKET, deep=True)
    assert finding == (
        "unreadable",
        "error",
        "TMP/set.jsonl:2: TMP/clips/1.mp4",
        "this file is damaged: Invalid data found when processing input",
        "Copy or download the file again, or encode the file again.",
    )


def damage(path: Path) -> None:
    """Overwrite the packet of the tenth frame in the file."""
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(container.streams.video[0]) if packet.size][9]
        place, size = packet.pos, packet.size
    content = bytearray(path.read_bytes())
    content[place : place + size] = b"\xff" * size
    path.write_bytes(bytes(content))


# ---------------------------------------------------------------- pictures


def test_a_clip_that_is_too_short_for_any_bucket(raw: Path) -> None:
    put_clip(raw / "clips/1.mp4", 1, frames=9)
    expected = ("TMP/set.jsonl:2: TMP/clips/1.mp4", "has 9 frames, but the shortest bucket has 17")
    assert found(raw, raw / "set.jsonl", resolution_buckets=BUCKET) == [("unusable", "error", *expected, f"Add a shorter bucket, {SKIP}")]
    skipped = found(raw, raw / "set.jsonl", resolution_buckets=BUCKET, on_error="skip")
    assert skipped == [("unusable", "warning", *expected, "Add a shorter bucket.")]


def test_frames_that_the_bucket_does_not_take(raw: Path) -> None:
    put_clip(raw / "clips/0.mp4", frames=20)
    assert found(raw, raw / "set.jsonl", resolution_buckets=BUCKET) == [
        (
            "unused-frames",
            "warning",
            "TMP/set.jsonl:1: TMP/clips/0.mp4",
            "has 20 frames, of which the bucket 64x64x17 uses the first 17",
            "Frame counts are multiples of 8 plus 1: cut the clip where it can end, add a longer bucket, or split it into several clips.",
        )
    ]


def test_a_clip_of_another_size_where_no_bucket_is_named(raw: Path) -> None:
    write_rows(raw, [{key: row[key] for key in ("video", "caption")} for row in rows()])
    put_clip(raw / "clips/0.mp4", frames=25)
    assert found(raw, raw / "set.jsonl") == [
        (
            "sizes",
            "error",
            "TMP/set.jsonl",
            "the clips have 2 sizes (width x height x frames): 64x64x17, 64x64x25",
            'Set resolution_buckets, such as resolution_buckets = "64x64x17".',
        )
    ]


def test_an_odd_number_of_frames_where_no_bucket_is_named(raw: Path) -> None:
    write_rows(raw, rows(1))
    put_clip(raw / "clips/0.mp4", frames=19)
    assert found(raw, raw / "set.jsonl") == [
        (
            "sizes",
            "error",
            "TMP/set.jsonl",
            "its clips have 19 frames, which is not a multiple of 8 plus 1",
            'Set resolution_buckets, such as resolution_buckets = "64x64x17".',
        )
    ]


def test_a_clip_of_another_frame_rate(raw: Path) -> None:
    write_rows(raw, [{key: row[key] for key in ("video", "caption")} for row in rows()])
    put_clip(raw / "clips/1.mp4", 1, rate=24)
    assert found(raw, raw / "set.jsonl") == [
        (
            "different-rates",
            "warning",
            "TMP/set.jsonl",
            "its clips have 2 frame rates: 16 per second in 2; 24 in 1: clips/1.mp4",
            "Each clip is trained at its own rate. If you do not want that, encode the media again at the same rate.",
        )
    ]


def test_a_clip_of_variable_frame_rate(raw: Path) -> None:
    write_rows(raw, [{key: row[key] for key in ("video", "caption")} for row in rows()])
    uneven_clip(raw / "clips/1.mp4")
    assert found(raw, raw / "set.jsonl", skip_audio=True) == [
        (
            "variable-rate",
            "warning",
            "TMP/set.jsonl:2: TMP/clips/1.mp4",
            "the frames last from 0.031 to 0.125 s, but are used as if they were all equally long",
            'Set variable_rate = "resample", or encode the clip again at a constant rate, so that its motion and its sound keep their timing.',
        )
    ]


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_a_clip_most_of_whose_frames_are_long(tmp_path: Path, name: str) -> None:
    timed_clip(tmp_path / name, [*range(15), *range(15, 120, 4)], Fraction(1, 30), rate=30)
    write_rows(tmp_path, [{"video": name, "caption": "a"}])
    options = {"skip_audio": True, "resolution_buckets": "64x64x33"}
    (finding,) = [each for each in found(tmp_path, tmp_path / "set.jsonl", **options) if each[0] == "variable-rate"]
    assert finding[3].startswith("the frames last from 0.033 to 0.13")
    assert finding[3].endswith(" s, but are used as if they were all equally long")
    # At their true times there are other frames to choose a bucket by.
    assert found(tmp_path, tmp_path / "set.jsonl", variable_rate="resample", skip_audio=True, resolution_buckets="64x64x25") == [
        (
            "unused-frames",
            "warning",
            f"TMP/set.jsonl:1: TMP/{name}",
            "has 30 frames, of which the bucket 64x64x25 uses the first 25",
            "Frame counts are multiples of 8 plus 1: cut the clip where it can end, add a longer bucket, or split it into several clips.",
        )
    ]


def test_a_cut_without_encoding_has_the_frames_that_it_shows(tmp_path: Path) -> None:
    cut_without_encoding(timed_clip(tmp_path / "whole.mp4", range(72), Fraction(1, 24)), tmp_path / "a.mp4", 0.7)
    write_rows(tmp_path, [{"video": "a.mp4", "caption": "a"}])
    for deep in (False, True):
        assert found(tmp_path, tmp_path / "set.jsonl", deep=deep, skip_audio=True, resolution_buckets="64x64x65;64x64x49") == [
            (
                "unused-frames",
                "warning",
                "TMP/set.jsonl:1: TMP/a.mp4",
                "has 55 frames, of which the bucket 64x64x49 uses the first 49",
                "Frame counts are multiples of 8 plus 1: cut the clip where it can end, add a longer bucket, or split it into several clips.",
            )
        ]


def uneven_clip(path: Path) -> None:
    """17 frames in 17/16 s, of which the fourth lasts twice and two others half as long."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.height = stream.width = 64
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 32)
        ticks = np.cumsum([0, 2, 2, 4, 1, 1, *[2] * 11])
        for tick, pixels in zip(ticks, pictures(seed=1).frames.numpy(), strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = int(tick), Fraction(1, 32)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


# ---------------------------------------------------------------- sound


def test_a_clip_without_sound(raw: Path) -> None:
    put_clip(raw / "clips/1.mp4", 1, sound=None)
    assert found(raw, raw / "set.jsonl") == [
        (
            "unusable",
            "error",
            "TMP/set.jsonl:2: TMP/clips/1.mp4",
            "has no sound",
            NAME_A_SOUND,
        )
    ]


def test_a_clip_without_sound_whose_pictures_are_kept_is_looked_at_nevertheless(raw: Path) -> None:
    uneven_clip(raw / "clips/1.mp4")
    place = "TMP/set.jsonl:2: TMP/clips/1.mp4"
    assert found(raw, raw / "set.jsonl", on_error="skip") == [
        ("unusable", "warning", place, "has no sound", f'Set skip_audio or name a sound in a column "audio". {TRAIN_WITHOUT}'),
        (
            "variable-rate",
            "warning",
            place,
            "the frames last from 0.031 to 0.125 s, but are used as if they were all equally long",
            'Set variable_rate = "resample", or encode the clip again at a constant rate, so that its motion and its sound keep their timing.',
        ),
    ]


def test_a_set_without_sound(raw: Path) -> None:
    write_rows(raw, [{key: row[key] for key in ("video", "caption")} for row in rows()])
    for number in range(3):
        put_clip(raw / f"clips/{number}.mp4", number, sound=None)
    assert found(raw, raw / "set.jsonl") == [
        ("no-sound", "error", "TMP/set.jsonl", "none of the clips has audio", 'Set skip_audio, or name audio files in a column "audio".')
    ]


def test_a_silent_sound(raw: Path) -> None:
    put_clip(raw / "clips/1.mp4", 1, sound=stereo(level=0.0))
    assert found(raw, raw / "set.jsonl") == [
        (
            "silent-sound",
            "warning",
            "TMP/set.jsonl:2: TMP/clips/1.mp4",
            "the audio is silent: no sample is above -60 dB of full scale",
            'Name another sound in a column "audio", leave the row out, or set skip_audio.',
        )
    ]


def test_a_mono_sound(raw: Path) -> None:
    put_clip(raw / "clips/2.mp4", 2, sound=stereo(channels=1))
    assert found(raw, raw / "set.jsonl") == [
        (
            "mono-sound",
            "warning",
            "TMP/set.jsonl:3: TMP/clips/2.mp4",
            "the audio has one channel",
            "Training uses it for both left and right. Name stereo audio if you have any.",
        )
    ]


def test_a_clipped_sound(raw: Path) -> None:
    name_sounds(raw)
    put_sound(raw / "sounds/1.wav", Sound(stereo(level=2.0).samples.clamp(-1, 1), 16_000))
    assert found(raw, raw / "set.jsonl") == [
        (
            "clipped-sound",
            "warning",
            "TMP/set.jsonl:2: TMP/sounds/1.wav",
            # A sine of twice full scale is above it for two thirds of the time.
            "the audio is clipped: 66.9 % of its samples are at full scale",
            "Use a recording with a lower level; lowering the level of a clipped recording does not repair it.",
        )
    ]


def test_a_sound_with_samples_that_are_no_numbers(raw: Path) -> None:
    name_sounds(raw)
    samples = stereo().samples
    samples[0, 100] = float("nan")
    encoded_as(raw / "sounds/1.wav", sound=Sound(samples, 16_000), codec="pcm_f32le")
    assert found(raw, raw / "set.jsonl") == [
        (
            "sound",
            "error",
            "TMP/set.jsonl:2: TMP/sounds/1.wav",
            "the audio has NaN or infinite values",
            "Encode it again.",
        )
    ]


def test_a_sound_that_ends_before_its_pictures(raw: Path) -> None:
    name_sounds(raw)
    put_sound(raw / "sounds/0.wav", stereo(0.5))
    change_row(raw, 1, audio_mask="masks/half.wav")
    mask_file(raw / "masks/half.wav", [1.0, 0.0], seconds=0.5)
    assert found(raw, raw / "set.jsonl") == [
        (
            "sound-length",
            "warning",
            "TMP/set.jsonl:1: TMP/sounds/0.wav",
            "the audio ends 0.562 s before the 1.062 s of video that are used, and is padded with silence",
            "Name a sound that is as long as the clip, or cut the clip where its sound ends.",
        )
    ]


def with_hole(folder: Path, name: str, seconds: float) -> None:
    """Stamp the sound of a file later from its middle on, so that it has a hole there; negative: an overlap."""
    changed(folder / name, folder / f"changed.{name[-3:]}", lambda at: seconds * (at > 0.5))
    shutil.move(folder / f"changed.{name[-3:]}", folder / name)


HOLES_REMEDY = (
    "Listen to it there, and leave the clip out or record it again if the missing part matters. Everything after it keeps its timing."
)


def test_a_sound_with_a_hole_in_a_clip_or_a_reference(raw: Path) -> None:
    with_hole(raw, "clips/0.mp4", 0.2)
    with_hole(raw, "references/1.mp4", 0.05)
    assert found(raw, raw / "set.jsonl") == [
        (
            "sound-holes",
            "warning",
            f"TMP/set.jsonl:{line}: TMP/{name}",
            f"the audio has 1 gap of {seconds} s, filled with silence; the first at 0.512 s",
            HOLES_REMEDY,
        )
        for line, name, seconds in ((1, "clips/0.mp4", "0.200"), (2, "references/1.mp4", "0.050"))
    ]


def test_holes_of_less_than_50_ms_or_beyond_what_is_used_are_no_fault(raw: Path) -> None:
    with_hole(raw, "clips/0.mp4", 0.049)
    name_sounds(raw)
    encoded_as(raw / "sounds/1.mkv", sound=stereo(3.0), codec="flac")
    changed(raw / "sounds/1.mkv", raw / "sounds/2.mkv", lambda at: 0.5 * (at > 2))
    change_row(raw, 2, audio="sounds/2.mkv")
    assert [check for check, *_ in found(raw, raw / "set.jsonl")] == ["sound-length"]


def test_overlaps_are_told_beside_holes(raw: Path) -> None:
    encoded_as(raw / "sound.mkv", sound=stereo(), codec="aac")
    change_row(raw, 1, audio="joined.mkv")
    # Stamped 30 ms earlier from 0.3 s on, and 70 ms later than that from 0.7 s on.
    changed(raw / "sound.mkv", raw / "joined.mkv", lambda at: -0.03 * (at > 0.3) + 0.07 * (at > 0.7))
    [what] = [what for check, _, _, what, _ in found(raw, raw / "set.jsonl") if check == "sound-holes"]
    assert what == (
        "the audio has 1 gap of 0.070 s, filled with silence; and 1 overlap of 0.030 s, whose later part is left out; the first at 0.320 s"
    )


def test_a_sound_that_goes_on_after_its_pictures(raw: Path) -> None:
    name_sounds(raw)
    put_sound(raw / "sounds/0.wav", stereo(3.0))
    assert found(raw, raw / "set.jsonl") == [
        (
            "sound-length",
            "warning",
            "TMP/set.jsonl:1: TMP/sounds/0.wav",
            "lasts 3.000 s, but its clip lasts 1.062 s: the rest is left out",
            "Cut it to the length of its clip, and check that both start together.",
        )
    ]


def name_sounds(folder: Path) -> None:
    """Give every clip a sound file of its own."""
    for number in range(3):
        put_sound(folder / f"sounds/{number}.wav", stereo(number=number))
        change_row(folder, number + 1, audio=f"sounds/{number}.wav")


# ---------------------------------------------------------------- masks


def test_a_video_mask_of_another_shape(raw: Path) -> None:
    put_video_mask(raw / "masks/1.png", width=96)
    assert found(raw, raw / "set.jsonl") == [
        (
            "unusable",
            "error",
            "TMP/set.jsonl:2: TMP/masks/1.png",
            "has 96 x 64 pixels, but its clip has 64 x 64, which is a different aspect ratio",
            "A mask may be larger or smaller than its clip, but must have the same aspect ratio.",
        )
    ]


def test_a_stored_mask_of_another_size(raw: Path) -> None:
    write_sample(raw, "masks", "own", {"mask": torch.tensor([1.0, 0.0]).expand(3, 3, 2).contiguous()}, Entry(()))
    change_row(raw, 2, video_mask="masks/own.safetensors")
    assert found(raw, raw / "set.jsonl") == [
        (
            "mask",
            "error",
            "TMP/set.jsonl:2: TMP/masks/own.safetensors",
            "is a mask of 3 x 3 x 2 values, but the sample has 3 x 2 x 2 latent cells",
            "A mask must have one value per latent cell.",
        )
    ]


def test_an_audio_mask_of_another_length(raw: Path) -> None:
    mask_file(raw / "masks/0.wav", [1.0, 0.0], seconds=0.5)
    assert found(raw, raw / "set.jsonl") == [
        (
            "unusable",
            "error",
            "TMP/set.jsonl:1: TMP/masks/0.wav",
            "lasts 0.500 s, but its sound 1.062 s",
            "A mask must be as long as its sound, or as the part of the sound that is used.",
        )
    ]


@pytest.mark.parametrize(
    ("level", "what"),
    [
        (255, "has the value 1 everywhere: everything is given, and nothing is left to learn"),
        (0, "has the value 0 everywhere: nothing is given"),
    ],
)
def test_a_video_mask_of_one_value(raw: Path, level: int, what: str) -> None:
    put_video_mask(raw / "masks/1.png", left=level, right=level)
    assert found(raw, raw / "set.jsonl") == [("mask", "warning", "TMP/set.jsonl:2: TMP/masks/1.png", what, DRAW_BOTH)]


DRAW_BOTH = "White (or amplitude 1) is given, black (or silence) is generated; use both, or leave the row out."


def test_an_audio_mask_of_one_value(raw: Path) -> None:
    mask_file(raw / "masks/2.wav", [0.0])
    assert found(raw, raw / "set.jsonl") == [
        ("mask", "warning", "TMP/set.jsonl:3: TMP/masks/2.wav", "has the value 0 everywhere: nothing is given", DRAW_BOTH)
    ]


# ---------------------------------------------------------------- references


def test_a_reference_that_is_shorter_than_its_clip(raw: Path) -> None:
    put_clip(raw / "references/1.mp4", 4, frames=9)
    assert found(raw, raw / "set.jsonl") == [
        (
            "unusable",
            "error",
            "TMP/set.jsonl:2: TMP/references/1.mp4",
            "has 9 frames, but its clip has 17 in the bucket 64x64x17",
            "Make the reference as long as its clip.",
        )
    ]


def test_a_reference_of_another_shape(raw: Path) -> None:
    put_clip(raw / "references/1.mp4", 4, width=96)
    assert found(raw, raw / "set.jsonl") == [
        (
            "reference",
            "warning",
            "TMP/set.jsonl:2: TMP/references/1.mp4",
            "has 96 x 64 pixels, but its clip has 64 x 64: the aspect ratios differ, so it is cropped in a different place",
            "Make it from the clip, with the width and height of the clip, or the same fraction of both.",
        )
    ]


def test_a_second_reference_of_another_shape(raw: Path) -> None:
    for number in range(3):
        put_clip(raw / f"depth/{number}.mp4", 4, width=96 if number == 1 else 64)
        change_row(raw, number + 1, depth=f"depth/{number}.mp4")
    ((check, _, where, what, _),) = found(raw, raw / "set.jsonl", columns={"depth": {"type": "reference_video"}})
    assert (check, where) == ("reference", "TMP/set.jsonl:2: TMP/depth/1.mp4")
    assert what.startswith("has 96 x 64 pixels, but its clip has 64 x 64")


def test_a_reference_of_another_rate(raw: Path) -> None:
    put_clip(raw / "references/1.mp4", 4, rate=8)
    assert found(raw, raw / "set.jsonl") == [
        (
            "reference",
            "warning",
            "TMP/set.jsonl:2: TMP/references/1.mp4",
            "has 8 frames per second, but its clip has 16: its frames show different moments",
            "Convert it to the frame rate of its clip.",
        )
    ]


# ---------------------------------------------------------------- all at once


def test_several_faults_are_told_together(raw: Path) -> None:
    change_row(raw, 1, caption="")
    (raw / "clips/1.mp4").write_text("this is no clip")
    put_video_mask(raw / "masks/2.png", left=0)
    assert [(check, severity) for check, severity, *_ in found(raw, raw / "set.jsonl")] == [
        ("empty-caption", "warning"),
        ("unreadable", "error"),
        ("mask", "warning"),
    ]
