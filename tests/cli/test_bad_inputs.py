"""What people get wrong: each mistake is refused with a place and a remedy, before anything is written."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from helpers.training_runs import put, put_sound, sound_set, tables, write_run
from ltxcore.cli.main import main


def audio(**changed: Any) -> dict[str, Any]:
    table = {"is_generated": True, "latents_dir": "audio_latents", "conditions": [{"type": "mask", "mask_dir": "audio_masks"}]}
    return {"training_strategy": {"name": "flexible", "audio": {**table, **changed}}}


def nothing(root: Path) -> None:
    pass


def without_mask(root: Path) -> None:
    put_sound(root, 90)
    (root / "audio_masks" / "sound90.safetensors").unlink()
    lines = root / "audio_masks" / "manifest-0.jsonl"
    lines.write_text("".join(line for line in lines.read_text().splitlines(keepends=True) if "sound90" not in line))


def long_mask(root: Path) -> None:
    put(root, "audio_masks", "sound03", {"mask": torch.ones(9)}, fingerprint="other", origin="sound03.wav")


def nan(root: Path) -> None:
    latents = torch.zeros(8, 8, 16)
    latents[0, 0, 0] = float("nan")
    put(root, "audio_latents", "sound03", {"latents": latents}, fingerprint="other", origin="sound03.wav")


def truncated(root: Path) -> None:
    path = root / "audio_latents" / "sound03.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


AT = "TMP/run.toml:16: training_strategy.audio.conditions[0]"
ON_AUDIO = "    Conditions on audio: hole, mask, prefix, reference, suffix."

CASES: Mapping[str, tuple[Mapping[str, Any], Callable[[Path], None], list[str]]] = {
    "an unknown condition": (
        audio(conditions=[{"type": "maks", "mask_dir": "audio_masks"}]),
        nothing,
        [f'{AT}.type: there is no condition "maks"', '    Did you mean "mask"?'],
    ),
    "an unknown key": (
        {"optimization": {"step": 4}},
        nothing,
        ["TMP/run.toml:22: optimization.step: there is no such key", '    Did you mean "steps"?'],
    ),
    "a value of the wrong type": (
        {"optimization": {"steps": 3.7}},
        nothing,
        ["TMP/run.toml:19: optimization.steps: must be a whole number, not 3.7"],
    ),
    "first_frame on audio": (
        audio(conditions=[{"type": "first_frame"}]),
        nothing,
        [f'{AT}.type: the condition "first_frame" does not work on audio', ON_AUDIO],
    ),
    "spatial_crop on audio": (
        audio(conditions=[{"type": "spatial_crop", "spatial_region": [0, 0, 32, 32]}]),
        nothing,
        [f'{AT}.type: the condition "spatial_crop" does not work on audio', ON_AUDIO],
    ),
    "no generated modality": (
        audio(is_generated=False, conditions=[]),
        nothing,
        [
            "TMP/run.toml:10: training_strategy: no modality is generated, so there is nothing to train",
            "    Set is_generated = true for video, audio or both.",
        ],
    ),
    "a mask on a frozen modality": (
        audio(is_generated=False),
        nothing,
        [
            "TMP/run.toml:10: training_strategy: no modality is generated, so there is nothing to train",
            "    Set is_generated = true for video, audio or both.",
            f'{AT}.type: the condition "mask" makes no sense on the frozen audio, which is already given',
            "    Remove the condition, or set is_generated = true for audio.",
        ],
    ),
    "a folder that is not there": (
        audio(latents_dir="audio_latent"),
        nothing,
        [
            'TMP/run.toml:15: training_strategy.audio.latents_dir: there is no folder "audio_latent" in TMP/data',
            '    Did you mean "audio_latents"?',
        ],
    ),
    "a sample that lacks its mask": (
        {},
        without_mask,
        [
            f'{AT}.mask_dir: "audio_masks" lacks 1 sample of "audio_latents", "conditions": sound90',
            "    Make the missing samples with `ltx preprocess`, or remove these samples from the other folders.",
        ],
    ),
    "a mask of the wrong length": (
        {},
        long_mask,
        [
            f'{AT}.mask_dir: 1 mask of "audio_masks" does not fit the audio latents: sound03 (9 for 8)',
            "    Make masks from the same media as the latents, with one value per latent step.",
        ],
    ),
    "NaN in a latent": (
        {},
        nan,
        [
            'TMP/run.toml:15: training_strategy.audio.latents_dir: 1 sample of "audio_latents" holds NaN or infinite values: sound03',
            "    Check the media of these samples, and run `ltx preprocess` again, which encodes the samples again.",
        ],
    ),
    "a prefix as long as the clip": (
        audio(conditions=[{"type": "prefix", "temporal_boundary": 8}]),
        nothing,
        [
            f"{AT}, samples sound00, sound01, sound02, sound03, sound04 and 19 more: "
            "a prefix of 8 latent frames leaves nothing to generate in a sample of 8 latent frames",
            "    Set temporal_boundary below the length of the shortest sample, or leave out the short samples.",
        ],
    ),
    "LoRA targets that match nothing": (
        {"lora": {"target_modules": ["audio_attn1.to_kk"]}},
        nothing,
        [
            'TMP/run.toml:8: lora.target_modules: the LoRA target "audio_attn1.to_kk" does not match any module',
            '    Did you mean "audio_attn1.to_k"?',
        ],
    ),
    "a truncated file": (
        {},
        truncated,
        [
            'TMP/run.toml:15: training_strategy.audio.latents_dir: 1 sample of "audio_latents" has a size that differs from the recorded one: sound03',
            '    Run `ltx preprocess` again, which encodes them again. If the files are your own, delete the manifest*.jsonl of "audio_latents": the folder is then indexed again.',
        ],
    ),
}


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sound_set(tmp_path_factory.mktemp("sounds") / "data")


def refused(run_file: Path, folder: Path) -> list[str]:
    """What `ltx run` says; it must end with status 2 and leave no output."""
    result = CliRunner().invoke(main, ["-q", "run", str(run_file)])
    assert result.exit_code == 2
    assert not (folder / "out").exists()
    return result.stderr.replace(str(folder), "TMP").splitlines()


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_is_refused_before_anything_is_written(case: str, sounds: Path, tmp_path: Path) -> None:
    changed, spoil, said = CASES[case]
    root = Path(shutil.copytree(sounds, tmp_path / "data"))
    spoil(root)
    assert refused(write_run(tmp_path, tables(root, tmp_path / "out", **changed)), tmp_path) == said


def test_a_strategy_without_a_name_is_refused_and_never_guessed(sounds: Path, tmp_path: Path) -> None:
    run = tables(sounds, tmp_path / "out")
    del run["training_strategy"]["name"]
    assert refused(write_run(tmp_path, run), tmp_path) == [
        "TMP/run.toml:10: training_strategy.name: does not name any strategy",
        "    Choose one: flexible.",
    ]


def test_a_row_whose_path_climbs_out_of_the_dataset_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "data.jsonl").write_text('{"audio": "../../elsewhere/a.wav", "caption": "a tone"}\n')
    run = tables(tmp_path, tmp_path / "out", **audio(conditions=[]))
    run["data"] = {"dataset": str(tmp_path / "set" / "data.jsonl")}
    at = 'TMP/set/data.jsonl:1: the audio "../../elsewhere/a.wav"'
    assert refused(write_run(tmp_path, run), tmp_path) == [
        f"{at} is outside the folder of the dataset, so its samples would be outside the output folder",
        "    Move the file under TMP/set, or the dataset file to a folder that holds both.",
        f"{at} is not there",
        "    Paths are relative to TMP/set.",
    ]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["data.jsonl", "run.toml", "set"]
