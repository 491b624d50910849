"""Every table: what a run does that says nothing, and what each key is for."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, get_args

import attrs
import pytest

from ltxcore.config import run_file, validation_samples
from ltxcore.config.keys import Bounds
from ltxcore.config.tables import keys_of
from ltxcore.encode.buckets import parse_buckets

TABLES = [
    cls
    for module in (run_file, validation_samples)
    for _, cls in inspect.getmembers(module, attrs.has)
    if cls.__name__.endswith(("Table", "Sample")) or cls is run_file.RunFile
]

DEFAULTS: dict[Any, dict[str, Any]] = {
    run_file.ModelTable: {
        "text_encoder_path": None,
        "video_vae_path": None,
        "audio_vae_path": None,
        "training_mode": "lora",
        "load_checkpoint": None,
    },
    run_file.LoraTable: {
        "rank": 32,
        "alpha": 32,
        "use_rslora": False,
        "use_dora": False,
        "dropout": 0.0,
        "target_modules": ["to_k", "to_q", "to_v", "to_out.0"],
    },
    run_file.OptimizationTable: {
        "learning_rate": 5e-4,
        "steps": 3000,
        "batch_size": 2,
        "gradient_accumulation_steps": 1,
        "max_grad_norm": 1.0,
        "optimizer_type": "adamw",
        "weight_decay": 0.01,
        "betas": (0.9, 0.999),
        "scheduler_type": "linear",
        "scheduler_params": {},
        "enable_gradient_checkpointing": False,
    },
    run_file.AccelerationTable: {
        "mixed_precision_mode": "bf16",
        "quantization": None,
        "offload_blocks": 0,
        "compile": False,
        "load_text_encoder_in_8bit": False,
        "offload_text_encoder": False,
        "vae_tiling": False,
        "offload_optimizer_during_validation": False,
    },
    run_file.DataTable: {"dataset": None, "preprocessed_data_root": None, "held_out": None, "num_dataloader_workers": 2, "verify": 0.0},
    run_file.CheckpointsTable: {
        "interval": None,
        "keep_last_n": 1,
        "precision": "bfloat16",
        "max_shard_size": None,
        "no_resume": False,
        "save_training_state": "full",
    },
    run_file.FlowMatchingTable: {"timestep_sampling_mode": "shifted_logit_normal", "timestep_sampling_params": {}, "shared_sigma": False},
    run_file.HubTable: {"push_to_hub": False, "hub_model_id": None},
    run_file.WandbTable: {"enabled": False, "project": "ltx", "entity": None, "tags": [], "log_validation_videos": True},
    run_file.EngineTable: {"name": "auto", "stage": None, "offload": "none", "deepspeed_config": None, "patience": 10.0},
    run_file.PreprocessingTable: {
        "resolution_buckets": None,
        "audio_durations": [],
        "video_column": None,
        "audio_column": None,
        "caption_column": None,
        "reference_video_column": None,
        "reference_audio_column": None,
        "video_mask_column": None,
        "audio_mask_column": None,
        "prefer": None,
        "caption_from": None,
        "lora_trigger": None,
        "remove_llm_prefixes": False,
        "reference_downscale_factor": 1,
        "reference_temporal_scale_factor": 1,
        "connector_outputs": False,
        "hdr": "bt709",
        "variable_rate": "keep",
        "alpha_color": "#000000",
        "skip_audio": False,
        "on_error": "stop",
        "batch_size": 1,
    },
    validation_samples.ValidationTable: {
        "samples": [],
        "negative_prompt": validation_samples.NEGATIVE_PROMPT,
        "video_dims": (960, 544, 89),
        "frame_rate": 24.0,
        "seed": 42,
        "inference_steps": 30,
        "interval": 100,
        "video_cfg_scale": 3.0,
        "audio_cfg_scale": 7.0,
        "video_stg_scale": 1.0,
        "audio_stg_scale": 1.0,
        "stg_blocks": [28],
        "guidance_rescale": 0.7,
        "video_modality_guidance_scale": 3.0,
        "audio_modality_guidance_scale": 3.0,
        "generate_audio": None,
        "generate_video": None,
        "skip_initial_validation": False,
    },
    validation_samples.ValidationSample: {"conditions": [], "video_dims": None, "seed": None},
}


@pytest.mark.parametrize("cls", DEFAULTS, ids=lambda cls: cls.__name__)
def test_a_table_that_says_nothing_is_this(cls: Any) -> None:
    required = {key.name: "" for key in keys_of(cls) if key.required}
    table = cls(**required)
    found = {key.name: getattr(table, key.name) for key in keys_of(cls) if not key.required}
    assert found == DEFAULTS[cls]
    assert {name: type(value) for name, value in found.items()} == {name: type(value) for name, value in DEFAULTS[cls].items()}


def test_the_run_file_has_the_tables_of_the_mission_and_ours() -> None:
    theirs = "model lora training_strategy optimization acceleration data validation checkpoints flow_matching hub wandb seed output_dir"
    assert {key.name for key in keys_of(run_file.RunFile)} == {*theirs.split(), "engine", "preprocessing", "trackers", "plugins"}
    assert {key.name for key in keys_of(run_file.RunFile) if key.required} == {"model", "training_strategy"}


@pytest.mark.parametrize("cls", TABLES, ids=lambda cls: cls.__name__)
def test_every_key_says_what_it_is_for(cls: Any) -> None:
    assert [key.name for key in keys_of(cls) if not key.help] == []


@pytest.mark.parametrize("cls", TABLES, ids=lambda cls: cls.__name__)
def test_a_number_has_a_range(cls: Any) -> None:
    numbers = [key for key in keys_of(cls) if {int, float} & {key.kind, *get_args(key.kind)} and key.name != "held_out"]
    assert [key.name for key in numbers if key.bounds == Bounds()] == []


def test_alpha_is_the_rank_unless_it_is_set() -> None:
    assert (run_file.LoraTable(rank=8).alpha, run_file.LoraTable(rank=8, alpha=16).alpha) == (8, 16)


def test_a_range_holds_for_a_table_made_in_code_too() -> None:
    with pytest.raises(ValueError, match=r"^must be at least 1, not 0$"):
        run_file.OptimizationTable(steps=0)


def test_the_state_that_resumes_exactly_is_saved_by_default() -> None:
    assert run_file.CheckpointsTable().save_training_state == "full"


def test_ranges_are_open_or_closed_as_they_say() -> None:
    assert [Bounds(at_least=1).fault(n) for n in (0, 1)] == ["must be at least 1", ""]
    assert [Bounds(above=1).fault(n) for n in (1, 1.5)] == ["must be above 1", ""]
    assert [Bounds(at_most=1).fault(n) for n in (1, 1.5)] == ["", "must be at most 1"]
    assert [Bounds(below=1).fault(n) for n in (0.5, 1)] == ["", "must be below 1"]
    assert Bounds(above=1).fault(float("nan")) == "must be above 1"
    assert Bounds(above=1).fault(None) == ""


def test_output_dir_is_a_path() -> None:
    assert next(key for key in keys_of(run_file.RunFile) if key.name == "output_dir").kind is Path


FREE = {
    "seed": "only hashed",
    "lora.dropout": "below 1",
    "optimization.max_grad_norm": "a norm above all others clips nothing",
    "optimization.betas": "below 1",
    "acceleration.offload_blocks": "more than there are is all of them",
    "data.held_out": "more than there are is refused with the data",
    "validation.seed": "only hashed",
    "validation.interval": "more steps than there are is never",
    "validation.stg_blocks": "held against the model's blocks",
    "checkpoints.interval": "more steps than there are is never",
    "checkpoints.keep_last_n": "more than there are is all of them",
    "engine.patience": "more minutes than a run takes is never",
}
"""Numbers without an upper end, and why none is needed."""


def test_every_number_of_a_run_file_has_an_upper_end_or_a_reason_for_none() -> None:
    found = set()
    for table in keys_of(run_file.RunFile):
        keys = [("", table)] if not attrs.has(table.kind) else [(f"{table.name}.", key) for key in keys_of(table.kind)]
        for prefix, key in keys:
            is_number = "Literal" not in str(key.kind) and any(kind in str(key.kind) for kind in ("int", "float"))
            if is_number and key.bounds.at_most is None:
                found.add(f"{prefix}{key.name}")
    assert found == FREE.keys()


def test_a_size_of_thousands_of_digits_is_no_bucket() -> None:
    for text in (f"{'9' * 5000}x64x17", "64x64x99999999999", "65537x64x17"):
        (found,) = run_file.PreprocessingTable(resolution_buckets=text).problems()
        assert found[:2] == (("resolution_buckets",), f'"{text if len(text) < 40 else f"{text[:37]}..."}" is no bucket')
        _, problems = parse_buckets(text, (8, 32, 32), "here")
        assert problems
    assert run_file.PreprocessingTable(resolution_buckets="65536x64x1000000").problems() == []
