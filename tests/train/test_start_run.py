"""Whole runs: what they leave behind, going on to the last bit, starting over, and refusing."""

from __future__ import annotations

import filecmp
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors import safe_open

from helpers.heard import heard
from helpers.lora_files import load_lora
from helpers.training_runs import STOPPER, loaded_run, message, put, sound_set, tables, write_run
from ltxcore.api.runs import read_run
from ltxcore.config.load import load_run
from ltxcore.encoded.micro_batch import to_verify
from ltxcore.errors import CheckpointError, ConfigError, DataError
from ltxcore.media.probe import read_sound
from ltxcore.models.load_base import load_backbone
from ltxcore.models.lora import lora_parameters
from ltxcore.train.conditioning_swap import OTHER, OWN
from ltxcore.train.held_out_table import held_out_table
from ltxcore.train.outcome import Outcome
from ltxcore.train.start_run import SMALL, few_threads, run

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sound_set(tmp_path_factory.mktemp("data") / "data")


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, str]:
    """A run of eight steps from beginning to end, and what it said."""
    folder = tmp_path_factory.mktemp("finished")
    with heard() as said:
        return run(load_run(write_run(folder, tables(data, folder / "out", optimization=LONG)))), said.getvalue()


KILLED = {"steps": 200, "batch_size": 4, "learning_rate": 1e-3}
LONG = {"steps": 8, "batch_size": 4, "learning_rate": 1e-2, "gradient_accumulation_steps": 2}


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def steps(path: Path) -> list[dict]:
    """The lines of training steps, without what depends on the clock."""
    clock = ("step_seconds", "tokens_per_second", "peak_memory_gib")
    return [{key: value for key, value in line.items() if key not in clock} for line in lines(path) if "loss" in line]


def test_a_run_leaves_its_lora_metrics_run_file_and_samples(finished: tuple[Outcome, str]) -> None:
    outcome, _ = finished
    assert outcome.finished
    assert outcome.step == 8
    assert sorted(str(path.relative_to(outcome.output_dir)) for path in outcome.output_dir.rglob("*")) == [
        "lora.safetensors",
        "metrics.jsonl",
        "report.html",
        "run.json",
        "run.toml",
        "samples",
        "samples/original_1.wav",
        "samples/original_2.wav",
        "samples/step_000000_1.wav",
        "samples/step_000000_2.wav",
        "samples/step_000008_1.wav",
        "samples/step_000008_2.wav",
    ]
    assert json.loads((outcome.output_dir / "run.json").read_text())["status"] == "finished"


def test_the_saved_lora_is_what_was_trained(finished: tuple[Outcome, str]) -> None:
    outcome, _ = finished
    with safe_open(outcome.weights, framework="pt") as file:
        assert all(key.startswith("diffusion_model.transformer_blocks.") for key in file.keys())  # noqa: SIM118
        assert file.metadata()["base_model"] == "tiny-untrained"
        assert file.metadata()["rank"] == "2"
    backbone = load_backbone("tiny-untrained", frozenset({"audio"}), dtype=torch.float32, seed=42)
    load_lora(backbone, outcome.weights)
    assert len(lora_parameters(backbone)) == 16
    assert all(bool(parameter.any()) for parameter in lora_parameters(backbone).values())


def test_the_resolved_run_file_runs_again_as_it_is(finished: tuple[Outcome, str], tmp_path: Path) -> None:
    outcome, _ = finished
    again = run(load_run(outcome.output_dir / "run.toml", [f"output_dir={tmp_path / 'again'}"]))
    assert steps(again.metrics) == steps(outcome.metrics)
    assert filecmp.cmp(again.weights, outcome.weights, shallow=False)
    for name in ("step_000000_1.wav", "step_000008_2.wav"):
        assert filecmp.cmp(again.output_dir / "samples" / name, outcome.output_dir / "samples" / name, shallow=False)


def test_held_out_losses_are_logged_before_and_after_and_make_a_table(finished: tuple[Outcome, str]) -> None:
    outcome, _ = finished
    logged = [line for line in lines(outcome.metrics) if f"held_out/{OWN}/clips" in line]
    assert [line["step"] for line in logged] == [0, 8]
    key = "audio/sigma_0.90"
    values = outcome.before[f"held_out/{OWN}/{key}"], outcome.after[f"held_out/{OWN}/{key}"], outcome.after[f"held_out/{OTHER}/{key}"]
    assert values == (logged[0][f"held_out/{OWN}/{key}"], logged[1][f"held_out/{OWN}/{key}"], logged[1][f"held_out/{OTHER}/{key}"])
    assert values[1] < values[0]
    console = Console(file=StringIO(), width=140)
    console.print(held_out_table(outcome.before, outcome.after))
    said = console.file.getvalue()  # type: ignore[attr-defined]
    row = next(line for line in said.splitlines() if "audio" in line and "│" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["audio", *(f"{value:.4f}" for value in values)]
    assert "Validation loss of generated tokens at sigma 0.9, 4 held-out clips" in said
    assert {f"held_out_ratio/{context}/{key}" for context in (OTHER, "other_text", "other_given")} <= outcome.after.keys()


def test_a_table_after_other_objectives_than_before_has_what_was_measured() -> None:
    own = {f"held_out/{OWN}/clips": 4.0, f"held_out/{OWN}/audio/sigma_0.90": 1.0}
    then, now = ({**own, f"held_out/{name}/audio/sigma_0.90": value} for name, value in (("slider", 2.0), ("preservation", 3.0)))
    console = Console(file=StringIO(), width=140)
    console.print(held_out_table(then, now))
    said = [[cell.strip() for cell in line.strip("│").split("│")] for line in console.file.getvalue().splitlines() if "│" in line]  # type: ignore[attr-defined]
    assert said == [["audio", "1.0000", "1.0000", "-"], ["slider, audio", "2.0000", "-", "-"], ["preservation, audio", "-", "3.0000", "-"]]


def test_samples_are_logged_with_paths_inside_the_output_folder(finished: tuple[Outcome, str]) -> None:
    outcome, _ = finished
    logged = [line for line in lines(outcome.metrics) if "sample" in line]
    assert [(line["step"], line["path"]) for line in logged] == [
        (0, "samples/step_000000_1.wav"),
        (0, "samples/step_000000_2.wav"),
        (8, "samples/step_000008_1.wav"),
        (8, "samples/step_000008_2.wav"),
    ]


def test_what_is_given_sounds_the_same_in_the_sample_and_what_is_generated_does_not(finished: tuple[Outcome, str]) -> None:
    outcome, _ = finished
    drawn, original = (read_sound(path).samples for path in (outcome.generations[0].path, outcome.generations[0].original))
    assert drawn.shape == original.shape
    half = drawn.shape[1] // 4
    assert float((drawn[:, :half] - original[:, :half]).abs().max()) < 0.25 * float((drawn[:, -half:] - original[:, -half:]).abs().max())


@pytest.fixture(scope="module")
def interrupted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """The same run, interrupted in its third step."""
    folder = tmp_path_factory.mktemp("interrupted")
    (folder / "stopper.py").write_text(STOPPER)
    run_file = write_run(
        folder, tables(data, folder / "out", optimization=LONG, plugins=[str(folder / "stopper.py")], trackers={"stopper": {"at": 3}})
    )
    return run_file, run(load_run(run_file))


def test_an_interrupted_run_saves_what_it_has_and_goes_on_to_the_same_result_to_the_last_bit(
    interrupted: tuple[Path, Outcome], finished: tuple[Outcome, str]
) -> None:
    run_file, stopped = interrupted
    whole, _ = finished
    assert (stopped.finished, stopped.step, stopped.weights) == (False, 3, None)
    assert stopped.resume == f"ltx run {stopped.output_dir / 'run.toml'}"
    assert json.loads((stopped.output_dir / "run.json").read_text())["status"] == "stopped"
    assert sorted(path.name for path in (stopped.output_dir / "checkpoints" / "step_000003").iterdir()) == [
        "lora.safetensors",
        "manifest.json",
        "state.json",
        "state.safetensors",
    ]
    with (stopped.output_dir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "loss": 1')  # the line that a kill cut off
    half = stopped.output_dir / ".lora.12-34.unfinished.safetensors"
    half.write_bytes(b"half")  # and the file that it was writing
    outcome = run(load_run(run_file))
    assert outcome.finished
    assert outcome.step == 8
    assert not half.exists()
    assert steps(outcome.metrics) == steps(whole.metrics)
    assert filecmp.cmp(outcome.weights, whole.weights, shallow=False)
    assert outcome.before == whole.before
    assert outcome.after == whole.after
    with pytest.raises(ConfigError) as error:
        run(load_run(run_file))
    assert "holds a finished run, which is not overwritten" in str(error.value)


@pytest.mark.slow
def test_a_run_with_drawn_values_and_conditions_goes_on_to_the_same_result_to_the_last_bit(data: Path, tmp_path: Path) -> None:
    (tmp_path / "stopper.py").write_text(STOPPER)
    conditions = [{"type": "prefix", "temporal_boundary": {"min": 1, "max": 7}, "probability": 0.9}]
    choices = [{"one_of": [[{"type": "suffix", "temporal_boundary": 1}], []]}]
    audio = {"is_generated": True, "latents_dir": "audio_latents", "conditions": conditions, "choices": choices}
    strategy = {"name": "flexible", "audio": audio}
    stopper = {"plugins": [str(tmp_path / "stopper.py")], "trackers": {"stopper": {"at": 2}}}
    shared = {"training_strategy": strategy, "data": {"held_out": 3}}
    whole = run(load_run(write_run(tmp_path, tables(data, tmp_path / "whole", **shared), "whole.toml")))
    run_file = write_run(tmp_path, tables(data, tmp_path / "out", **shared, **stopper))
    assert run(load_run(run_file)).step == 2
    outcome = run(load_run(run_file))
    assert steps(outcome.metrics) == steps(whole.metrics)
    assert outcome.after == whole.after
    with safe_open(outcome.weights, framework="pt") as found, safe_open(whole.weights, framework="pt") as expected:
        assert all(found.get_tensor(key).equal(expected.get_tensor(key)) for key in expected.keys())  # noqa: SIM118
        assert json.loads(found.metadata()["drawn_values"]) == {"audio.cond0.prefix/temporal_boundary": {"min": 1, "max": 7}}
        assert json.loads(found.metadata()["condition_choices"]).keys() == {"audio.choice0"}
    lists = {name.rpartition("/")[2] for line in steps(whole.metrics) for name in line if "audio.choice0/" in name}
    assert lists == {"one_of_0_suffix", "one_of_1_nothing"}
    key = "audio/audio.cond0.prefix/temporal_boundary_"
    assert {name for line in steps(whole.metrics) for name in line if key in name} <= {f"loss/{key}{length}" for length in range(1, 8)}
    assert {f"held_out/{OWN}/audio/sigma_0.90/{key.partition('/')[2]}{end}" for end in ("min", "max")} <= whole.after.keys()


def test_checkpoints_are_saved_at_intervals_and_the_newest_kept(data: Path, tmp_path: Path) -> None:
    checkpoints = {"interval": 2, "keep_last_n": 2}
    outcome = run(load_run(write_run(tmp_path, tables(data, tmp_path / "out", optimization=LONG, checkpoints=checkpoints))))
    assert sorted(path.name for path in (outcome.output_dir / "checkpoints").iterdir()) == ["step_000004", "step_000006"]
    assert outcome.weights.exists()


def stop_at_three(data: Path, folder: Path, **changed: object) -> Path:
    (folder / "stopper.py").write_text(STOPPER)
    stopper = {"plugins": [str(folder / "stopper.py")], "trackers": {"stopper": {"at": 3}}}
    run_file = write_run(folder, tables(data, folder / "out", optimization=LONG, **stopper, **changed))
    assert run(load_run(run_file)).step == 3
    return run_file


def test_a_run_that_kept_no_state_says_so_and_starts_over_when_told(data: Path, tmp_path: Path) -> None:
    run_file = stop_at_three(data, tmp_path, checkpoints={"save_training_state": "off"})
    with pytest.raises(ConfigError) as error:
        run(load_run(run_file))
    assert message(error.value, tmp_path) == (
        'TMP/out/checkpoints/step_000003: this unfinished run cannot be resumed, because it kept no training state (save_training_state = "off")\n'
        "    Set checkpoints.no_resume = true to start over."
    )
    outcome = run(load_run(run_file, ["checkpoints.no_resume=true", "trackers.stopper.at=99"]))
    assert outcome.finished
    assert len(steps(outcome.metrics)) == 8
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_a_changed_checkpoint_is_not_gone_on_with(data: Path, tmp_path: Path) -> None:
    run_file = stop_at_three(data, tmp_path)
    state = tmp_path / "out" / "checkpoints" / "step_000003" / "state.json"
    state.write_text(state.read_text().replace("0.", "1.", 1))
    with pytest.raises(CheckpointError) as error:
        run(load_run(run_file))
    assert message(error.value, tmp_path) == (
        "TMP/out/checkpoints/step_000003: state.json was changed since it was saved\n"
        "    Move this checkpoint out of TMP/out/checkpoints, so that the run starts over, since there is no previous checkpoint."
    )


def test_an_unfinished_run_of_another_file_is_refused_with_file_line_and_difference(data: Path, tmp_path: Path) -> None:
    run_file = stop_at_three(data, tmp_path)
    with pytest.raises(ConfigError) as error:
        run(load_run(run_file, ["seed=7"]))
    assert message(error.value, tmp_path) == (
        "TMP/run.toml:1: output_dir: TMP/out holds an unfinished run with another run file:\n"
        "    -seed = 42\n"
        "    +seed = 7\n"
        "    Undo the change to resume it, accept it with --allow-changes, set checkpoints.no_resume to start over in the same folder, or choose another output_dir."
    )


def test_a_mistake_that_is_found_before_training_leaves_no_output_folder(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        run(load_run(write_run(tmp_path, tables(data, tmp_path / "out", lora={"target_modules": ["to_qq"]}))))
    assert not (tmp_path / "out").exists()


def test_a_sample_that_was_changed_since_it_was_listed_stops_the_run_and_is_named(tmp_path: Path) -> None:
    sound_set(tmp_path / "data", count=3)
    loaded = loaded_run(tmp_path, data={"held_out": 0})
    path = tmp_path / "data" / "audio_latents" / "sound01.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DataError) as error:
        run(loaded)
    assert "sound01" in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_run_verifies_the_share_of_its_samples_that_its_file_says_before_it_begins(tmp_path: Path) -> None:
    sound_set(tmp_path / "data", count=6)
    with heard() as told:
        run(loaded_run(tmp_path, data={"held_out": 0, "verify": 0.4}, optimization={"steps": 1}))
    said = f"3 of 6 samples in {tmp_path / 'data'} were read in full and are intact (9 files have a checksum)"
    assert said in told.getvalue()
    shutil.rmtree(tmp_path / "out")
    for number in range(6):
        path = tmp_path / "data" / "conditions" / f"sound{number:02d}.safetensors"
        data = bytearray(path.read_bytes())
        data[-9] ^= 1
        path.write_bytes(data)
    with pytest.raises(DataError) as error:
        run(loaded_run(tmp_path, data={"held_out": 0, "verify": 0.4}))
    chosen = to_verify([f"sound{number:02d}" for number in range(6)], 0.4, 42)
    damaged = [f"TMP/data/conditions/{name}.safetensors: is damaged: its content differs from what was written" for name in chosen]
    assert message(error.value, tmp_path) == "\n".join(
        f"{each}\n    Run `ltx preprocess --verify` on its dataset, which encodes damaged files again." for each in damaged
    )
    assert not (tmp_path / "out").exists()


def test_without_held_out_clips_training_clips_are_drawn_and_that_is_said(data: Path, tmp_path: Path) -> None:
    with heard() as said:
        outcome = run(load_run(write_run(tmp_path, tables(data, tmp_path / "out", data={"held_out": 0}))))
    assert outcome.before == outcome.after == {}
    assert [clip.name for clip in outcome.generations] == ["sound00", "sound01"]
    assert (
        "24 samples to train on, 0 held out\n"
        "no clips are held out (held_out = 0 asks for that), so there is no validation loss; "
        "set held_out under [data] to a number of samples, or to a separate dataset"
    ) in said.getvalue()


def test_a_full_run_saves_a_model_that_loads_again_as_it_was(data: Path, tmp_path: Path) -> None:
    model, checkpoints = {"model_path": "tiny-untrained", "training_mode": "full"}, {"precision": "float32"}
    outcome = run(load_run(write_run(tmp_path, tables(data, tmp_path / "out", model=model, checkpoints=checkpoints))))
    assert outcome.weights.name == "model.safetensors"
    continued = {"model_path": str(outcome.weights)}
    again = run(load_run(write_run(tmp_path, tables(data, tmp_path / "out2", model=continued), "again.toml")))
    key = f"held_out/{OWN}/audio/sigma_0.90"
    assert again.before[key] == pytest.approx(outcome.after[key], rel=1e-6)


def test_a_full_run_saves_a_large_model_in_parts_which_a_run_begins_with(data: Path, tmp_path: Path) -> None:
    model = {"model_path": "tiny-untrained", "training_mode": "full"}
    checkpoints = {"max_shard_size": 0.004, "interval": 2, "keep_last_n": 1}
    outcome = run(load_run(write_run(tmp_path, tables(data, tmp_path / "out", model=model, checkpoints=checkpoints))))
    parts = [f"model-{number:05d}-of-00002.safetensors" for number in (1, 2)]
    assert outcome.weights.name == "model.safetensors.index.json"
    assert sorted(path.name for path in (tmp_path / "out").glob("model*")) == [*parts, outcome.weights.name]
    (saved,) = (tmp_path / "out" / "checkpoints").iterdir()
    assert {*parts, outcome.weights.name} < set(json.loads((saved / "manifest.json").read_text())["files"])
    record = read_run(tmp_path / "out")
    assert [path.name for path in record.weights.parts] == parts
    assert record.weights.size == sum((tmp_path / "out" / name).stat().st_size for name in parts)
    for name, path in (("file", outcome.weights), ("folder", saved)):
        begun = {"model_path": "tiny-untrained", "training_mode": "full", "load_checkpoint": str(path)}
        again = run(load_run(write_run(tmp_path, tables(data, tmp_path / name, model=begun), f"{name}.toml")))
        key = f"held_out/{OWN}/audio/sigma_0.90"
        assert again.before[key] < outcome.before[key]
        assert name == "folder" or again.before[key] == pytest.approx(outcome.after[key], rel=1e-2)


def test_parts_of_a_lora_are_not_to_be_had(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        run(load_run(write_run(tmp_path, tables(data, tmp_path / "out", checkpoints={"max_shard_size": 1.0}))))
    assert message(error.value, tmp_path).partition(": ")[2] == (
        "checkpoints.max_shard_size: applies to a whole model, but a LoRA is always one file\n    Remove the key."
    )


def test_a_lora_run_can_begin_with_a_lora(data: Path, finished: tuple[Outcome, str], tmp_path: Path) -> None:
    first, _ = finished
    model = {"model_path": "tiny-untrained", "load_checkpoint": str(first.weights)}
    outcome = run(load_run(write_run(tmp_path, tables(data, tmp_path / "out", model=model))))
    key = f"held_out/{OWN}/audio/sigma_0.90"
    assert outcome.before[key] == pytest.approx(first.after[key], rel=1e-3)
    assert outcome.before[key] < first.before[key]


def foley(root: Path, folder: Path, **changed: object) -> Path:
    """Sound for given pictures, with a reference in half of the micro-batches and a prefix in half of the samples."""
    strategy = {
        "name": "flexible",
        "video": {"is_generated": False, "latents_dir": "latents"},
        "audio": {
            "is_generated": True,
            "latents_dir": "audio_latents",
            "conditions": [
                {"type": "prefix", "temporal_boundary": 2, "probability": 0.5},
                {"type": "reference", "latents_dir": "reference_audio_latents", "probability": 0.5},
            ],
        },
    }
    lora = {"rank": 2, "target_modules": ["to_q", "to_v"]}
    return write_run(folder, tables(root, folder / "out", training_strategy=strategy, lora=lora, **changed))


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = sound_set(tmp_path_factory.mktemp("films") / "data", count=10)
    for number in range(10):
        picture = torch.randn(128, 2, 2, 2, generator=torch.Generator().manual_seed(number))
        put(root, "latents", f"sound{number:02d}", {"latents": picture}, rate=16.0)
        put(root, "reference_audio_latents", f"sound{number:02d}", {"latents": torch.ones(8, 4, 16)})
    return root


def test_sound_for_given_pictures_with_a_reference_now_and_then_leaves_films_with_sound(films: Path, tmp_path: Path) -> None:
    with heard() as said:
        outcome = run(load_run(foley(films, tmp_path, data={"num_dataloader_workers": 2})))
    keys = {key for line in steps(outcome.metrics) for key in line}
    assert {
        "loss/audio/audio.cond0.prefix/applied",
        "loss/audio/audio.cond0.prefix/not_applied",
        "loss/audio/audio.cond1.reference/applied",
        "loss/audio/audio.cond1.reference/not_applied",
    } <= keys
    assert not any(key.startswith("loss/video") for key in keys)
    assert [clip.path.suffix for clip in outcome.generations] == [".mp4", ".mp4"]
    assert "no loss of this run reaches" in said.getvalue()
    with safe_open(outcome.weights, framework="pt") as file:
        assert not any("transformer_blocks.3.audio_to_video_attn" in key for key in file.keys())  # noqa: SIM118


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_gradient_checkpointing_changes_nothing_but_memory(films: Path, tmp_path: Path, mode: str) -> None:
    found = []
    for checkpointing in (False, True):
        folder = tmp_path / str(checkpointing)
        folder.mkdir()
        model = {"model_path": "tiny-untrained", "training_mode": mode}
        optimization = {"steps": 2, "enable_gradient_checkpointing": checkpointing}
        outcome = run(load_run(foley(films, folder, model=model, optimization=optimization)))
        found.append([line["loss"] for line in steps(outcome.metrics)])
    assert found[0] == pytest.approx(found[1], rel=1e-5)


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_bf16_trains_and_stays_near_float32(data: Path, tmp_path: Path, mode: str) -> None:
    found = []
    for precision in ("no", "bf16"):
        folder = tmp_path / precision
        folder.mkdir()
        model, acceleration = {"model_path": "tiny-untrained", "training_mode": mode}, {"mixed_precision_mode": precision}
        outcome = run(load_run(write_run(folder, tables(data, folder / "out", model=model, acceleration=acceleration))))
        found.append([line["loss"] for line in steps(outcome.metrics)])
    assert found[0] != found[1]
    assert found[0] == pytest.approx(found[1], rel=0.02)


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_to_the_same_result_to_the_last_bit(data: Path, tmp_path: Path) -> None:
    whole = run(
        load_run(write_run(tmp_path, tables(data, tmp_path / "whole", optimization=KILLED, checkpoints={"interval": 5}), "whole.toml"))
    )
    run_file = write_run(tmp_path, tables(data, tmp_path / "killed", optimization=KILLED, checkpoints={"interval": 5}))
    process = subprocess.Popen([sys.executable, "-m", "ltxcore", "run", str(run_file)], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (tmp_path / "killed" / "checkpoints" / "step_000020" / "manifest.json").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    outcome = run(load_run(run_file))
    assert filecmp.cmp(outcome.weights, whole.weights, shallow=False)
    assert steps(outcome.metrics) == steps(whole.metrics)


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_a_small_model_has_one_thread_and_the_others_come_back() -> None:
    with few_threads([(2, 2), (2,)], CPU):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


def test_a_large_model_keeps_all_of_them() -> None:
    with few_threads([(SMALL // 100, 100), (1,)], CPU):
        assert torch.get_num_threads() == 2


def test_a_run_on_a_gpu_or_where_the_user_has_said_how_many_keeps_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    with few_threads([(2, 2), (2,)], torch.device("cuda")):
        assert torch.get_num_threads() == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with few_threads([(2, 2), (2,)], CPU):
        assert torch.get_num_threads() == 2
