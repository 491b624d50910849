"""A folder of clips from phones, with captions or without, becomes a LoRA by three commands, each of which says the next."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from helpers.hdr_made import PQ, shown
from helpers.phone_clips import TWELVE, PhoneClip, make_twelve, path_in, picture, pq_signal, time_in
from ltxcore.api.media import probe, read_clip, read_sound
from ltxcore.cli.main import main

pytestmark = pytest.mark.slow

ALL = frozenset(clip.name for clip in TWELVE)


def ltx(*arguments: str) -> tuple[list[str], str]:
    """The lines that a command prints, and what it reports meanwhile."""
    done = CliRunner().invoke(main, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout.splitlines(), done.stderr


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_twelve(tmp_path_factory.mktemp("phone") / "Été 2024", ALL)


@pytest.fixture(scope="module")
def encoded(media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the run that `ltx new` writes would train on, decoded."""
    folder = tmp_path_factory.mktemp("decoded")
    ltx("new", "t2v", "--data", str(media), "--model", "tiny", "-o", str(folder / "run.toml"))
    (line,) = [each for each in (folder / "run.toml").read_text().splitlines() if each.startswith("resolution_buckets")]
    options = ["--resolution-buckets", line.split('"')[1], "--variable-rate", "resample", "--missing", "train_without"]
    ltx("preprocess", str(media), "--model-path", "tiny", *options, "--output-dir", str(folder / "set"), "--decode")
    return folder / "set" / "decoded" / "latents"


@pytest.mark.parametrize("captioned", [ALL, frozenset[str]()], ids=["captions", "none"])
def test_twelve_clips_become_a_lora_by_three_commands_that_each_say_the_next(
    media: Path, captioned: Collection[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(media, "Été 2024")
    for name in ALL - set(captioned):
        path_in(Path("Été 2024"), name).with_suffix(".txt").unlink()
    lines, _ = ltx("new", "t2v", "--data", "Été 2024/", "--model", "tiny", "-o", "summer.toml")
    assert '1 file has no audio, and is trained on without it: missing = "train_without".' in lines
    assert '2 files have a variable frame rate, and are resampled to a constant one: variable_rate = "resample".' in lines
    bare = len(ALL - set(captioned))
    assert any(line.startswith(f"{bare} files have no caption") for line in lines) == bool(bare)
    assert lines[-2] == "summer.toml is valid."

    start = lines[-1].removeprefix("Start it: ltx ")
    lines, told = ltx(*shlex.split(start), "--set", "optimization.steps=1", "--set", "validation.inference_steps=2")
    assert "11 samples to train on, 1 held out" in told
    assert "11 samples have video and audio, 1 video alone" in told
    assert "1 file is HDR, and is converted to BT.709" in told
    assert lines[-2] == "Generate with the trained weights:"

    (path,), told = ltx(*shlex.split(lines[-1])[1:], "--inference-steps", "2")
    assert (probe(path).frames, probe(path).sound_rate) == (17, 16_000)
    assert told == "The tiny model is only for trying ltx: `ltx new MODE --data DATA` writes a run file for a real model.\n"
    lines, _ = ltx("export", "outputs/summer/lora.safetensors", "--for", "comfyui", "-o", "summer.safetensors")
    assert lines[-1] == "Put the file into ComfyUI/models/loras, and load it with the node LoraLoaderModelOnly."


@pytest.mark.parametrize("clip", TWELVE, ids=lambda clip: clip.name)
def test_what_is_encoded_is_upright_and_shows_each_moment_at_its_time(encoded: Path, clip: PhoneClip) -> None:
    found = read_clip(path_in(encoded, clip.name).with_suffix(".mp4"))
    frames, rate = found.frames.numpy(), found.rate
    height, width = frames.shape[1:3]
    assert (height > width) == clip.is_tall
    corners = [
        float(frames[8, rows, columns].min(axis=1).mean())
        for rows in (slice(4, 12), slice(-12, -4))
        for columns in (slice(4, 12), slice(-12, -4))
    ]
    assert corners[0] > 150 > 100 > max(corners[1:])
    numbers = [number for number in range(2, len(frames)) if 0.3 < number / rate < clip.seconds - 0.2]
    late = [time_in(frames[number], clip) - number / rate for number in numbers]
    assert max(map(abs, late)) < 0.2
    assert abs(float(np.mean(late))) < 0.08


def test_the_colours_of_the_hdr_clip_are_those_that_an_sdr_screen_shows(encoded: Path) -> None:
    (clip,) = [each for each in TWELVE if each.is_hdr]
    decoded = read_clip(path_in(encoded, clip.name).with_suffix(".mp4")).frames[40].numpy().astype(np.float64)
    height, width = decoded.shape[:2]
    expected = np.moveaxis(shown(pq_signal(picture(clip, 40 / float(clip.rate))), PQ), 0, 2)
    for row, column in ((0.06, 0.03), (0.7, 0.05), (0.7, 0.95)):  # white, red, green
        there = decoded[int(row * height) - 2 : int(row * height) + 2, int(column * width) - 2 : int(column * width) + 2].mean((0, 1))
        assert there == pytest.approx(expected[int(row * 108), int(column * 192)], abs=25)


def test_the_sound_of_six_channels_has_the_tones_of_all_but_the_low_frequencies(encoded: Path) -> None:
    (clip,) = [each for each in TWELVE if len(each.tones) == 6]
    sound = read_sound(path_in(encoded, clip.name).with_suffix(".mp4"), mono=True)
    assert sound.samples.shape[1] / sound.rate == pytest.approx(113 / float(clip.rate), abs=1.5)
    levels = np.abs(np.fft.rfft(sound.samples[0].numpy()))
    hertz = np.fft.rfftfreq(sound.samples.shape[1], 1 / sound.rate)
    floor = np.median(levels[(hertz > 200) & (hertz < 1600)])
    heard = [tone for tone in clip.tones if levels[abs(hertz - tone) < 30].max() > 10 * floor]
    assert heard == [300.0, 500.0, 800.0, 1100.0, 1500.0]
