"""Some frames of a clip are also encoded as pictures, each by itself, where a run or an option asks for it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from helpers.raw_media import FRAMES, clip_file, dataset_file, encode, message, small_set, sound_file
from ltxcore.codecs.load_codecs import video_codec
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.encode.candidates import candidate_count, candidate_frames
from ltxcore.errors import DataError
from ltxcore.media.compressed import compressed
from ltxcore.media.probe import read_clip
from ltxcore.protocols import Clip

FOLDERS = ("latents", "conditions", "keyframes")


def pictures(root: Path, name: str) -> tuple[torch.Tensor, list[int]]:
    found = load_file(root / "keyframes" / f"{name}.safetensors")
    return found["pictures"], found["frames"].int().tolist()


def test_each_candidate_is_encoded_by_itself_as_a_picture(tmp_path: Path) -> None:
    root = encode(small_set(tmp_path, 2), folders=FOLDERS).root
    for name in ("clips/0", "clips/1"):
        clip = read_clip(tmp_path / f"{name}.mp4")
        found, frames = pictures(root, name)
        assert (len(frames), frames[0], frames[-1]) == (4, 0, FRAMES - 1)
        alone = [video_codec("tiny").encode(Clip(clip.frames[frame : frame + 1], clip.rate)) for frame in frames]
        assert torch.equal(found, torch.stack(alone))
        assert found.shape == (4, 128, 1, 2, 2)


def test_candidates_are_compressed_before_they_are_encoded_where_an_option_asks_for_it(tmp_path: Path) -> None:
    root = encode(small_set(tmp_path, 1), folders=FOLDERS).root
    sharp = pictures(root, "clips/0")[0]
    done = encode(tmp_path / "set.jsonl", folders=FOLDERS, image_crf=33).folders
    assert {folder for folder, counts in done.items() if counts.done} == {"keyframes"}, "clips are as they were"
    clip = read_clip(tmp_path / "clips" / "0.mp4")
    found, frames = pictures(root, "clips/0")
    assert torch.equal(found, torch.stack([video_codec("tiny").encode(Clip(compressed(clip.frames[[each]], 33), 1.0)) for each in frames]))
    assert not torch.equal(found, sharp)


def test_keyframes_are_not_encoded_unless_a_run_or_an_option_asks_for_them(tmp_path: Path) -> None:
    root = encode(small_set(tmp_path, 1)).root
    assert not (root / "keyframes").exists()
    summary = encode(tmp_path / "set.jsonl", keyframe_candidates=3)
    assert len(pictures(root, "clips/0")[1]) == 3
    assert {folder: (counts.done, counts.reused) for folder, counts in summary.folders.items() if counts.done} == {"keyframes": (1, 0)}
    assert not encode(tmp_path / "set.jsonl", folders=FOLDERS, keyframe_candidates=3).done, "the same candidates need not be encoded again"


def test_the_candidates_between_are_drawn_from_the_content_of_the_clip() -> None:
    drawn = [candidate_frames(4, 97, f"clip {number}") for number in range(400)]
    assert all(frames[0] == 0 and frames[-1] == 96 and frames == sorted(set(frames)) and len(frames) == 4 for frames in drawn)
    between = Counter(frame * 4 // 97 for frames in drawn for frame in frames[1:-1])
    assert all(160 <= between[quarter] <= 240 for quarter in range(4)), between
    assert candidate_frames(4, 97, "clip 7") == drawn[7]


@pytest.mark.parametrize(
    ("asked", "frames", "expected"),
    [(1, 9, [0]), (2, 9, [0, 8]), (9, 9, list(range(9))), (12, 9, list(range(9))), (None, 2, [0, 1]), (None, 1, [0])],
)
def test_a_clip_has_at_most_as_many_candidates_as_frames(asked: int | None, frames: int, expected: list[int]) -> None:
    count = candidate_count(PreprocessingTable(keyframe_candidates=asked), frames)
    assert candidate_frames(count, frames, "any") == expected


def test_an_image_is_its_own_keyframe(tmp_path: Path) -> None:
    clip_file(tmp_path / "a.png", frames=1, sound=False)
    dataset = dataset_file(tmp_path / "set.jsonl", [{"video": "a.png", "caption": "an image"}])
    root = encode(dataset, folders=FOLDERS).root
    found, frames = pictures(root, "a")
    assert frames == [0]
    assert torch.equal(found[0], load_file(root / "latents" / "a.safetensors")["latents"])


def test_sounds_have_no_keyframes(tmp_path: Path) -> None:
    sound_file(tmp_path / "a.wav")
    dataset = dataset_file(tmp_path / "set.jsonl", [{"audio": "a.wav", "caption": "a tone"}])
    with pytest.raises(DataError) as error:
        encode(dataset, folders=("audio_latents", "conditions", "keyframes"))
    assert 'the run reads the folder "keyframes", but there is no column "video"' in message(error)
