"""Every mode from its example to a LoRA, and from that, by the command that its report says, to samples."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from helpers.engine_modes import plugins_of
from helpers.sample_made import MODEL, PLAIN, sampler
from helpers.sampling import sampled
from ltxcore.api.runs import read_run
from ltxcore.cli.main import main
from ltxcore.config.load import load_run
from ltxcore.config.loras import Strength
from ltxcore.config.prompts import load_samples
from ltxcore.media.probe import read_clip, read_sound, write_clip, write_sound
from ltxcore.models.load_base import describe, load_backbone
from ltxcore.models.lora_stack import load_loras
from ltxcore.protocols import MODALITIES, Clip
from ltxcore.sample.empty_tokens import modalities_of
from ltxcore.sample.encode_inputs import Encoded, encode
from ltxcore.sample.generate import factors_of
from ltxcore.sample.media_needs import plan_generations
from ltxcore.sample.request import requests
from ltxcore.sample.sampler import inputs_of, seeded
from ltxcore.train.start_run import run
from ltxplugins.tools.report.usage import uses

EXAMPLES = Path(__file__).parents[2] / "examples"
ELSEWHERE = {"full_finetune_zero3"}
"""Tested with several processes."""

NAMES = sorted({path.stem for path in EXAMPLES.glob("*.toml")} - ELSEWHERE)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips with all that goes with them."""
    folder = tmp_path_factory.mktemp("clips")
    rows = (EXAMPLES / "media" / "clips.jsonl").read_text().splitlines()[:6]
    for media in {value for row in rows for key, value in json.loads(row).items() if key != "caption"}:
        (folder / media).parent.mkdir(exist_ok=True)
        shutil.copy(EXAMPLES / "media" / media, folder / media)
    (folder / "clips.jsonl").write_text("\n".join(rows))
    return folder / "clips.jsonl"


@pytest.fixture(scope="module")
def media(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that a report's command stands for, by the words that it has for them."""
    folder = tmp_path_factory.mktemp("media")
    row = {key: clips.parent / value for key, value in json.loads(clips.read_text().splitlines()[0]).items()}
    shutil.copy(row["video"], folder / "CLIP.mp4")
    shutil.copy(row["reference_video"], folder / "REFERENCE.mp4")
    shutil.copy(row["audio_mask"], folder / "MASK.wav")
    write_sound(folder / "SOUND.wav", read_sound(row["video"]))
    write_sound(folder / "REFERENCE.wav", read_sound(row["reference_audio"]))
    write_clip(folder / "FRAME.png", Clip(read_clip(row["video"], max_frames=1).frames, 1.0))
    write_clip(folder / "MASK.mp4", Clip(read_clip(row["video_mask"]).frames.expand(17, -1, -1, -1).contiguous(), 16.0))
    return folder


def command_of(name: str, clips: Path, output: Path) -> tuple[list[str], list[Path]]:
    """What the report of a short run of an example says of how to use it, and the samples that the run left to judge by."""
    small = [
        "optimization.steps=2",
        "optimization.batch_size=2",
        "data.held_out=2",
        "validation.inference_steps=2",
        f"data.dataset={clips}",
    ]
    outcome = run(load_run(EXAMPLES / f"{name}.toml", [f"output_dir={output}", *small]))
    return shlex.split(uses(read_run(output))[0].code), [path for clip in outcome.generations for path in (clip.before, clip.path) if path]


def asked(words: list[str]) -> Encoded:
    """The sample of a command, encoded."""
    conditions = tuple(words[index + 1] for index, word in enumerate(words) if word == "--condition")
    options: dict[str, Any] = {f"generate_{name}": False for name in MODALITIES if f"--no-generate-{name}" in words}
    table = load_samples(words[2], conditions=conditions, options=options | {"inference_steps": 2, **PLAIN}, plugins=()).table
    info = describe("tiny")
    (planned,) = plan_generations(requests(table, MODALITIES, info), modalities_of(info), factors_of(strengths(words)))
    (found,) = encode([planned], MODEL)
    return found


def strengths(words: list[str]) -> list[Strength]:
    return [Strength.parse(words[index + 1]) for index, word in enumerate(words) if word == "--lora"]


@pytest.mark.slow
@pytest.mark.parametrize("name", sampled(NAMES, 0, plugins_of))
def test_a_mode_leaves_samples_and_its_command_draws_with_what_is_given(
    name: str, clips: Path, media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, left = command_of(name, clips, tmp_path / "out")
    assert len(left) == 4
    assert all(path.stat().st_size > 0 for path in left)
    monkeypatch.chdir(media)

    what = asked(words)
    model = words[words.index("--model") + 1]
    backbone = load_backbone(model, what.canvas.request.modalities, dtype=torch.float32).eval()
    load_loras(backbone, strengths(words))
    with torch.no_grad():
        drawn = sampler(backbone).generate(what)
    start = inputs_of(what, what.text, dict.fromkeys(what.canvas.request.modalities, 128), seeded(42), marks=False)
    for modality, given in start.items():
        if modality in what.frozen:
            assert modality not in drawn
            assert not bool(given.timesteps.any())
            continue
        tokens = what.canvas.modalities[modality].patchify(drawn[modality][None])
        known = given.denoise_mask[:, : tokens.shape[1]] == 0
        assert torch.equal(tokens[known], given.clean[known])
        assert not bool((tokens[~known] == given.clean[~known]).any())

    quick = ["--inference-steps", "2", "--device", "cpu", "--overwrite"]
    files = []
    for _ in range(2):
        done = CliRunner().invoke(main, [*words[1:], *quick])
        assert (done.exit_code, done.stdout) == (0, f"{words[-1]}\n"), done.stderr
        files.append((media / words[-1]).read_bytes())
    assert files[0] == files[1]
