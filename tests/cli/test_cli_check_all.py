"""`ltx check` finds what is wrong in every part of a run at once, whatever is wrong with the others; and a run file that it calls in order runs.

Wrong keys and paths that are not there hide nothing but what hangs on them, and nothing is told that only follows from them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from cli.test_cli_check import check
from encode.raw_media import clip_file, sound_file
from ltxcore.config.render import document
from ltxcore.models.shipped import TINY_BASE


@attrs.frozen
class Fault:
    """One mistake in one part of a run.

    Attributes:
        part: of the run.
        changed: keys of the run file.
        told: how its message begins, with TMP for the folder, and {KEY} for the line of a key.
        made: makes the files that it is about.
    """

    part: str
    changed: Mapping[str, Any]
    told: str
    made: Callable[[Path], None] = lambda folder: None


def model_with_a_foreign_tensor(folder: Path) -> None:
    with safe_open(TINY_BASE, framework="pt") as file:
        metadata = file.metadata()
    extra = {"model.diffusion_model.transformer_blocks.0.attn1.to_z.weight": torch.zeros(2, 2)}
    save_file(load_file(TINY_BASE) | extra, folder / "model.safetensors", metadata=metadata)


def lora_of_another_model(folder: Path) -> None:
    module = "diffusion_model.transformer_blocks.0.attn1.to_q"
    save_file({f"{module}.lora_A.weight": torch.zeros(2, 3), f"{module}.lora_B.weight": torch.zeros(5, 2)}, folder / "start.safetensors")


def broken_row(folder: Path) -> None:
    (folder / "clips.jsonl").write_text(
        '{"video": "a.mp4", "caption": "one"}\n{"video": "gone.mp4", "caption": "two"}\n{"video": "broken.mp4", "caption": "three"}\n'
        '{"video": "d.mp4", "caption": 4}\n'
    )
    (folder / "broken.mp4").write_bytes(b"no clip")


FAULTS = [
    Fault("output folder", {"output_dir": "out"}, "{output_dir}: output_dir: TMP/out is a file", lambda folder: (folder / "out").touch()),
    Fault("precision", {"acceleration": {"offload_blocks": 2}}, "{offload_blocks}: acceleration.offload_blocks: saves nothing unless"),
    Fault("engine", {"engine": {"name": "single", "stage": 2}}, "{stage}: engine.stage: is of the engine for several processes"),
    Fault("hub", {"hub": {"push_to_hub": True, "hub_model_id": "a/b"}}, "{push_to_hub}: hub.push_to_hub: "),
    Fault(
        "schedule",
        {"optimization": {"scheduler_type": "step", "scheduler_params": {"gamma": -0.5}}},
        '{[optimization.scheduler_params]}: optimization.scheduler_params: the schedule "step" does not take these parameters: the learning rate',
    ),
    Fault(
        "model",
        {"model": {"model_path": "model.safetensors", "load_checkpoint": "start.safetensors"}},
        "TMP/model.safetensors: 1 tensors are not part of the model: transformer_blocks.0.attn1.to_z.weight",
        model_with_a_foreign_tensor,
    ),
    Fault("LoRA to start from", {}, "TMP/start.safetensors: 1 modules do not fit the base", lora_of_another_model),
    Fault(
        "samples",
        {"validation": {"samples": [{"prompt": "x", "video_dims": [64, 60, 17]}]}},
        "{video_dims}: validation.samples[0].video_dims: a picture of 64x60x17 has height 60",
    ),
    Fault(
        "rows",
        {"data": {"dataset": "clips.jsonl", "preprocessed_data_root": "file/encoded"}},
        'TMP/clips.jsonl:2: its video "gone.mp4" is not there',
        broken_row,
    ),
    Fault("captions", {}, 'TMP/clips.jsonl:4: its "caption" is 4, not text'),
    Fault("media", {}, "TMP/clips.jsonl:3: TMP/broken.mp4: this is not a clip, a sound or an image that can be read"),
    Fault(
        "buckets",
        {"preprocessing": {"resolution_buckets": "64x60x17"}},
        "{resolution_buckets}: preprocessing.resolution_buckets: the bucket 64x60x17 has height 60",
    ),
    Fault(
        "encoded set",
        {},
        "{preprocessed_data_root}: data.preprocessed_data_root: the data cannot be encoded there: TMP/file is a file, not a folder",
        lambda folder: (folder / "file").touch(),
    ),
    Fault(
        "held-out rows", {"data": {"held_out": "apart.csv"}}, "TMP/apart.csv: has no rows", lambda folder: (folder / "apart.csv").touch()
    ),
]


def sample(size: tuple[int, int, int] = (64, 64, 17), **condition: str) -> dict[str, Any]:
    return {"validation": {"samples": [{"prompt": "x", "video_dims": list(size), "conditions": [condition]}]}}


NOT_THERE = [
    Fault("plugin", {"plugins": ["own.py"]}, "{plugins}: plugins: there is no file TMP/own.py"),
    Fault(
        "model",
        {"model": {"model_path": "no.safetensors"}},
        "{model_path}: model.model_path: there is no file or folder TMP/no.safetensors",
    ),
    *(
        Fault(key, {"model": {key: "no"}}, f"{{{key}}}: model.{key}: there is no file or folder TMP/no")
        for key in ("text_encoder_path", "video_vae_path", "audio_vae_path", "load_checkpoint")
    ),
    Fault("dataset", {"data": {"dataset": "no.jsonl"}}, "{dataset}: data.dataset: there is no file or folder TMP/no.jsonl"),
    Fault("held-out rows", {"data": {"held_out": "no.csv"}}, "{held_out}: data.held_out: there is no file or folder TMP/no.csv"),
    Fault(
        "engine",
        {"engine": {"name": "zero", "deepspeed_config": "no.json"}},
        "{deepspeed_config}: engine.deepspeed_config: there is no file TMP/no.json",
    ),
    Fault(
        "what a sample is given",
        sample(type="first_frame", image_or_video="no.png"),
        "{conditions}: validation.samples[0].conditions[0].image_or_video: there is no file TMP/no.png",
    ),
    Fault(
        "what a sound is drawn for",
        {"validation": {"generate_audio": True, **sample(type="video_to_audio", video="no.mp4")["validation"]}},
        "{conditions}: validation.samples[0].conditions[0].video: there is no file TMP/no.mp4",
    ),
]
"""Paths that are not there."""

WRONG_KEYS = [
    Fault("text for a number", {"lora": {"rank": "high"}}, "{rank}: lora.rank: must be a whole number"),
    Fault("what follows from it", {"lora": {"rank": 0}}, "{rank}: lora.rank: must be at least 1"),
    Fault("mode", {"model": {"training_mode": "fll"}}, '{training_mode}: model.training_mode: must be "lora" or "full"'),
    Fault("typo", {"preprocessing": {"resolution_bucket": "64x64x9"}}, "{resolution_bucket}: preprocessing.resolution_bucket: there is no"),
    Fault("column", {"preprocessing": {"caption_columm": "text"}}, "{caption_columm}: preprocessing.caption_columm: there is no such key"),
    Fault(
        "buckets", {"preprocessing": {"resolution_buckets": "wide"}}, '{resolution_buckets}: preprocessing.resolution_buckets: "wide" is no'
    ),
    Fault("dataset", {"data": {"dataset": 5}}, "{dataset}: data.dataset: must be a path"),
    Fault("held-out rows", {"data": {"held_out": True}}, "{held_out}: data.held_out: must be a number or a path"),
    Fault("sampler", {"flow_matching": {"timestep_sampling_mode": "unifrom"}}, "{timestep_sampling_mode}: flow_matching.timestep_sampling"),
    Fault(
        "schedule",
        {"optimization": {"scheduler_type": "step", "scheduler_params": {"gama": -0.5}}},
        "{gama}: optimization.scheduler_params.gama: the scheduler",
    ),
    Fault("tracker", {"trackers": {"jsonl": {"x": 1}}}, "{x}: trackers.jsonl.x: there is no such key"),
    Fault("condition", {"training_strategy": {"conditions": 3}}, "{conditions}: training_strategy.conditions: there is no such key"),
    Fault("folder", {"output_dir": 5}, "{output_dir}: output_dir: must be a path"),
    Fault("sample", {"validation": {"samples": [{"prompt": 3}]}}, "{prompt}: validation.samples[0].prompt: must be text"),
    Fault(
        "step of samples", {"validation": {"intervall": 3, "samples": [{"prompt": "x"}]}}, "{intervall}: validation.intervall: there is no"
    ),
]
"""Keys that cannot be read, or are none."""


def good(folder: Path) -> dict[str, Any]:
    """A run of clips that is in order."""
    for name in ("a", "d"):
        clip_file(folder / f"{name}.mp4", frames=17)
        os.utime(folder / f"{name}.mp4", (1e9, 1e9))  # of a file that was just written it is not known whether it will change
    (folder / "clips.jsonl").write_text('{"video": "a.mp4", "caption": "one"}\n{"video": "d.mp4", "caption": "four"}\n')
    return {
        "output_dir": "run",
        "model": {"model_path": "tiny"},
        "lora": {"rank": 2, "target_modules": ["attn1.to_q"]},
        "training_strategy": {"name": "flexible", "video": {"is_generated": True, "latents_dir": "latents"}},
        "optimization": {"steps": 1, "batch_size": 2},
        "validation": {"inference_steps": 2},
        "data": {"dataset": "clips.jsonl", "held_out": 0, "num_dataloader_workers": 0},
    }


def with_faults(folder: Path, faults: list[Fault]) -> tuple[Path, list[str]]:
    """A run file with these faults, and how the messages of them begin."""
    run = good(folder)
    for fault in faults:
        fault.made(folder)
        for table, keys in fault.changed.items():
            run[table] = {**run.get(table, {}), **keys} if isinstance(keys, dict) else keys
    path = folder / "run.toml"
    path.write_text(document(run))
    lines = path.read_text().splitlines()

    def placed(told: str) -> str:
        if not told.startswith("{"):
            return told
        key, rest = told[1:].split("}", 1)
        line = next(number for number, text in enumerate(lines, 1) if text == key or f"{key} = " in text)
        return f"TMP/run.toml:{line}{rest}"

    return path, [placed(fault.told) for fault in faults]


def messages(err: str, folder: Path) -> list[str]:
    return [line for line in err.replace(str(folder), "TMP").splitlines() if not line.startswith("    ")]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    return tmp_path


def test_a_fault_in_every_part_is_found_at_once_and_each_is_told_once(folder: Path) -> None:
    path, told = with_faults(folder, FAULTS)
    before = sorted(folder.rglob("*"))
    status, out, err = check(str(path))
    found = messages(err, folder)
    assert (status, out) == (2, "")
    assert_told_once(found, told)
    assert sorted(folder.rglob("*")) == before


def assert_told_once(found: list[str], told: list[str]) -> None:
    """That the messages are these, in whatever order."""
    assert sorted(next((start for start in told if line.startswith(start)), line) for line in found) == sorted(told)


def test_a_model_that_cannot_be_read_hides_nothing_of_the_other_parts(folder: Path) -> None:
    parts = {"output folder", "schedule", "samples", "rows", "captions", "media", "buckets", "encoded set", "held-out rows"}
    path, told = with_faults(folder, [fault for fault in FAULTS if fault.part in parts])
    path.write_text(path.read_text().replace('"tiny"', '"cut.safetensors"'))
    (folder / "cut.safetensors").write_bytes(b"cut")
    found = messages(check(str(path))[2], folder)
    assert sum(line.startswith("TMP/cut.safetensors: ") for line in found) == 1
    assert [start for start in told if not any(line.startswith(start) for line in found)] == []


@pytest.mark.parametrize("fault", [*NOT_THERE, *WRONG_KEYS], ids=lambda fault: f"{fault.part}: {fault.told[:30]}")
def test_nothing_is_told_that_only_follows_from_a_key_that_is_not_known(folder: Path, fault: Fault) -> None:
    path, (told,) = with_faults(folder, [fault])
    (found,) = messages(check(str(path))[2], folder)
    assert found.startswith(told)


def test_paths_that_are_not_there_are_told_beside_all_that_does_not_hang_on_them(folder: Path) -> None:
    parts = {"output folder", "hub", "schedule", "held-out rows"}
    both = sample(type="first_frame", image_or_video="no.png", size=(64, 60, 17))
    size = Fault("size", both, "{video_dims}: validation.samples[0].video_dims: a picture of 64x60x17 has height 60")
    apart = [fault for fault in NOT_THERE if fault.part not in ("held-out rows", "what a sound is drawn for")]
    path, told = with_faults(folder, [*apart, size, *(fault for fault in FAULTS if fault.part in parts)])
    assert_told_once(messages(check(str(path))[2], folder), told)


def test_a_run_file_that_is_in_order_runs(folder: Path) -> None:
    from click.testing import CliRunner

    from ltxcore.cli.main import main

    path, _ = with_faults(folder, [])
    assert check(str(path))[0] == 0
    assert not (folder / "run").exists()
    done = CliRunner().invoke(main, ["run", str(path)])
    assert done.exit_code == 0, done.output
    assert check(str(path))[2].startswith(f"{path}:1: output_dir: {folder}/run holds a finished run")
    status, out, _ = check(str(path), "--set", "output_dir=other")
    assert (status, "  samples     2 to train on, 0 held out\n" in out) == (0, True)


def test_a_run_finds_what_is_wrong_with_its_held_out_rows_and_its_codecs_before_it_encodes_anything(folder: Path) -> None:
    from click.testing import CliRunner

    from ltxcore.cli.main import main

    path, (told,) = with_faults(folder, [FAULTS[-1]])
    done = CliRunner().invoke(main, ["run", str(path)])
    assert (done.exit_code, messages(done.stderr, folder)) == (2, [told])
    assert not (folder / ".precomputed").exists()


def encoded(folder: Path) -> Path:
    """The good run, with its dataset encoded."""
    from click.testing import CliRunner

    from ltxcore.cli.main import main

    path, _ = with_faults(folder, [])
    done = CliRunner().invoke(main, ["preprocess", "clips.jsonl", "--model-path", "tiny", "--skip-audio"])
    assert done.exit_code == 0, done.output
    return path


def test_samples_that_the_run_encodes_anew_by_itself_are_told_and_not_refused(folder: Path) -> None:
    path = encoded(folder)
    settings = ("--set", "preprocessing.skip_audio=true")
    assert "  samples     2 to train on, 0 held out\n" in check(str(path), *settings)[1]

    (folder / "clips.jsonl").write_text('{"video": "a.mp4", "caption": "another"}\n{"video": "d.mp4", "caption": "four"}\n')
    out = check(str(path), *settings)[1]
    assert "  samples     2 to train on, 0 held out; 1 are encoded, and the first run encodes the other 1\n" in out
    assert "/clips.jsonl: the first run encodes 1 of 2 samples anew, since their captions are other ones now.\n" in out

    out = check(str(path), *settings, "--set", "preprocessing.resolution_buckets=64x64x9")[1]
    assert "encodes 1 of 2 samples anew, since their files, or the options that they are fitted by, are other ones now.\n" in out

    sound_file(folder / "sound.wav")  # a new row
    clip_file(folder / "e.mp4", frames=17)
    with (folder / "clips.jsonl").open("a") as file:
        file.write('{"video": "e.mp4", "caption": "five"}\n')
    out = check(str(path), *settings)[1]
    assert "  samples     3 to train on, 0 held out; 1 are encoded, and the first run encodes the other 2\n" in out


def test_another_model_file_makes_the_run_encode_anew_and_is_no_mistake(folder: Path) -> None:
    path = encoded(folder)
    latents = folder / ".precomputed" / "latents"
    for manifest in latents.glob("manifest*.jsonl"):
        manifest.write_text(manifest.read_text().replace('"encoder": "', '"encoder": "other-'))
    status, out, err = check(str(path), "--set", "data.preprocessed_data_root=.precomputed", "--set", "preprocessing.skip_audio=true")
    assert (status, err) == (0, "")
    assert "  samples     2 to train on, 0 held out; the first run encodes all 2 anew\n" in out
    assert "encodes 2 of 2 samples anew, since they were made by another model's encoders" in out
