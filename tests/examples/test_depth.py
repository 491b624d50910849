"""A stranger's column of clips is cut by windows, checked by the doctor, and seen in `inspect`, as ours are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from helpers.raw_media import clip_file, dataset_file
from ltxcore.cli.main import main
from ltxcore.codecs.load_codecs import video_codec
from ltxcore.media.probe import read_clip, write_clip
from ltxcore.protocols import Clip

PLUGIN = Path(__file__).parents[2] / "examples" / "ltx-depth" / "src" / "ltx_depth" / "__init__.py"

RUN = f"""
output_dir = "out"
plugins = ["{PLUGIN.as_posix()}"]

[model]
model_path = "tiny"

[training_strategy]
name = "flexible"

[training_strategy.video]
is_generated = true
latents_dir = "latents"
conditions = [{{ type = "by_depth", depth_dir = "depth_clips" }}]

[optimization]
steps = 2
batch_size = 2

[acceleration]
mixed_precision_mode = "no"

[data]
dataset = "set.jsonl"

[preprocessing]
resolution_buckets = "64x64x9"
windows = "uniform:2"
"""


def ltx(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, list(arguments), catch_exceptions=False)
    return done.exit_code, done.output


def depth_clip(path: Path, frames: int, rate: float = 16.0, width: int = 64) -> Path:
    """A clip that grows brighter with each frame, from left to right by none."""
    levels = torch.linspace(20, 230, frames).round().to(torch.uint8)
    write_clip(path, Clip(levels[:, None, None, None].expand(frames, 64, width, 3).contiguous(), rate), None)
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clip of 33 frames with its depths, and a run on two windows of it."""
    monkeypatch.chdir(tmp_path)
    clip_file(tmp_path / "a.mp4", frames=33)
    depth_clip(tmp_path / "depth.mp4", 33)
    dataset_file(tmp_path / "set.jsonl", [{"video": "a.mp4", "depth_clip": "depth.mp4", "caption": "c"}])
    (tmp_path / "run.toml").write_text(RUN)
    return tmp_path


def encode() -> None:
    options = ["--plugin", str(PLUGIN), "--resolution-buckets", "64x64x9", "--windows", "uniform:2"]
    assert ltx("preprocess", "set.jsonl", "--model-path", "tiny", *options)[0] == 0


def test_each_window_has_the_depths_of_its_own_frames(folder: Path) -> None:
    encode()
    raw, codec = read_clip(folder / "depth.mp4").frames.float().mean((1, 2, 3)), video_codec("tiny", device="cpu")
    for name, start in (("a", 0), ("a@000024", 24)):
        latents = load_file(folder / ".precomputed/depth_clips" / f"{name}.safetensors")["latents"]
        decoded = codec.decode(latents, 16.0).frames.float().mean((1, 2, 3))
        assert decoded.tolist() == pytest.approx(raw[start : start + 9].tolist(), abs=6)


@pytest.mark.slow
def test_a_run_learns_from_them(folder: Path) -> None:
    code, said = ltx("run", "run.toml", "--set", "validation.inference_steps=2")
    assert code == 0, said
    assert "Done, 2 steps." in said
    assert "--condition type=by_depth,video=REFERENCE.mp4" in said


def test_the_added_depths_of_every_window_are_seen_in_inspect(folder: Path) -> None:
    encode()
    code, shown = ltx("inspect", "run.toml", "--steps", "1", "--png", "seen.png")
    assert code == 0, shown
    assert "video.cond0.by_depth  2 of 2 samples" in shown
    rows = {words[0]: words[2:6] for line in shown.splitlines() if (words := line.split()) and words[0] in ("a", "a@000024")}
    assert rows == {name: ["8", "0", "0", "8"] for name in ("a", "a@000024")}  # generated, given, given in part, appended
    assert Path("seen.png").is_file()


def test_the_doctor_checks_the_depths_of_each_window(folder: Path) -> None:
    assert ltx("doctor", "run.toml")[0] == 0
    depth_clip(folder / "depth.mp4", 30)
    code, said = ltx("doctor", "run.toml")
    assert code == 1
    assert "set.jsonl:1, from frame 24: " in said
    assert "has 30 frames, but its clip has 33 to the end of this window of 64x64x9" in said
    (folder / "depth.mp4").write_bytes(b"nothing")
    code, said = ltx("doctor", "run.toml")
    assert (code, "depth.mp4" in said) == (1, True)


def test_the_doctor_warns_of_depths_of_another_rate_or_shape(folder: Path) -> None:
    depth_clip(folder / "depth.mp4", 40, rate=20.0, width=96)
    code, said = ltx("doctor", "run.toml", "--json")
    assert code == 0
    found = [finding["what"] for finding in json.loads(said)["findings"] if finding["check"] == "reference"]
    assert (
        found
        == [
            "has 96 x 64 pixels, but its clip has 64 x 64: the aspect ratios differ, so it is cropped in a different place",
            "has 20 frames per second, but its clip has 16: its frames show different moments",
        ]
        * 2
    )
