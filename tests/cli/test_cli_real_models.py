"""The whole path of a user of a real model, on small files in the official layouts: encode, train with samples, draw with what was trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.torch import load_file

from helpers.media_made import encode, gradient_clip, psnr, tone
from helpers.sampling import drawn, sampled
from helpers.separate_files import separate
from helpers.whole_models import SOUND, WHOLE
from ltxcore.cli.main import main
from ltxcore.config.render import document
from ltxcore.media.probe import probe, read_clip

GENERATIONS = {"unified": "2.3", "unified in 8 bits": "2.3", "split": "2.5", "folder": "2.5", "separate files": "2.3"}
MODELS = {**WHOLE, "separate files": separate}
LAYOUTS = sampled(MODELS, 0, lambda layout: {layout} & {"split"}, in_ci=drawn([layout for layout in MODELS if layout != "split"], 1))


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    """So small a model is slower on several, and many times so on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def ltx(*arguments: str) -> str:
    """What a command says; it must succeed."""
    done = CliRunner().invoke(main, list(arguments))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def dataset(folder: Path) -> Path:
    """Two clips with sound, and a caption for each."""
    clips = [encode(folder / f"clip{n}.mp4", gradient_clip(17, 64, 64), tone(0.8, hertz=220.0 * (n + 1), channels=2)) for n in range(2)]
    rows = [{"video": clip.name, "caption": f"a {colour} disc rises"} for clip, colour in zip(clips, ("red", "blue"), strict=True)]
    path = folder / "clips.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run_file(folder: Path, model: Mapping[str, Path], **changed: Mapping[str, Any]) -> Path:
    """Text to video with sound, on what `ltx preprocess` made; a sample after each of two steps."""
    generated = {name: {"is_generated": True, "latents_dir": source} for name, source in (("video", "latents"), ("audio", "audio_latents"))}
    told: dict[str, Any] = {
        "output_dir": str(folder / "out"),
        "model": {key: str(path) for key, path in model.items()},
        "lora": {"rank": 4, "alpha": 8, "target_modules": "auto"},
        "training_strategy": {"name": "flexible", **generated},
        "optimization": {"steps": 2, "batch_size": 2, "learning_rate": 1e-2, "enable_gradient_checkpointing": True},
        "validation": {
            "interval": 1,
            "inference_steps": 2,
            "video_dims": [64, 64, 9],
            "stg_blocks": [0],
            "skip_initial_validation": True,
            "samples": [{"prompt": "a red disc hums"}],
        },
        "preprocessing": {"resolution_buckets": "64x64x17"},
        "data": {
            "dataset": str(folder / "clips.jsonl"),
            "preprocessed_data_root": str(folder / "encoded"),
            "held_out": 0,
            "num_dataloader_workers": 0,
        },
        "checkpoints": {"precision": "float32"},
    }
    for name, keys in changed.items():
        told[name] = {**told.get(name, {}), **keys}
    path = folder / "run.toml"
    path.write_text(document(told))
    return path


def preprocessed(folder: Path, model: Mapping[str, Path]) -> Path:
    options = [f"--{key.replace('_', '-')}={path}" for key, path in model.items()]
    said = ltx(
        "preprocess", str(dataset(folder)), *options, "--resolution-buckets=64x64x17", f"--output-dir={folder / 'encoded'}", "--no-progress"
    )
    sources = ("conditions", "latents", "audio_latents")
    assert [line.split() for line in said.splitlines() if line.startswith(sources)] == [
        [source, "2", "made", "0", "reused"] for source in sources
    ]
    return folder / "encoded"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_real_model_is_encoded_for_trained_and_drawn_with(layout: str, tmp_path: Path) -> None:
    model = MODELS[layout](tmp_path / "models")
    encoded = preprocessed(tmp_path, model)
    assert load_file(encoded / "latents" / "clip0.safetensors")["latents"].shape == (8, 3, 2, 2)
    assert load_file(encoded / "audio_latents" / "clip0.safetensors")["latents"].shape[::2] == (2, SOUND // 2)
    text = load_file(encoded / "conditions" / "clip0.safetensors")
    assert {name: tuple(features.shape) for name, features in text.items()} == {
        "video": (5, 64),
        "audio": (5, 32),
    }  # four words, and the first token

    run = run_file(tmp_path, model)
    assert "run.toml is valid." in ltx("check", str(run))
    said = ltx("run", str(run))
    assert f"2 samples in {encoded}, 0 files encoded now" in said
    lora = tmp_path / "out" / "lora.safetensors"
    with safe_open(lora, framework="pt") as file:
        assert (file.metadata()["generation"], file.metadata()["rank"], file.metadata()["alpha"]) == (GENERATIONS[layout], "4", "8")
        names = list(file.keys())
        assert all(name.startswith("diffusion_model.transformer_blocks.") for name in names)
        assert len(names) == 2 * 2 * 6 * 4  # A and B, of two blocks, six attentions, four projections each
    drawn = sorted(path.name for path in (tmp_path / "out" / "samples").iterdir())
    assert drawn == ["step_000001_1.mp4", "step_000002_1.mp4"]

    # What the run drew with the LoRA as it was trained is what anyone draws with the file.
    ltx("sample", str(run), "--lora", str(lora), "--precision", "bf16", "-o", str(tmp_path / "with.mp4"))
    ltx("sample", str(run), "--precision", "bf16", "-o", str(tmp_path / "without.mp4"))
    told = probe(tmp_path / "with.mp4")
    assert (told.width, told.height, told.frames, told.rate, told.sound_rate, told.channels) == (64, 64, 9, 24, 48_000, 2)
    own, again, base = (
        read_clip(path).frames for path in (tmp_path / "out" / "samples" / drawn[1], tmp_path / "with.mp4", tmp_path / "without.mp4")
    )
    assert psnr(own, again) > 45
    assert psnr(own, base) < 40


@pytest.mark.slow
@pytest.mark.parametrize("layout", sampled(WHOLE, 2, lambda layout: {GENERATIONS[layout]}))
def test_a_real_model_goes_from_clips_to_samples_in_little_memory_too_and_with_a_picture_given(layout: str, tmp_path: Path) -> None:
    model = WHOLE[layout](tmp_path / "models")
    dataset(tmp_path)
    less = {"quantization": "int8", "offload_blocks": 1, "offload_text_encoder": True}
    sample = {
        "prompt": "a blue disc falls",
        "conditions": [{"type": "first_frame", "image_or_video": str(tmp_path / "clip0.mp4")}],
    }
    run = run_file(tmp_path, model, acceleration=less, validation={"samples": [sample]})
    assert f"2 samples in {tmp_path / 'encoded'}, 6 files encoded now" in ltx("run", str(run))
    lora = tmp_path / "out" / "lora.safetensors"
    options = ["--quantization=int8", "--offload-blocks=1", "--offload-text-encoder", "--vae-tiling", "--precision=bf16"]
    ltx("sample", str(run), "--lora", f"{lora}:1.0", *options, "-o", str(tmp_path / "drawn.mp4"))
    own, again = (read_clip(path).frames for path in (tmp_path / "out" / "samples" / "step_000002_1.mp4", tmp_path / "drawn.mp4"))
    assert psnr(own, again) > 45


@pytest.mark.slow
@pytest.mark.parametrize("layout", sampled(WHOLE, 1))
def test_sound_alone_is_trained_and_held_out_sounds_are_drawn(layout: str, tmp_path: Path) -> None:
    model = WHOLE[layout](tmp_path / "models")
    dataset(tmp_path)
    run = run_file(tmp_path, model, data={"held_out": 1}, optimization={"batch_size": 1})
    told = run.read_text()
    run.write_text(
        told[: told.index("[training_strategy.video]")]
        + told[told.index("[training_strategy.audio]") :].replace('[[validation.samples]]\nprompt = "a red disc hums"\n', "")
    )
    assert "lora run of audio on the base model" in ltx("run", str(run))
    names = sorted(path.name for path in (tmp_path / "out" / "samples").iterdir())
    assert "step_000002_1.wav" in names
