"""The tutorial's way from a folder of clips to a LoRA and a sample of it, with the tiny model."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from helpers.raw_media import clip_file
from ltxcore.cli.main import main
from ltxcore.media.probe import probe

PAGE = Path(__file__).parents[2] / "docs" / "tutorial" / "first-lora.md"


def ltx(*arguments: str) -> str:
    done = CliRunner().invoke(main, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_folder_of_clips_becomes_a_lora_and_a_sample_as_the_tutorial_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number, (width, height) in enumerate([(64, 96), (64, 96), (96, 64)]):
        clip_file(tmp_path / f"clips/IMG_041{number}.mp4", seed=number, width=width, height=height, frames=17)
        (tmp_path / f"clips/IMG_041{number}.mp4").rename(tmp_path / f"clips/IMG_041{number}.MOV")
        (tmp_path / f"clips/IMG_041{number}.txt").write_text(f"square number {number} moves")
    line = next(line for line in ltx("check", "clips/").splitlines() if line.startswith("resolution_buckets = "))
    assert line == 'resolution_buckets = "64x96x17;96x64x17"'

    (text,) = [
        block for block in re.findall(r"^```toml\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL) if 'dataset = "clips/"' in block
    ]
    text = re.sub(r"^model_path = .*$", 'model_path = "tiny"', text, flags=re.MULTILINE)
    text = re.sub(r"^text_encoder_path = .*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"^resolution_buckets = .*$", line, text, flags=re.MULTILINE)
    text = re.sub(r"^steps = .*$", "steps = 5", text, flags=re.MULTILINE)
    text = text.replace("[[validation.samples]]", "[validation]\ninference_steps = 2\nvideo_dims = [64, 96, 17]\n\n[[validation.samples]]")
    Path("clips.toml").write_text(text)
    assert "3, not encoded yet" in ltx("check", "clips.toml")
    said = ltx("run", "clips.toml")
    assert f"3 samples in {tmp_path}/clips.precomputed, 9 files encoded now\n" in said
    assert "Done, 5 steps." in said
    assert len(Path("outputs/clips/metrics.jsonl").read_text().splitlines()) >= 5
    assert json.loads(Path("outputs/clips/run.json").read_text())["status"] == "finished"
    arguments = [
        "--model",
        "tiny",
        "--lora",
        "outputs/clips/lora.safetensors",
        "-o",
        "cat.mp4",
        "--video-dims",
        "64x96x17",
        "--inference-steps",
        "2",
    ]
    ltx("sample", "MYCLIPS a cat looks out of a window", *arguments)
    assert (probe(Path("cat.mp4")).frames, probe(Path("cat.mp4")).width, probe(Path("cat.mp4")).height) == (17, 64, 96)
    assert "3 to train on" in ltx("check", "clips.toml", "--set", "output_dir=other")
