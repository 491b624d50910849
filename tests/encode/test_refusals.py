"""What cannot be made is named, with its row and file, what is wrong and what to do; nothing is dropped in silence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from helpers import media_made
from helpers.raw_media import clip_file, dataset_file, encode, mask_file, message, pictures, small_set, sound_file, tone
from ltxcore.codecs.load_codecs import video_codec
from ltxcore.codecs.source import Codecs
from ltxcore.codecs.tiny_video import TinyVideoCodec
from ltxcore.dataset.raw import RawFiles
from ltxcore.encode import preprocess, survey
from ltxcore.encoded.manifest import read_manifest, read_source
from ltxcore.encoded.store import write_sample
from ltxcore.errors import ConfigError, DataError
from ltxcore.protocols import Clip, Entry, Source

SKIP = 'on_error = "skip"'
TRAIN_WITHOUT = 'Or set missing = "train_without" under [data], if the run generates both video and audio.'


def refused(dataset: Path, **options: Any) -> str:
    """The message of a dataset that is refused; nothing is written."""
    with pytest.raises(DataError) as error:
        encode(dataset, **options)
    assert not (dataset.parent / ".precomputed").exists()
    return message(error)


def clips(folder: Path, rows: Sequence[dict[str, str]]) -> Path:
    return dataset_file(folder / "set.jsonl", [{"caption": "c", **row} for row in rows])


def test_all_samples_that_cannot_be_made_are_named_at_once(tmp_path: Path) -> None:
    clip_file(tmp_path / "good.mp4")
    clip_file(tmp_path / "short.mp4", frames=9)
    clip_file(tmp_path / "silent.mp4", sound=False)
    clip_file(tmp_path / "image.png", sound=False, frames=1)
    sound_file(tmp_path / "sound.wav")
    (tmp_path / "text.mp4").write_text("this is no clip")
    whole = clip_file(tmp_path / "cut.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    names = ("good.mp4", "short.mp4", "silent.mp4", "image.png", "sound.wav", "text.mp4", "cut.mp4")
    path = clips(tmp_path, [{"video": name} for name in names])
    assert refused(path, resolution_buckets="64x64x17") == (
        f"{path}:2: {tmp_path}/short.mp4: has 9 frames, but the shortest bucket has 17\n"
        f"    Add a shorter bucket, or leave it out with {SKIP}.\n"
        f"{path}:3: {tmp_path}/silent.mp4: has no sound\n"
        f'    Set skip_audio, name a sound in a column "audio", or keep only its video with {SKIP}. {TRAIN_WITHOUT}\n'
        f"{path}:4: {tmp_path}/image.png: is an image, which has neither duration nor audio\n"
        f"    Set skip_audio, or keep only its image with {SKIP}. {TRAIN_WITHOUT}\n"
        f"{path}:4: {tmp_path}/image.png: is an image, and no bucket has one frame\n"
        '    Add a bucket such as "64x64x1".\n'
        f"{path}:5: {tmp_path}/sound.wav: has no pictures\n    Name a clip or an image.\n"
        f"{path}:6: {tmp_path}/text.mp4: this is not a clip, a sound or an image that can be read\n"
        "    Play the file to see whether it is intact, and convert it to MP4, WAV or PNG.\n"
        f"{path}:7: {tmp_path}/cut.mp4: this file is cut short: it ends earlier than its header says\n    Copy or download the file again."
    )


def test_skip_leaves_them_out_counts_them_and_says_why(tmp_path: Path) -> None:
    clip_file(tmp_path / "good.mp4")
    clip_file(tmp_path / "short.mp4", frames=9)
    path = clips(tmp_path, [{"video": "short.mp4"}, {"video": "good.mp4"}])
    summary = encode(path, resolution_buckets="64x64x17", on_error="skip")
    assert summary.samples == ("good",)
    assert str(summary) == (
        "conditions          1 made       0 reused\n"
        "latents             1 made       0 reused\n"
        "audio_latents       1 made       0 reused\n"
        f"1 sample in {tmp_path}/.precomputed, 1 refused:\n"
        f"  {path}:1: {tmp_path}/short.mp4: has 9 frames, but the shortest bucket has 17\n"
        "    Add a shorter bucket."
    )
    for folder in ("conditions", "latents", "audio_latents"):
        assert list(read_source(summary.root, folder)) == ["good"]


def test_files_of_every_kind_that_cannot_be_read_lose_themselves_alone(tmp_path: Path) -> None:
    clip_file(tmp_path / "good.mp4")
    clip_file(tmp_path / "new.mp4")
    content = (tmp_path / "new.mp4").read_bytes()
    (tmp_path / "new.mp4").write_bytes(content.replace(b"avc1", b"zzzz"))
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile good.mp4\n")
    (tmp_path / "drawing.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    media_made.encode(tmp_path / "old.mpg", pictures(rate=25), tone(1.0, 48_000), pictures="mpeg1video", codec="mp2")
    names = ("good.mp4", "new.mp4", "list.mp4", "drawing.svg", "old.mpg")
    path = clips(tmp_path, [{"video": name} for name in names])
    summary = encode(path, resolution_buckets="64x64x17", on_error="skip")
    assert summary.samples == ("good", "old")
    convert = "Convert the file to PNG, or to MP4 with H.264 and AAC; or, if the codec is new, run pip install --upgrade av"
    assert [str(problem) for problem in summary.refused] == [
        f'{path}:2: {tmp_path}/new.mp4: the installed FFmpeg does not support the codec "zzzz" of the pictures\n    {convert}',
        f"{path}:3: {tmp_path}/list.mp4: this is a list of files to be joined (ffconcat), not a media file\n    Name the files that it refers to.",
        f'{path}:4: {tmp_path}/drawing.svg: the installed FFmpeg does not support the codec "svg" of the pictures\n    {convert}',
    ]


def test_a_clip_whose_sound_cannot_be_decoded_keeps_its_pictures(tmp_path: Path) -> None:
    clip_file(tmp_path / "a.mp4")
    content = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(content.replace(b"mp4a", b"zzzz").replace(b"esds", b"free"))
    clip_file(tmp_path / "b.mp4")
    path = clips(tmp_path, [{"video": "a.mp4"}, {"video": "b.mp4"}])
    assert refused(path, resolution_buckets="64x64x17") == (
        f'{path}:1: {tmp_path}/a.mp4: the installed FFmpeg does not support the codec "zzzz" of the sound\n'
        f'    Set skip_audio, name a sound in a column "audio", or keep only its video with {SKIP}. {TRAIN_WITHOUT}'
    )
    summary = encode(path, resolution_buckets="64x64x17", on_error="skip")
    assert (summary.samples, list(read_source(summary.root, "latents"))) == (("b",), ["a", "b"])
    assert encode(path, tmp_path / "silent", resolution_buckets="64x64x17", skip_audio=True).samples == ("a", "b")


def test_pictures_that_are_turned_now_and_were_not_are_stale_and_nothing_else_is(tmp_path: Path) -> None:
    for name in ("a.png", "b.jpg", "c.png"):
        exif = Image.Exif()
        exif[0x0112] = 6 if name[0] in "ab" else 1
        Image.fromarray(pictures(1, 64, 96).frames[0].numpy()).save(tmp_path / name, exif=exif)
    path = clips(tmp_path, [{"video": name} for name in ("a.png", "b.jpg", "c.png")])
    summary = encode(path, resolution_buckets="96x64x1;64x96x1", skip_audio=True)
    entries = read_source(summary.root, "latents")
    assert [entries[name].shape[-2:] for name in "abc"] == [(3, 2), (3, 2), (2, 3)]
    infos = [RawFiles(tmp_path, tmp_path).info(tmp_path / name) for name in ("a.png", "b.jpg", "c.png")]
    assert [info.picture_corrections for info in infos] == [("turned",), (), ()]


def test_a_set_of_which_nothing_is_left_is_refused_even_with_skip(tmp_path: Path) -> None:
    clip_file(tmp_path / "short.mp4", frames=9)
    path = clips(tmp_path, [{"video": "short.mp4"}])
    assert refused(path, resolution_buckets="64x64x17", on_error="skip") == (
        f"{path}:1: {tmp_path}/short.mp4: has 9 frames, but the shortest bucket has 17\n    Add a shorter bucket."
    )


def test_a_set_without_any_sound_is_refused_in_one_sentence(tmp_path: Path) -> None:
    for index in range(3):
        clip_file(tmp_path / f"{index}.mp4", sound=False)
    path = clips(tmp_path, [{"video": f"{index}.mp4"} for index in range(3)])
    assert refused(path) == f'{path}: none of the clips has audio\n    Set skip_audio, or name audio files in a column "audio".'


def test_sounds_that_are_too_short_or_no_sounds_are_named(tmp_path: Path) -> None:
    sound_file(tmp_path / "short.wav", seconds=0.5)
    clip_file(tmp_path / "silent.mp4", sound=False)
    path = clips(tmp_path, [{"audio": "short.wav"}, {"audio": "silent.mp4"}])
    assert refused(path, audio_durations=[2.0, 1.0]) == (
        f"{path}:1: {tmp_path}/short.wav: lasts 0.500 s, but the shortest of audio_durations is 1 s\n    Add a shorter one, or leave it out with {SKIP}.\n"
        f"{path}:2: {tmp_path}/silent.mp4: has no sound\n    Name a file with audio."
    )


def test_an_image_without_a_bucket_of_one_frame_is_named(tmp_path: Path) -> None:
    clip_file(tmp_path / "image.png", sound=False, frames=1)
    clip_file(tmp_path / "clip.mp4", sound=False)
    path = clips(tmp_path, [{"video": "image.png"}, {"video": "clip.mp4"}])
    assert refused(path, resolution_buckets="64x64x17", skip_audio=True) == (
        f'{path}:1: {tmp_path}/image.png: is an image, and no bucket has one frame\n    Add a bucket such as "64x64x1".'
    )


def test_clips_of_several_sizes_without_buckets_are_refused_with_all_that_cannot_be_read(tmp_path: Path) -> None:
    clip_file(tmp_path / "a.mp4")
    clip_file(tmp_path / "b.mp4", height=96)
    (tmp_path / "c.mp4").write_text("no")
    path = clips(tmp_path, [{"video": f"{name}.mp4"} for name in "abc"])
    assert refused(path) == (
        f"{path}:3: {tmp_path}/c.mp4: this is not a clip, a sound or an image that can be read\n"
        "    Play the file to see whether it is intact, and convert it to MP4, WAV or PNG.\n"
        f"{path}: the clips have 2 sizes (width x height x frames): 64x64x17, 64x96x17\n"
        '    Set resolution_buckets, such as resolution_buckets = "64x96x17;64x64x17".'
    )


def test_clips_of_several_sizes_that_are_only_listened_to_may_have_durations_instead(tmp_path: Path) -> None:
    clip_file(tmp_path / "a.mp4")
    clip_file(tmp_path / "b.mp4", frames=20)
    path = clips(tmp_path, [{"video": f"{name}.mp4"} for name in "ab"])
    assert refused(path, folders=["audio_latents", "conditions"]) == (
        f"{path}: the clips have 2 sizes (width x height x frames): 64x64x17, 64x64x20\n"
        '    Set resolution_buckets, such as resolution_buckets = "64x64x17". '
        "Since only their audio is used, you can set audio_durations instead."
    )


@pytest.mark.parametrize("key", ["text_encoder", "video_vae", "audio_vae"])
def test_codecs_of_another_model_beside_the_tiny_one_are_refused(tmp_path: Path, key: str) -> None:
    clip_file(tmp_path / "a.mp4")
    path = clips(tmp_path, [{"video": "a.mp4"}])
    paths: dict[str, Any] = {key: tmp_path / "other"}
    with pytest.raises(ConfigError) as error:
        preprocess.preprocess(path, None, preprocess.PreprocessingTable(), Codecs("tiny", **paths), progress=False)
    assert (
        message(error)
        == f"the tiny model has its own VAEs and text encoder, but {key}_path names another: {tmp_path}/other\n    Remove {key}_path."
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"resolution_buckets": "60x64x17"},
            "preprocessing.resolution_buckets: the bucket 60x64x17 has width 60, which is not a multiple of 32\n    Use 32 or 64.",
        ),
        (
            {"resolution_buckets": "64x64x17", "reference_downscale_factor": 4},
            "preprocessing.reference_downscale_factor: the bucket 64x64x17 has width 64, and 64 divided by reference_downscale_factor 4 is not a multiple of 32\n"
            "    Use a multiple of 128, or another factor.\n"
            "preprocessing.reference_downscale_factor: the bucket 64x64x17 has height 64, and 64 divided by reference_downscale_factor 4 is not a multiple of 32\n"
            "    Use a multiple of 128, or another factor.",
        ),
        (
            {"reference_temporal_scale_factor": 4},
            "preprocessing.reference_temporal_scale_factor: the bucket 64x64x17 has 17 frames, and reference_temporal_scale_factor 4 "
            "does not reduce them to a multiple of 8 plus 1\n    Use a multiple of 32 plus 1, or another factor.",
        ),
    ],
)
def test_options_that_the_codec_or_the_references_do_not_allow_are_refused_first(
    tmp_path: Path, options: dict[str, Any], expected: str
) -> None:
    clip_file(tmp_path / "a.mp4", sound=False)
    path = clips(tmp_path, [{"video": "a.mp4", "reference_video": "a.mp4"}])
    with pytest.raises(ConfigError) as error:
        encode(path, skip_audio=True, **options)
    assert message(error) == expected
    assert not (tmp_path / ".precomputed").exists()


def test_references_that_do_not_go_with_their_clips_are_named(tmp_path: Path) -> None:
    clip_file(tmp_path / "a.mp4", frames=33, sound=False)
    clip_file(tmp_path / "short.mp4", frames=25, sound=False)
    clip_file(tmp_path / "slow.mp4", frames=33, sound=False, rate=8)
    clip_file(tmp_path / "b.mp4", frames=33, sound=False)
    path = clips(tmp_path, [{"video": "a.mp4", "reference_video": "short.mp4"}, {"video": "b.mp4", "reference_video": "slow.mp4"}])
    assert refused(path, skip_audio=True, reference_temporal_scale_factor=2) == (
        f"{path}:1: {tmp_path}/short.mp4: has 25 frames, but its clip has 33 in the bucket 64x64x33\n    Make the reference as long as its clip.\n"
        f"{path}:2: {tmp_path}/slow.mp4: has 8 frames per second, but its clip has 16\n"
        "    With reference_temporal_scale_factor, a reference must have the frame rate of its clip; convert the reference to that rate."
    )


def test_masks_that_do_not_go_with_their_clips_are_named(tmp_path: Path) -> None:
    rows = []
    for index, options in enumerate(({"frames": 9}, {"width": 96}, {"height": 128, "width": 128})):
        clip_file(tmp_path / f"{index}.mp4", sound=False)
        clip_file(tmp_path / f"masks/{index}.mp4", sound=False, **options)
        rows.append({"video": f"{index}.mp4", "video_mask": f"masks/{index}.mp4"})
    path = clips(tmp_path, rows)
    assert refused(path, skip_audio=True) == (
        f"{path}:1: {tmp_path}/masks/0.mp4: has 9 frames, but its clip has 17 in the bucket 64x64x17\n    Make the mask as long as its clip, or use an image.\n"
        f"{path}:2: {tmp_path}/masks/1.mp4: has 96 x 64 pixels, but its clip has 64 x 64, which is a different aspect ratio\n"
        "    A mask may be larger or smaller than its clip, but must have the same aspect ratio."
    )


def test_audio_masks_that_are_neither_as_long_as_the_sound_nor_as_its_part_are_named(tmp_path: Path) -> None:
    rows = []
    for index, (frames, seconds) in enumerate(((17, 1.0), (17, 1.15), (33, 1.5), (33, 1.0625), (33, 2.0625))):
        clip_file(tmp_path / f"{index}.mp4", frames=frames)
        mask_file(tmp_path / f"{index}.wav", [1.0, 0.0], seconds=seconds)
        rows.append({"video": f"{index}.mp4", "audio_mask": f"{index}.wav"})
    path = clips(tmp_path, rows)
    remedy = "    A mask must be as long as its sound, or as the part of the sound that is used."
    assert refused(path, resolution_buckets="64x64x17") == (
        f"{path}:1: {tmp_path}/0.wav: lasts 1.000 s, but its sound 1.062 s\n{remedy}\n"
        f"{path}:2: {tmp_path}/1.wav: lasts 1.150 s, but its sound 1.062 s\n{remedy}\n"
        f"{path}:3: {tmp_path}/2.wav: lasts 1.500 s, but its sound 2.062 s, of which 1.062 s are used\n{remedy}"
    )


def test_a_mask_of_cells_of_another_length_is_named_after_the_others_are_done(tmp_path: Path) -> None:
    rows = []
    for index, steps in enumerate((26, 27)):
        clip_file(tmp_path / f"{index}.mp4")
        write_sample(tmp_path, "hand", str(index), {"mask": torch.zeros(steps)}, Entry(()))
        rows.append({"video": f"{index}.mp4", "audio_mask": f"hand/{index}.safetensors"})
    path = clips(tmp_path, rows)
    with pytest.raises(DataError) as error:
        encode(path)
    assert message(error) == (
        f"{path}:1: {tmp_path}/hand/0.safetensors: is a mask of 26 values, but the sample has 27 latent cells\n    A mask must have one value per latent cell."
    )
    assert list(read_source(tmp_path / ".precomputed", "audio_masks")) == ["1"]


def test_a_clip_that_breaks_off_while_it_is_decoded_loses_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small_set(tmp_path)
    original = survey.look_at

    def looks_whole(*arguments: Any, **named: Any) -> Any:
        looked = original(*arguments, **named)
        clip_file(tmp_path / "clips/1.mp4", frames=12, seed=1)  # another program changes the file in between
        return looked

    monkeypatch.setattr(survey, "look_at", looks_whole)
    summary = encode(path, on_error="skip")
    assert summary.samples == ("clips/0", "clips/2")
    assert [str(problem) for problem in summary.refused] == [
        f"{path}:2: {tmp_path}/clips/1.mp4: has 12 frames, fewer than its header says; 17 are needed\n    Encode it again."
    ]


def test_what_is_refused_now_is_not_left_from_before(tmp_path: Path) -> None:
    path = small_set(tmp_path)
    encode(path)
    clip_file(tmp_path / "clips/1.mp4", frames=9, seed=1)
    summary = encode(path, resolution_buckets="64x64x17", on_error="skip")
    assert summary.samples == ("clips/0", "clips/2")
    for folder in summary.folders:
        assert list(read_source(summary.root, folder)) == ["clips/0", "clips/2"]
    sources = {"text": Source("conditions", "text"), "video": Source("latents", "latents", "video")}
    assert read_manifest(summary.root, sources).samples == ("clips/0", "clips/2")


def test_values_that_are_not_finite_are_refused_and_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small_set(tmp_path, 2)

    def broken(codec: TinyVideoCodec, clip: Clip) -> torch.Tensor:
        return torch.full((128, 3, 2, 2), float("nan"))

    monkeypatch.setattr(TinyVideoCodec, "encode", broken)
    with pytest.raises(DataError) as error:
        encode(path)
    assert message(error) == "\n".join(
        f'{path}:{line}: the encoded values for "latents" are not finite\n    Check the files of this sample and the weights of the VAE.'
        for line in (1, 2)
    )
    assert read_source(tmp_path / ".precomputed", "latents") == {}


def test_a_sound_that_is_too_short_for_the_codec_is_named(tmp_path: Path) -> None:
    sound_file(tmp_path / "click.wav", seconds=0.02)
    sound_file(tmp_path / "tone.wav")
    path = clips(tmp_path, [{"audio": "click.wav"}, {"audio": "tone.wav"}])
    with pytest.raises(DataError) as error:
        encode(path)
    assert (
        message(error)
        == f"{path}:1: {tmp_path}/click.wav: a sound of 0.020 seconds is too short\n    A sound must be longer than 0.032 seconds."
    )


def test_a_disk_that_takes_nothing_stops_everything_at_once(tmp_path: Path) -> None:
    path = small_set(tmp_path, 2)
    root = tmp_path / "file"
    root.write_text("")
    with pytest.raises(DataError) as error:
        encode(path, root)
    assert message(error) == f"{root}: cannot be made: File exists\n    Name another folder to write to."


def test_a_model_whose_codecs_are_not_there_is_refused_before_any_clip_is_opened(tmp_path: Path) -> None:
    clip_file(tmp_path / "a.mp4")
    path = clips(tmp_path, [{"video": "a.mp4"}])
    with pytest.raises(ConfigError) as theirs:
        video_codec("nowhere")
    with pytest.raises(ConfigError) as ours:
        preprocess.preprocess(path, None, preprocess.PreprocessingTable(), Codecs("nowhere"), progress=False)
    assert message(ours) == message(theirs)
    assert not (tmp_path / ".precomputed").exists()
