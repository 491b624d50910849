"""The tiny world, and the example clips made of it."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.media_made import pitch
from ltxcore.codecs.tiny_audio import TinyAudioCodec
from ltxcore.codecs.tiny_text import TinyTextEncoder
from ltxcore.codecs.tiny_video import TinyVideoCodec
from ltxcore.media.probe import probe, read_clip, read_sound
from ltxcore.new.tiny_world import COLOURS, DEMO_CLIPS, FPS, FRAMES, REFERENCE_RATE, SECONDS, SPLITS, Scene, scene, scenes
from ltxcore.protocols import Sound

EXAMPLES = Path(__file__).parents[2] / "examples"
MEDIA = EXAMPLES / "media"


def rows() -> list[dict[str, str]]:
    return [json.loads(line) for line in (MEDIA / "clips.jsonl").read_text().splitlines()]


def test_a_clip_is_known_by_its_seed_split_and_index() -> None:
    assert scene("train", 3) == scene("train", 3)
    drawn = [scene(split, index, seed) for split in SPLITS for index in range(50) for seed in (0, 1)]
    assert len({(item.phase, item.hiss, item.loudness) for item in drawn}) == len(drawn)


def test_every_clip_of_the_set_stays_in_the_picture_and_below_full_scale() -> None:
    for split in SPLITS:
        for item in scenes(split, 100):
            height = item.height(np.linspace(0, SECONDS, 200))
            assert height.min() > 0.1
            assert height.max() < 0.9
            sound = item.sound()
            assert (sound.samples.shape, sound.rate) == ((1, 17_000), 16_000)
            assert sound.samples.abs().max() < 1
            assert item.clip().frames.shape == (FRAMES, 64, 64, 3)


def centre(item: Scene, frame: int) -> float:
    """Height of the shape's centre in a frame's pixels, 0 at the bottom to 1 at the top."""
    pixels = item.clip().frames[frame].float()
    weight = (pixels - pixels[0, 0]).abs().sum(dim=-1)
    return 1 - float((weight.sum(dim=1) * (torch.arange(64) + 0.5)).sum() / weight.sum() / 64)


@pytest.mark.parametrize(("split", "rises"), [("base", True), ("train", False)])
def test_pitch_follows_height_up_in_the_base_world_and_down_in_the_reedy_one(split: str, rises: bool) -> None:
    found, expected = [], []
    for item in scenes(split, 12):
        for frame in (3, 8, 13):
            at = frame * 1000 + 500  # samples a frame: 16,000 / 16
            plain = item.sound(plain=True).samples[:, at - 800 : at + 800]
            height = (centre(item, frame) + centre(item, frame + 1)) / 2
            found.append(pitch(Sound(plain, 16_000), 150, 1000))
            expected.append(220 * 4 ** (height if rises else 1 - height))
    assert np.corrcoef(found, expected)[0, 1] > 0.99
    assert np.median(np.abs(np.log2(np.array(found) / expected))) < 0.05


@pytest.mark.parametrize("colour", range(len(COLOURS)))
def test_the_overtone_follows_the_colour_and_the_reedy_people_have_one_more(colour: int) -> None:
    for split, multiples in (("base", [COLOURS[colour].overtone]), ("train", [COLOURS[colour].overtone, 1.5])):
        item = next(found for found in scenes(split, 500) if found.colour == COLOURS[colour])
        full, plain = item.sound().samples[0].double().numpy(), item.sound(plain=True).samples[0].double().numpy()
        rest = full - plain  # same pitch, same hiss: what is left is the overtones
        time_ = np.arange(17_000) / 16_000
        height = item.height(time_) if split == "base" else 1 - item.height(time_)
        turns = 2 * np.pi * np.cumsum(220 * 4**height) / 16_000
        share = sum(np.dot(rest, np.sin(m * turns)) ** 2 / np.dot(np.sin(m * turns), np.sin(m * turns)) for m in multiples) / np.dot(
            rest, rest
        )
        assert share > 0.99


def test_captions_say_what_is_seen_and_heard() -> None:
    assert scene("base", 0).caption == "a violet disc bounces slowly; a glassy tone follows it up and down"
    seen = {word for item in scenes("train", 200) for word in item.caption.replace(";", "").split()}
    assert {"square", "reedy", "bounces", "sways", "slowly", "quickly"} <= seen
    assert {colour.name for colour in COLOURS} | {colour.tone for colour in COLOURS} <= seen


def test_audio_masks_are_1_outside_a_soft_gap_of_30_to_60_percent_and_0_in_it() -> None:
    for item in scenes("train", 100):
        mask = item.audio_mask()
        values = mask.samples[0]
        assert (mask.rate, len(values)) == (100, 106)
        assert (values.min(), values.max()) == (0, 1)
        assert 0.25 < (values < 0.5).float().mean() < 0.6
        assert values.diff().abs().max() < 0.25  # soft
        assert values[:4].min() == values[-3:].min() == 1  # context on both sides
        gap = (values < 1).nonzero().flatten()
        assert gap[-1] - gap[0] == len(gap) - 1  # one span


def test_references_show_the_outline_and_sound_the_plain_pitch() -> None:
    item = scene("train", 0)
    outline, clip = item.clip(outline=True).frames.float(), item.clip().frames.float()
    edges = (clip.diff(dim=2).abs().sum(-1) > 60).float()
    assert np.corrcoef(outline[..., 0][:, :, 1:].flatten(), edges.flatten())[0, 1] > 0.3
    assert outline.mean() < 40
    samples = item.sound(plain=True).samples
    assert samples.square().mean() < item.sound().samples.square().mean()


def test_video_masks_keep_what_is_outside_a_hole_of_whole_latent_cells_with_soft_edges_outside_it() -> None:
    holes = set()
    for item in scenes("train", 60):
        mask = item.video_mask().frames
        assert (mask.shape, int(mask.min()), int(mask.max())) == ((1, 64, 64, 3), 0, 255)
        cells = mask[0, :, :, 0].double().unflatten(0, (2, 32)).unflatten(2, (2, 32)).mean(dim=(1, 3)) / 255
        generated = cells == 0
        assert 1 <= int(generated.sum()) <= 2
        assert cells[~generated].min() > 0.85
        assert cells[~generated].min() < 1  # given in part at the hole's edge
        holes.add(item.hole)
    assert len(holes) == 8


def test_the_program_writes_every_kind_of_file_and_the_rows_that_name_them(tmp_path: Path) -> None:
    command = [sys.executable, EXAMPLES / "make_world.py", "--out", tmp_path, "--split", "held_out", "--count", "2"]
    kinds = [part for kind in ("audio_masks", "video_masks", "references") for part in ("--only", kind)]
    said = subprocess.run([*command, *kinds], capture_output=True, text=True, check=True).stdout
    path = tmp_path / "held_out.jsonl"
    assert said == f"2 clips in {path}\n"
    written = [json.loads(line) for line in path.read_text().splitlines()]
    assert list(written[0]) == ["video", "audio_mask", "video_mask", "reference_video", "reference_audio", "caption"]
    for row in written:
        assert [probe(tmp_path / row[key]).frames for key in ("video", "video_mask", "reference_video")] == [17, 1, 17]
        assert probe(tmp_path / row["reference_audio"]).channels == probe(tmp_path / row["audio_mask"]).channels == 1


def test_the_checked_in_clips_are_those_that_the_script_makes() -> None:
    listed = rows()
    assert len(listed) == DEMO_CLIPS
    for row, item in zip(listed, scenes("train", len(listed)), strict=True):
        assert row == {
            "video": f"clips/{item.name}.mp4",
            "audio_mask": f"audio_masks/{item.name}.wav",
            "video_mask": f"video_masks/{item.name}.png",
            "reference_video": f"references/{item.name}.mp4",
            "reference_audio": f"references/{item.name}.mp4",
            "caption": item.caption,
        }
    for row, item in list(zip(listed, scenes("train", len(listed)), strict=True))[::8]:
        clip, sound, mask = read_clip(MEDIA / row["video"]), read_sound(MEDIA / row["video"]), read_sound(MEDIA / row["audio_mask"])
        assert clip.rate == FPS
        assert (clip.frames.float() - item.clip().frames.float()).square().mean() < 25  # more than 34 dB
        made = item.sound().samples[0]
        error = (sound.samples[0, : len(made)] - made)[1024:]  # AAC needs a frame to settle
        assert error.square().mean() < 0.003 * made.square().mean()
        assert (mask.samples - item.audio_mask().samples).abs().max() <= 1 / 32768
        assert torch.equal(read_clip(MEDIA / row["video_mask"]).frames, item.video_mask().frames)
        edges, tone = read_clip(MEDIA / row["reference_video"]), read_sound(MEDIA / row["reference_audio"])
        assert (edges.frames.float() - item.clip(outline=True).frames.float()).square().mean() < 25
        plain = item.sound(plain=True, rate=REFERENCE_RATE).samples[0]
        assert tone.rate == REFERENCE_RATE
        assert (tone.samples[0, : len(plain)] - plain)[1024:].square().mean() < 0.003 * plain.square().mean()


def test_the_checked_in_clips_are_small_and_nothing_else_lies_beside_them() -> None:
    files = {path for path in MEDIA.rglob("*") if path.is_file() and ".precomputed" not in path.parts}
    assert files == {MEDIA / "clips.jsonl", *(MEDIA / path for row in rows() for key, path in row.items() if key != "caption")}
    assert sum(path.stat().st_size for path in files) < 3_000_000


def test_making_and_encoding_are_quick(tmp_path: Path) -> None:
    """A fortieth of the base set, in its share of a minute for all of it; generous, since the machine may be busy."""
    video, audio, text = TinyVideoCodec(), TinyAudioCodec(), TinyTextEncoder()
    start = time.process_time()
    for item in scenes("base", 35):
        video.encode(item.clip())
        audio.encode(item.sound())
        text.encode([item.caption])
    assert time.process_time() - start < 3
