"""`ltx check` finds what can be found without running, and says what the run is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from ltxcore.cli.main import main
from train.runs import put, sound_set

RUN = """\
output_dir = "out"
[model]
model_path = "tiny-untrained"
[lora]
rank = 4
target_modules = ["audio_attn1.to_k"]
[training_strategy]
name = "flexible"
[training_strategy.audio]
is_generated = true
latents_dir = "audio_latents"
conditions = [
  { type = "mask", mask_dir = "audio_masks" },
  { type = "prefix", temporal_boundary = 2, probability = 0.25 },
]
[optimization]
steps = 8
batch_size = 2
[data]
preprocessed_data_root = "set"
held_out = 1
"""


@pytest.fixture
def run_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run on an encoded set of four sounds."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "run.toml"
    path.write_text(RUN)
    sound_set(tmp_path / "set", count=4)
    return path


def check(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, ["check", *arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def test_a_run_that_is_in_order_is_told_in_a_few_lines(run_file: Path) -> None:
    assert check("run.toml") == (
        0,
        "run.toml is in order.\n"
        "  mode        LoRA of rank 4 on tiny-untrained\n"
        "  strategy    flexible\n"
        "  audio       generated, mask, prefix (probability 0.25)\n"
        "  steps       8, batch size 2\n"
        "  samples     3 to train on, 1 held out\n",
        "",
    )


def test_settings_are_checked_too(run_file: Path) -> None:
    settings = ("--set", "model.training_mode=full", "--set", "optimization.gradient_accumulation_steps=4", "--set", "data.held_out=0")
    assert check("run.toml", *settings)[1] == (
        "run.toml is in order.\n"
        "  mode        full fine-tuning on tiny-untrained\n"
        "  strategy    flexible\n"
        "  audio       generated, mask, prefix (probability 0.25)\n"
        "  steps       8, batch size 2, 4 accumulated\n"
        "  samples     4 to train on, 0 held out\n"
    )


def test_raw_media_are_not_counted_before_they_are_encoded(run_file: Path, tmp_path: Path) -> None:
    (tmp_path / "set.jsonl").write_text("")
    status, out, _ = check("run.toml", "--set", "data.dataset=set.jsonl", "--set", "data.preprocessed_data_root=new")
    assert status == 0
    assert out.endswith(f"  samples     not encoded yet; the first run encodes {tmp_path}/set.jsonl\n")
    assert not (tmp_path / "new").exists()


def test_mistakes_are_printed_and_nothing_is_written(run_file: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert check("run.toml", "--set", "lora.rank=0", "--set", "seed=x") == (
        2,
        "",
        '--set: lora.rank: must be at least 1, not 0\n--set: seed: must be a whole number, not the text "x"\n',
    )
    assert sorted(tmp_path.rglob("*")) == before


def test_what_the_manifests_tell_is_found(run_file: Path, tmp_path: Path) -> None:
    put(tmp_path / "set", "audio_masks", "sound02", {"mask": torch.ones(5)})
    assert check("run.toml") == (
        2,
        "",
        'run.toml:13: training_strategy.audio.conditions[0].mask_dir: 1 mask of "audio_masks" does not fit the audio latents: sound02 (5 for 8)\n'
        "    Make masks from the same media as the latents, with one value a latent step.\n",
    )


def test_a_missing_file_is_named() -> None:
    assert check("gone.toml") == (2, "", "gone.toml: there is no such file\n    Name a run file, such as examples/audio_inpainting.toml.\n")
