"""The run files of all modes: what each trains is what the mode is, its comments are true of it, and it runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest
import torch
from safetensors import safe_open

from helpers.engine_modes import plugins_of
from helpers.sampling import SEED, drawn, sampled
from ltxcore.config.load import load_run
from ltxcore.config.run_file import RunFile
from ltxcore.modalities.video import VideoModality
from ltxcore.new.modes import MODES as WRITTEN
from ltxcore.new.text import Request
from ltxcore.new.text import text as written_for
from ltxcore.strategy import Flexible
from ltxcore.train.start_run import run

EXAMPLES = Path(__file__).parents[2] / "examples"
SHORT = {"to_k", "to_q", "to_v", "to_out.0"}
VIDEO = {f"{attention}.{part}" for attention in ("attn1", "attn2") for part in SHORT} | {"ff.net.0.proj", "ff.net.2"}
AUDIO = {f"audio_{target}" for target in VIDEO}
GENERATED, FROZEN = True, False


@attrs.frozen
class Mode:
    """What a mode is: which modalities are generated, the conditions on each, its LoRA targets; and which parts of a clip's context it has beside its text."""

    modalities: Mapping[str, bool]
    video: tuple[str, ...] = ()
    audio: tuple[str, ...] = ()
    targets: frozenset[str] = frozenset(SHORT)
    parts: frozenset[str] = frozenset()


BOTH = {"video": GENERATED, "audio": GENERATED}
SOUND = {"audio": GENERATED}
GIVEN, REFERENCES = frozenset({"given"}), frozenset({"references"})
MODES = {
    "t2v": Mode(BOTH),
    "t2v_low_vram": Mode(BOTH),
    "i2v": Mode(BOTH, video=("first_frame",), parts=GIVEN),
    "video_extend": Mode(BOTH, video=("prefix",), parts=GIVEN),
    "video_suffix": Mode(BOTH, video=("suffix",), parts=GIVEN),
    "v2v_ic": Mode({"video": GENERATED}, video=("reference", "first_frame"), targets=frozenset(VIDEO), parts=REFERENCES | GIVEN),
    "a2v": Mode({"video": GENERATED, "audio": FROZEN}, parts=frozenset({"frozen"})),
    "v2a": Mode({"video": FROZEN, "audio": GENERATED}, parts=frozenset({"frozen"})),
    "video_inpainting": Mode(BOTH, video=("mask",), parts=GIVEN),
    "video_outpainting": Mode(BOTH, video=("spatial_crop",), parts=GIVEN),
    "t2a": Mode(SOUND, targets=frozenset(AUDIO)),
    "audio_extend": Mode(SOUND, audio=("prefix",), targets=frozenset(AUDIO), parts=GIVEN),
    "audio_suffix": Mode(SOUND, audio=("suffix",), targets=frozenset(AUDIO), parts=GIVEN),
    "audio_inpainting": Mode(SOUND, audio=("mask",), targets=frozenset(AUDIO), parts=GIVEN),
    "a2a_ic": Mode(SOUND, audio=("reference",), targets=frozenset(AUDIO), parts=REFERENCES),
    "av2av_ic": Mode(BOTH, video=("reference",), audio=("reference",), parts=REFERENCES),
    "full_finetune": Mode(BOTH),
}
LEGACY = ("legacy_text_to_video", "legacy_video_to_video")
FILES = (*MODES, *LEGACY)


def config_of(name: str, *settings: str) -> RunFile:
    return load_run(EXAMPLES / f"{name}.toml", settings).config


def test_every_mode_has_a_run_file_and_every_run_file_a_row_in_the_readme() -> None:
    found = {path.stem for path in EXAMPLES.glob("*.toml")}
    assert found == {*FILES, "full_finetune_zero3"}
    readme = (EXAMPLES / "README.md").read_text()
    assert re.findall(r"^\| \[`(\w+)\.toml`\]\(\1\.toml\)", readme, flags=re.MULTILINE) == [*MODES, "full_finetune_zero3", *LEGACY]


@pytest.mark.parametrize("name", FILES)
def test_a_run_file_has_under_thirty_lines_says_what_it_is_and_writes_to_a_folder_of_its_name(name: str) -> None:
    text = (EXAMPLES / f"{name}.toml").read_text()
    assert sum(bool(line.strip()) for line in text.splitlines()) < 30
    assert text.startswith("# ")
    config = config_of(name)
    assert config.output_dir == Path("outputs", name).absolute()
    assert config.data.dataset == EXAMPLES / "media" / "clips.jsonl"
    assert config.data.held_out == 32


@pytest.mark.parametrize("name", MODES)
def test_a_run_file_trains_what_its_mode_is(name: str) -> None:
    config, mode = config_of(name), MODES[name]
    assert isinstance(config.training_strategy, Flexible)
    tables = config.training_strategy.tables
    assert {modality: table.is_generated for modality, table in tables.items()} == mode.modalities
    conditions = {modality: tuple(use.type for use in table.conditions) for modality, table in tables.items()}
    assert conditions == {modality: getattr(mode, modality) for modality in mode.modalities}


@pytest.mark.parametrize("name", MODES)
def test_lora_targets_are_those_of_the_streams_that_are_trained(name: str) -> None:
    """Short names reach both streams and the attention between them; where there is one stream, its own modules are named."""
    config = config_of(name)
    if config.model.training_mode == "lora":
        assert set(config.lora.target_modules) == MODES[name].targets


REAL = re.compile(
    r"^(?P<key>.*?)(?P<value>\[[\d, ]*\]|\"[^\"]*\"|[\d.e-]+)(?P<rest>[ }\]]*)# (?:[^;#]*; )?the real model: (?P<real>[^(\n]+?)(?: \((?P<why>.*)\))?$"
)


def for_the_real_model(text: str) -> tuple[str, int]:
    """A run file with the values that its comments name, and how many those are."""
    lines, count = [], 0
    for line in text.splitlines():
        found = REAL.match(line)
        count += found is not None
        lines.append(f"{found['key']}{found['real']}{found['rest']}" if found else line)
    return "\n".join(lines) + "\n", count


@pytest.mark.parametrize("name", FILES)
def test_with_what_the_comments_say_it_is_a_run_file_for_the_real_model(name: str, tmp_path: Path) -> None:
    text, count = for_the_real_model((EXAMPLES / f"{name}.toml").read_text())
    assert "the real model" not in text
    assert count >= 5
    assert 'model_path = "/models/ltx-2.3-22b-dev.safetensors"' in text
    model = tmp_path / "ltx-2.3-22b-dev.safetensors"  # only whether it is there is looked at here
    model.touch()
    (tmp_path / "media").symlink_to(EXAMPLES / "media")
    (tmp_path / "run.toml").write_text(text.replace("/models/", f"{tmp_path}/"))
    config = load_run(tmp_path / "run.toml").config
    assert (config.optimization.batch_size, config.acceleration.mixed_precision_mode) == (1, "bf16")
    assert config.optimization.steps in (2000, 3000)
    assert config.optimization.learning_rate in (1e-4, 2e-4, 1e-5)
    if name in MODES:  # and it is the one that `ltx new` writes
        (tmp_path / "gemma-3-12b").mkdir()
        (tmp_path / "clips").mkdir()
        mode = WRITTEN[name]
        written = written_for(Request(mode, "2.3", mode.purpose, "new.toml", "clips/", None)).replace("/models/", f"{tmp_path}/")
        (tmp_path / "new.toml").write_text(written)
        new = load_run(tmp_path / "new.toml").config
        assert (new.lora, new.training_strategy) == (config.lora, config.training_strategy)
        assert attrs.evolve(new.optimization, enable_gradient_checkpointing=False) == attrs.evolve(
            config.optimization, enable_gradient_checkpointing=False
        )
        assert new.acceleration == config.acceleration


def test_the_frames_that_comments_name_are_those_of_the_latent_frames() -> None:
    clip = VideoModality().positions(VideoModality().grid_of((128, 16, 1, 1)), torch.tensor([1.0]))[0, 0]  # in frames
    said = {name: re.search(r"\((\d+) frames\)", (EXAMPLES / f"{name}.toml").read_text()) for name in ("video_extend", "video_suffix")}
    assert int(said["video_extend"][1]) == clip[7, 1] - clip[0, 0]
    assert int(said["video_suffix"][1]) == clip[15, 1] - clip[8, 0]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of six clips with everything that any mode needs."""
    folder = tmp_path_factory.mktemp("world")
    made = [sys.executable, EXAMPLES / "make_world.py", "--count", "6", "--out", folder]
    subprocess.run(made, check=True, capture_output=True)
    return folder / "clips.jsonl"


@pytest.mark.parametrize("name", sampled(FILES, 0, plugins_of, in_ci=drawn(FILES, 5, seed=SEED + 1)))
def test_a_run_file_runs_from_raw_clips_to_weights_numbers_and_samples(name: str, world: Path, tmp_path: Path) -> None:
    settings = [
        f"output_dir={tmp_path / 'out'}",
        f"data.dataset={world}",
        "data.held_out=2",
        "optimization.steps=2",
        "optimization.batch_size=2",
        "validation.inference_steps=2",
    ]
    loaded = load_run(EXAMPLES / f"{name}.toml", settings)
    outcome = run(loaded)
    assert outcome.finished
    assert outcome.weights is not None
    full = loaded.config.model.training_mode == "full"
    assert outcome.weights.name == ("model.safetensors" if full else "lora.safetensors")
    with safe_open(outcome.weights, framework="pt") as file:
        assert full or all(key.startswith("diffusion_model.transformer_blocks.") for key in file.keys())  # noqa: SIM118
    seen = [json.loads(line) for line in outcome.metrics.read_text().splitlines()]
    assert sum("loss" in line for line in seen) == 2
    if name in MODES:
        _says_of_every_part_what_it_is_worth(MODES[name], outcome.after)
        ending = ".mp4" if "video" in MODES[name].modalities else ".wav"
        assert {path.suffix for clip in outcome.generations for path in (clip.path, clip.original)} == {ending}


def _says_of_every_part_what_it_is_worth(mode: Mode, after: Mapping[str, float]) -> None:
    generated = {modality for modality, is_generated in mode.modalities.items() if is_generated}
    measured = {key.split("/")[1] for key in after if key.startswith("held_out_ratio/")}
    certain = mode.parts if "first_frame" not in mode.video else mode.parts - GIVEN  # applied to some clips, perhaps to neither of these
    assert {"other_context", "other_text", *(f"other_{part}" for part in certain)} <= measured
    assert measured <= {"other_context", "other_text", *(f"other_{part}" for part in mode.parts)}
    assert {key.split("/")[2] for key in after if key.startswith("held_out/own_context/") and "sigma" in key} == generated
