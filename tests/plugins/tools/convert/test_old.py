"""A configuration becomes a run file: values as they were meant, defaults where they differ, nothing dropped in silence, all mistakes at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from helpers.converted_configs import MODEL, WHOLE, converted, old_file, refused, remarks, values
from ltxcore.config.load import load_run

HELD_OUT = (
    "# held_out: ltx keeps 5 % of the samples, at least one and at most 32, to measure the loss on;\n"
    "# held_out = 0 trains on all samples, as ltx-trainer did.\n"
)


def test_a_small_configuration_becomes_a_short_run_file() -> None:
    assert converted(old_file()).text == (
        "# Made by `ltx convert` from old.yaml.\n"
        "\n"
        "[model]\n"
        'model_path = "/models/ltx.safetensors"\n'
        "\n"
        "[lora]\n"
        "rank = 64\n"
        "# Not in the old file: this was the default of ltx-trainer, and ltx has a different one.\n"
        "alpha = 64\n"
        "\n"
        "[training_strategy]\n"
        'name = "flexible"\n'
        "\n"
        "[training_strategy.audio]\n"
        "is_generated = true\n"
        'latents_dir = "audio_latents"\n'
        "\n"
        "[data]\n"
        'preprocessed_data_root = "/data"\n' + HELD_OUT
    )


def test_a_converted_run_file_loads(tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    model.touch()
    text = old_file(model={"model_path": str(model)}, data={"preprocessed_data_root": str(tmp_path)})
    path = tmp_path / "run.toml"
    path.write_text(converted(text).text)
    config = load_run(path).config
    assert (config.lora.rank, config.lora.alpha) == (64, 64)
    assert config.training_strategy.audio.is_generated


# ---------------------------------------------------------------- what YAML 1.1 makes of things


@pytest.mark.parametrize(("written", "meant"), [("1e-4", 1e-4), ("1.0e-4", 1e-4), ("'0.0001'", 1e-4), ("1", 1.0), ("1_000", 1000.0)])
def test_a_learning_rate_is_a_number_however_it_is_written(written: str, meant: float) -> None:
    text = old_file() + f"optimization: {{learning_rate: {written}}}\n"
    assert values(text)["optimization"] == {"learning_rate": meant}


@pytest.mark.parametrize(("written", "meant"), [("2000", 2000), ("2000.0", 2000), ("2e3", 2000), ("'2000'", 2000), ("2_000", 2000)])
def test_steps_are_a_whole_number_however_they_are_written(written: str, meant: int) -> None:
    found = values(old_file() + f"optimization: {{steps: {written}}}\n")["optimization"]["steps"]
    assert (found, type(found)) == (meant, int)


@pytest.mark.parametrize(("written", "meant"), [("yes", True), ("Off", False), ("'true'", True), ("0", False)])
def test_truth_has_many_words(written: str, meant: bool) -> None:
    assert values(old_file() + f"optimization: {{enable_gradient_checkpointing: {written}}}\n")["optimization"] == {
        "enable_gradient_checkpointing": meant
    }


@pytest.mark.parametrize("written", ["no", "on", "3.0", "1:30", "2024-02-03", "0x10"])
def test_text_is_what_was_written(written: str) -> None:
    assert values(old_file() + f"wandb: {{project: {written}}}\n")["wandb"]["project"] == written


def test_no_is_a_precision_and_null_is_it_too() -> None:
    assert values(old_file() + "acceleration: {mixed_precision_mode: no}\n")["acceleration"] == {"mixed_precision_mode": "no"}
    text = converted(old_file() + "acceleration: {mixed_precision_mode: null}\n").text
    assert '# It was null in the old file, which meant float32.\nmixed_precision_mode = "no"\n' in text


def test_what_null_stood_for_is_written_where_it_is_not_our_default() -> None:
    text = old_file(
        validation={"interval": None, "stg_blocks": None},
        checkpoints={"interval": None, "save_training_state": "minimal"},
        acceleration={"quantization": None},
        hub={"hub_model_id": None},
    )
    found = values(text)
    assert found["validation"] == {"interval": 0, "stg_blocks": []}
    assert found["checkpoints"] == {"save_training_state": "minimal"}
    assert "acceleration" not in found
    assert "hub" not in found


# ---------------------------------------------------------------- defaults


def test_defaults_that_differ_are_written_out() -> None:
    found = values(old_file(lora={"target_modules": ["to_k"]}, wandb={"enabled": True}))
    assert found["lora"] == {"rank": 64, "alpha": 64, "target_modules": ["to_k"]}
    assert found["wandb"] == {"enabled": True, "project": "ltxv-trainer"}


def test_an_alpha_that_is_not_the_rank_is_pointed_at() -> None:
    said = "# ltx applies alpha / rank to the saved LoRA."
    assert said in converted(old_file(lora={"rank": 32})).text
    assert said not in converted(old_file(lora={"rank": 32, "alpha": 32})).text


def test_what_state_is_kept_is_pointed_at() -> None:
    text = converted(old_file(checkpoints={"interval": 250})).text
    assert (
        '\n# save_training_state: the default of ltx is "full", so that a run resumes exactly; that of\n# ltx-trainer was "minimal".\n'
        in text
    )


# ---------------------------------------------------------------- paths


def test_relative_paths_lead_where_they_did_from_where_the_run_file_is() -> None:
    text = old_file(model={"model_path": "models/ltx.safetensors", "text_encoder_path": "/gemma", "load_checkpoint": "~/lora"})
    assert yaml.safe_load(text)["model"]["model_path"] == "models/ltx.safetensors"
    beside = converted(text, start=Path("/here"), folder=Path("/here")).text
    assert 'model_path = "models/ltx.safetensors"\ntext_encoder_path = "/gemma"\nload_checkpoint = "~/lora"\n' in beside
    elsewhere = converted(text, start=Path("/here"), folder=Path("/here/runs/a")).text
    assert 'model_path = "../../models/ltx.safetensors"\ntext_encoder_path = "/gemma"\nload_checkpoint = "~/lora"\n' in elsewhere


def test_the_output_folder_stays_relative_to_the_working_directory() -> None:
    text = converted(old_file(output_dir="outputs/mine", seed=7), folder=Path("/elsewhere")).text
    assert 'output_dir = "outputs/mine"\nseed = 7\n' in text


# ---------------------------------------------------------------- what has no counterpart


def test_unknown_keys_become_comments_and_are_told() -> None:
    text = old_file(optimization={"learning_rat": 1e-3, "steps": 5}, model={**MODEL["model"], "revision": None}, extra={"a": [1, None]})
    assert remarks(text) == [
        "line 3 of the old file: model.revision is not converted: ltx-trainer does not have this key either.",
        'line 14 of the old file: optimization.learning_rat = 0.001 is not converted: ltx-trainer does not have this key either. Did you mean "learning_rate"?',
        "line 16 of the old file: extra = { a = [1] } is not converted: ltx-trainer does not have this key either.",
    ]
    assert values(text)["optimization"] == {"steps": 5}


def test_parameters_that_a_schedule_or_a_sampler_lacks_become_comments() -> None:
    text = old_file(
        optimization={"scheduler_type": "cosine", "scheduler_params": {"T_max": "100", "gamma": 0.5}},
        flow_matching={"timestep_sampling_mode": "uniform", "timestep_sampling_params": {"min_value": 0, "std": 1.0}},
    )
    assert remarks(text) == [
        'line 16 of the old file: optimization.scheduler_params.gamma = 0.5 is not converted: the schedule "cosine" has no such parameter.',
        'line 21 of the old file: flow_matching.timestep_sampling_params.std = 1 is not converted: "uniform" has no such parameter.',
    ]
    found = values(text)
    assert found["optimization"]["scheduler_params"] == {"T_max": 100}
    assert found["flow_matching"]["timestep_sampling_params"] == {"min_value": 0.0}


def test_a_key_that_is_written_twice_is_told() -> None:
    text = old_file() + "optimization:\n  steps: 1\n  steps: 2\n"
    assert remarks(text) == ["line 14 of the old file: optimization.steps is set twice; the last value counts."]
    assert values(text)["optimization"]["steps"] == 2


# ---------------------------------------------------------------- mistakes


def test_all_mistakes_are_told_at_once_each_with_its_line() -> None:
    text = old_file(
        model={"training_mode": "tiny"},
        lora={"rank": "many", "target_modules": "to_k"},
        optimization={"steps": 1.5, "learning_rate": True, "batch_size": None, "scheduler_params": [1]},
        data=3,
        checkpoints={"interval": {}, "no_resume": "maybe"},
        validation={"video_dims": [960, 544], "frame_rate": float("inf")},
    )
    assert refused(text) == (
        "old.yaml:2: model.model_path: is missing\n"
        'old.yaml:2: model.training_mode: must be "lora" or "full", not the text "tiny"\n'
        "old.yaml:3: data: must be a mapping, not 3\n"
        'old.yaml:5: lora.rank: must be a whole number, not the text "many"\n'
        'old.yaml:6: lora.target_modules: must be a list, not the text "to_k"\n'
        "old.yaml:13: optimization.steps: must be a whole number, not 1.5\n"
        "old.yaml:14: optimization.learning_rate: must be a number, not true\n"
        "old.yaml:15: optimization.batch_size: must be a whole number, not null\n"
        "old.yaml:17: optimization.scheduler_params: must be a mapping, not a list\n"
        "old.yaml:19: checkpoints.interval: must be a whole number, not a mapping\n"
        'old.yaml:20: checkpoints.no_resume: must be true or false, not the text "maybe"\n'
        "old.yaml:23: validation.video_dims: must be a list of 3, not of 2\n"
        "old.yaml:25: validation.frame_rate: must be a finite number, not .inf"
    )


def test_a_file_that_is_no_configuration_is_refused() -> None:
    assert refused("- 1\n- 2\n") == "old.yaml: holds a list, not the tables of a configuration"
    assert refused("seed: 1\n") == "old.yaml:1: model: is missing\nold.yaml:1: data: is missing"


def test_a_configuration_of_accelerate_is_known_as_such() -> None:
    assert refused("compute_environment: LOCAL_MACHINE\ndistributed_type: FSDP\nnum_processes: 4\n") == (
        "old.yaml: is a configuration of accelerate, which says how processes are started\n"
        "    A run file has no such settings: start a run in N processes with `ltx launch --num-gpus N run.toml`."
    )


def test_lists_of_mappings_must_be_that() -> None:
    blocks = {"audio": {"is_generated": True, "latents_dir": "a", "conditions": {"type": "mask"}}}
    assert refused(old_file(training_strategy={"name": "flexible", **blocks})) == (
        "old.yaml:12: training_strategy.audio.conditions: must be a list, not a mapping"
    )
    assert refused(old_file(validation={"samples": ["A bird."]})) == (
        'old.yaml:14: validation.samples[0]: must be a mapping, not the text "A bird."'
    )


def test_every_table_of_the_old_configuration_is_known() -> None:
    assert remarks(old_file(**{name: {} for name in ("acceleration", "checkpoints", "hub", "flow_matching", "wandb")}, seed=1)) == []
    assert set(WHOLE) == {"model", "data", "lora", "training_strategy"}
