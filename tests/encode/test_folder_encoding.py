"""A folder of media from first encoding to a later one: what is made, what is made again, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.raw_media import clip_file, encode, message, sound_file
from ltxcore.codecs.source import Codecs
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.encode.preprocess import preprocess
from ltxcore.encoded.manifest import read_source
from ltxcore.errors import DataError

BUCKETS = "64x64x17;64x64x1"
TRAIN_WITHOUT = 'Or set missing = "train_without" under [data], if the run generates both video and audio.'


def described(folder: Path, **captions: str) -> None:
    for name, caption in captions.items():
        (folder / f"{name}.txt").write_text(caption)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two clips with sound, one of them in a sub-folder, with captions."""
    folder = tmp_path / "clips"
    clip_file(folder / "a.mp4", seed=0)
    clip_file(folder / "beach/b.mp4", seed=1)
    described(folder, a="one", **{"beach/b": "two"})
    return folder


def test_a_folder_is_encoded_beside_itself_and_nothing_is_written_in_it(clips: Path) -> None:
    before = sorted(clips.rglob("*"))
    summary = encode(clips)
    assert (summary.root, summary.samples, summary.done) == (clips.parent / "clips.precomputed", ("a", "beach/b"), 6)
    assert sorted(clips.rglob("*")) == before
    assert {name: entry.origin for name, entry in read_source(summary.root, "latents").items()} == {"a": "a.mp4", "beach/b": "beach/b.mp4"}
    again = encode(clips)
    assert (again.done, again.reused, again.notes) == (0, 6, summary.notes)


@pytest.mark.parametrize("inside", ["", "../clips", "beach/.."])
def test_a_folder_is_not_encoded_into_itself(clips: Path, inside: str) -> None:
    before = sorted(clips.rglob("*"))
    with pytest.raises(DataError, match="holds the media, and would no longer be read as a folder of media") as error:
        encode(clips, clips / inside)
    assert [problem.where for problem in error.value.problems] == [str(clips / inside)]
    assert sorted(clips.rglob("*")) == before
    assert encode(clips, clips / "encoded").done == encode(clips, clips / "encoded").reused == 6


def test_a_clip_more_and_an_edited_caption_are_encoded_alone(clips: Path) -> None:
    root = encode(clips).root
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.safetensors")}
    clip_file(clips / "c.mp4", seed=2)
    described(clips, c="three", a="another")
    summary = encode(clips)
    assert {folder: counts.done for folder, counts in summary.folders.items()} == {"conditions": 2, "latents": 1, "audio_latents": 1}
    changed = {str(path.relative_to(root)) for path, at in before.items() if path.stat().st_mtime_ns != at}
    assert changed == {"conditions/a.safetensors"}


def test_a_renamed_clip_is_encoded_anew_and_said(clips: Path) -> None:
    root = encode(clips).root
    for ending in ("mp4", "txt"):
        (clips / f"a.{ending}").rename(clips / f"beach/sea.{ending}")
        (clips / f"beach/b.{ending}").unlink()
    clip_file(clips / "c.mp4", seed=2)
    described(clips, c="three")
    summary = encode(clips)
    assert (summary.samples, summary.done) == (("beach/sea", "c"), 6)
    assert summary.notes[-1] == (
        f"{root}: 2 samples are left over from files that are no longer in {clips}, and not used: a.mp4 (which is beach/sea.mp4 now), beach/b.mp4"
    )


def test_a_run_that_began_with_some_files_does_not_say_that_the_others_are_gone(clips: Path) -> None:
    root = encode(clips).root
    summary = preprocess(clips, None, PreprocessingTable(), Codecs("tiny"), only=["a"], progress=False)
    assert summary.samples == ("a",)
    assert not any("left over" in note for note in summary.notes)
    (clips / "a.mp4").rename(clips / "c.mp4")
    (clips / "a.txt").rename(clips / "c.txt")
    summary = preprocess(clips, None, PreprocessingTable(), Codecs("tiny"), only=["a", "beach/b"], progress=False)
    assert summary.notes[-1] == f"{root}: 1 sample is left over from files that are no longer in {clips}, and not used: a.mp4"


def test_what_is_left_out_and_what_has_no_caption_is_told_in_the_end(clips: Path) -> None:
    (clips / "notes.pdf").touch()
    clip_file(clips / "c.mp4", seed=2)
    summary = encode(clips, on_error="skip")
    assert f"1 refused:\n  {clips}/c.mp4: has no caption\n" in str(summary)
    assert str(summary).splitlines()[-2:] == [
        f"{clips}: left out: 1 file of an unknown kind (.pdf: notes.pdf)",
        f"{clips}: resolution_buckets is 64x64x17, the size of all its clips",
    ]


def test_if_nothing_is_left_it_is_an_error_that_says_why(tmp_path: Path) -> None:
    clip_file(tmp_path / "clips/a.mp4")
    with pytest.raises(DataError) as error:
        encode(tmp_path / "clips", on_error="skip")
    assert message(error) == f"{tmp_path}/clips/a.mp4: has no caption"
    assert not (tmp_path / "clips.precomputed").exists()


def test_a_sound_among_clips_is_refused_or_kept_for_runs_of_sound(clips: Path) -> None:
    sound_file(clips / "waves.wav")
    clip_file(clips / "photo.png", frames=1, sound=False)
    described(clips, waves="waves", photo="a photo")
    with pytest.raises(DataError) as error:
        encode(clips, resolution_buckets=BUCKETS)
    assert message(error) == (
        f"{clips}/photo.png: is an image, which has neither duration nor audio\n"
        f'    Set skip_audio, or keep only its image with on_error = "skip". {TRAIN_WITHOUT}\n'
        f'{clips}/waves.wav: has audio but no video\n    Move it elsewhere, or keep only its audio with on_error = "skip". {TRAIN_WITHOUT}'
    )
    summary = encode(clips, resolution_buckets=BUCKETS, on_error="skip")
    assert summary.samples == ("a", "beach/b")
    assert str(summary).splitlines()[3:] == [
        f"2 samples in {summary.root}",
        "1 more without audio, for video-only runs:",
        f"  {clips}/photo.png: is an image, which has neither duration nor audio",
        "1 more without video, for audio-only runs:",
        f"  {clips}/waves.wav: has audio but no video",
    ]
    made = {folder: list(read_source(summary.root, folder)) for folder in summary.folders}
    assert made == {
        "conditions": ["a", "beach/b", "photo", "waves"],
        "latents": ["a", "beach/b", "photo"],
        "audio_latents": ["a", "beach/b", "waves"],
    }


def test_with_skip_audio_neither_the_sound_of_clips_nor_sounds_are_encoded(clips: Path) -> None:
    sound_file(clips / "waves.wav")
    described(clips, waves="waves break")
    summary = encode(clips, resolution_buckets=BUCKETS, on_error="skip", skip_audio=True)
    assert summary.samples == ("a", "beach/b")
    assert list(summary.folders) == ["conditions", "latents"]
    assert [problem.where for problem in summary.refused] == [str(clips / "waves.wav")]


def test_a_run_of_sound_takes_clips_and_sounds_and_a_run_of_pictures_refuses_the_sounds(clips: Path) -> None:
    sound_file(clips / "waves.wav")
    described(clips, waves="waves")
    summary = encode(clips, folders=["audio_latents", "conditions"], audio_durations=[0.5])
    assert summary.samples == ("a", "beach/b", "waves")
    with pytest.raises(DataError) as error:
        encode(clips, folders=["latents", "conditions"])
    assert message(error) == (f'{clips}/waves.wav: has audio but no video\n    Move it elsewhere, or leave it out with on_error = "skip".')
    summary = encode(clips, folders=["latents", "conditions"], on_error="skip")
    assert (summary.samples, [problem.where for problem in summary.refused]) == (("a", "beach/b"), [f"{clips}/waves.wav"])
    assert "waves" not in read_source(summary.root, "conditions")


def test_a_folder_of_sounds_needs_no_pictures(tmp_path: Path) -> None:
    sound_file(tmp_path / "takes/a.wav")
    described(tmp_path / "takes", a="a tone")
    summary = encode(tmp_path / "takes")
    assert (summary.samples, list(summary.folders)) == (("a",), ["conditions", "audio_latents"])
