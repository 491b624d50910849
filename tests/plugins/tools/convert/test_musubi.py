"""Arguments of musubi-tuner's LTX-2 training become a run file: from TOML, from a command, and from both."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from helpers.other_trainers import assert_named, at, clips, converted, left, musubi, refused, remarks, table, values
from helpers.running import run_ltx
from ltxcore.models import TINY_BASE
from ltxplugins.tools.convert.musubi_rules import RULES
from ltxplugins.tools.convert.settings import ANY, Kept

TABLE = Path(__file__).parent / "settings_of_musubi.txt"

KEPT: dict[str, tuple[Any, str, Any]] = {
    "ltx2_checkpoint": ("/models/ltx.safetensors", "model.model_path", "/models/ltx.safetensors"),
    "ltx2_video_vae": ("vae.safetensors", "model.video_vae_path", "vae.safetensors"),
    "ltx2_audio_vae": ("audio.safetensors", "model.audio_vae_path", "audio.safetensors"),
    "gemma_root": ("gemma", "model.text_encoder_path", "gemma"),
    "gemma_safetensors": ("gemma.safetensors", "model.text_encoder_path", "gemma.safetensors"),
    "gemma_load_in_8bit": (True, "acceleration.load_text_encoder_in_8bit", True),
    "gemma_load_in_4bit": (True, "acceleration.load_text_encoder_in_8bit", True),
    "ltx2_mode": ("av", "training_strategy.audio.is_generated", True),
    "ltx_mode": ("va", "training_strategy.audio.is_generated", True),
    "ltx2_first_frame_conditioning_p": (0.5, "training_strategy.video.conditions", [{"type": "first_frame", "probability": 0.5}]),
    "network_module": ("networks.lokr", "lora.type", "lokr"),
    "network_dim": (24, "lora.rank", 24),
    "network_alpha": (8, "lora.alpha", 8),
    "network_dropout": (0.1, "lora.dropout", 0.1),
    "network_args": (["use_dora=true"], "lora.type", "dora"),
    "network_weights": ("first.safetensors", "model.load_checkpoint", "first.safetensors"),
    "lora_target_preset": ("t2v", "lora.target_modules", ["to_k", "to_q", "to_v", "to_out.0"]),
    "learning_rate": (1e-4, "optimization.learning_rate", 1e-4),
    "max_train_steps": (2000, "optimization.steps", 2000),
    "optimizer_type": ("AdamW8bit", "optimization.optimizer_type", "adamw8bit"),
    "optimizer_args": (["weight_decay=0.1", "betas=0.9,0.95"], "optimization.optimizer_params", {"betas": [0.9, 0.95]}),
    "lr_scheduler": ("linear", "optimization.scheduler_params", {"end_factor": 0.0}),
    "lr_warmup_steps": (100, "optimization.warmup_steps", 100),
    "gradient_accumulation_steps": (4, "optimization.gradient_accumulation_steps", 4),
    "gradient_checkpointing": (True, "optimization.enable_gradient_checkpointing", True),
    "max_grad_norm": (0.5, "optimization.max_grad_norm", 0.5),
    "seed": (7, "seed", 7),
    "use_ema": (True, "ema.decay", 0.9999),
    "loss_type": ("huber", "objectives", [{"type": "flow_matching", "error": "huber"}]),
    "video_loss_weight": (2.0, "objectives", [{"type": "flow_matching", "weight": 2.0}]),
    "caption_dropout_rate": (0.1, "data.caption_dropout", 0.1),
    "timestep_sampling": ("shifted_logit_normal", "flow_matching.timestep_sampling_mode", "shifted_logit_normal"),
    "discrete_flow_shift": (3.0, "flow_matching.timestep_sampling_params", {"shift": 3.0}),
    "min_timestep": (100, "flow_matching.timestep_sampling_params", {"min_value": 0.1}),
    "max_timestep": (900, "flow_matching.timestep_sampling_params", {"max_value": 0.9}),
    "mixed_precision": ("no", "acceleration.mixed_precision_mode", "no"),
    "fp8_base": (True, "acceleration.quantization", "fp8"),
    "fp8_scaled": (True, "acceleration.quantization", "fp8"),
    "nf4_base": (True, "acceleration.quantization", "nf4"),
    "int8_base": (True, "acceleration.quantization", "int8"),
    "int8_base_dynamic": (True, "acceleration.quantization", "int8"),
    "int8_convrot_base": (True, "acceleration.quantization", "int8"),
    "int8_convrot_dynamic": (True, "acceleration.quantization", "int8"),
    "blocks_to_swap": (10, "acceleration.offload_blocks", 10),
    "compile": (True, "acceleration.compile", True),
    "max_data_loader_n_workers": (4, "data.num_dataloader_workers", 4),
    "sample_every_n_steps": (200, "validation.interval", 200),
    "sample_at_first": (True, "validation.skip_initial_validation", False),
    "width": (96, "validation.video_dims", [96, 512, 121]),
    "height": (96, "validation.video_dims", [768, 96, 121]),
    "sample_num_frames": (9, "validation.video_dims", [768, 512, 9]),
    "video_cfg_scale": (4.0, "validation.video_cfg_scale", 4.0),
    "audio_cfg_scale": (5.0, "validation.audio_cfg_scale", 5.0),
    "video_modality_scale": (2.0, "validation.video_modality_guidance_scale", 2.0),
    "audio_modality_scale": (2.0, "validation.audio_modality_guidance_scale", 2.0),
    "stg_scale": (0.5, "validation.video_stg_scale", 0.5),
    "rescale_scale": (0.9, "validation.guidance_rescale", 0.9),
    "sample_tiled_vae": (True, "acceleration.vae_tiling", True),
    "output_dir": ("out", "output_dir", "out"),
    "output_name": ("dog", "output_dir", "dog"),
    "save_every_n_steps": (500, "checkpoints.interval", 500),
    "save_precision": ("fp32", "checkpoints.precision", "float32"),
    "huggingface_repo_id": ("me/lora", "hub.hub_model_id", "me/lora"),
    "log_with": ("wandb", "wandb.enabled", True),
    "log_tracker_name": ("dogs", "wandb.project", "dogs"),
}
"""Arguments with a value, and the key of the run file with the value that it then has."""

DATASET: dict[str, tuple[Any, str, Any]] = {
    "video_directory": ("dogs", "data.dataset", "dogs"),
    "resolution": (96, "preprocessing.resolution_buckets", "96x96x17"),
    "target_frames": ([1, 9], "preprocessing.resolution_buckets", "64x64x1;64x64x9"),
    "frame_extraction": ("full", "preprocessing.resolution_buckets", "64x64x129"),
    "enable_bucket": (True, "preprocessing.resolution_buckets", "64x96x17;64x64x17;96x64x17"),
    "batch_size": (4, "optimization.batch_size", 4),
}
"""The same of the dataset's settings."""

TOGETHER = {
    "dit": "test_other_models_are_said",
    "independent_audio_timestep": "test_video_and_audio_have_the_same_noise_unless_it_is_independent",
    "max_train_epochs": "test_passes_are_not_steps",
    "lr_scheduler_num_cycles": "test_schedules",
    "lr_scheduler_power": "test_schedules",
    "gradient_checkpointing_cpu_offload": "test_activations_are_offloaded_where_there_is_checkpointing",
    "ema_decay": "test_the_average_of_the_weights",
    "ema_update_every": "test_the_average_of_the_weights",
    "ema_cpu_offload": "test_the_average_of_the_weights",
    "huber_delta": "test_what_is_learned",
    "audio_loss_weight": "test_what_is_learned",
    "dop": "test_what_is_learned",
    "dop_args": "test_what_is_learned",
    "blank_preservation": "test_what_is_learned",
    "blank_preservation_args": "test_what_is_learned",
    "video_caption_dropout_rate": "test_captions_are_dropped_by_modality",
    "audio_caption_dropout_rate": "test_captions_are_dropped_by_modality",
    "sigmoid_scale": "test_noise",
    "shifted_logit_shift": "test_noise",
    "shifted_logit_eps": "test_noise",
    "shifted_logit_uniform_prob": "test_noise",
    "sample_prompts": "test_prompts_are_read_from_their_file",
    "save_last_n_steps": "test_checkpoints_are_kept_by_their_number",
    "config_file": "test_a_command_may_name_a_file_of_arguments",
    "dataset_config": "test_a_dataset_that_is_not_there_is_named",
    "datasets.num_repeats": "test_several_sets_are_kept_with_their_repeats",
    "dataset_config.general": "test_settings_of_all_sets_are_those_of_the_first_too",
    "dataset_config.datasets": "test_several_sets_are_kept_with_their_repeats",
    "dataset_config.validation_datasets": "test_several_sets_are_kept_with_their_repeats",
    "datasets.video_jsonl_file": "test_a_dataset_may_be_any_of_its_kinds",
    "datasets.image_directory": "test_a_dataset_may_be_any_of_its_kinds",
    "datasets.image_jsonl_file": "test_a_dataset_may_be_any_of_its_kinds",
    "datasets.audio_directory": "test_a_dataset_may_be_any_of_its_kinds",
    "datasets.audio_jsonl_file": "test_a_dataset_may_be_any_of_its_kinds",
    "datasets.max_frames": "test_whole_clips_are_cut_to_the_most_frames",
    "datasets.frame_stride": "test_parts_of_clips_become_windows",
    "datasets.frame_sample": "test_parts_of_clips_become_windows",
}
"""Settings that mean something only beside others, and their tests."""


def test_the_table_of_settings_is_up_to_date() -> None:
    assert table(RULES) == TABLE.read_text()


def test_every_setting_that_is_kept_is_tested() -> None:
    tested = KEPT.keys() | {f"datasets.{name}" for name in DATASET} | TOGETHER.keys()
    assert {name for name, rule in RULES.items() if isinstance(rule, Kept)} == tested
    assert set(TOGETHER.values()) <= set(globals())


@pytest.mark.parametrize("setting", KEPT)
def test_an_argument_is_kept(setting: str, tmp_path: Path) -> None:
    value, key, written = KEPT[setting]
    found = at(values(musubi(tmp_path, {setting: value}), start=tmp_path), key)
    assert found == written
    assert at(values(musubi(tmp_path), start=tmp_path), key) != found


@pytest.mark.parametrize("setting", DATASET)
def test_a_setting_of_the_dataset_is_kept(setting: str, tmp_path: Path) -> None:
    value, key, written = DATASET[setting]
    found = at(values(musubi(tmp_path, None, {setting: value}), start=tmp_path), key)
    assert found == written
    assert at(values(musubi(tmp_path), start=tmp_path), key) != found


def test_a_setting_that_is_not_kept_is_named_with_the_reason(tmp_path: Path) -> None:
    arguments = {name: "strange" for name in left(RULES) if "." not in name}
    dataset = {name.removeprefix("datasets."): "strange" for name in left(RULES) if name.startswith("datasets.")}
    assert_named(converted(musubi(tmp_path, arguments, dataset), start=tmp_path), RULES)


def test_a_setting_that_does_nothing_is_not_told(tmp_path: Path) -> None:
    idle = {name: rule.idle[0] for name, rule in left(RULES).items() if rule.idle and rule.idle is not ANY}
    arguments = {name: value for name, value in idle.items() if "." not in name}
    dataset = {name.removeprefix("datasets."): value for name, value in idle.items() if name.startswith("datasets.")}
    assert remarks(musubi(tmp_path, arguments, dataset), start=tmp_path) == []


def test_a_password_is_never_shown(tmp_path: Path) -> None:
    done = converted(musubi(tmp_path, {"wandb_api_key": "my-own-key", "huggingface_token": "my-token"}), start=tmp_path)
    assert "my-own-key" not in done.text + "".join(done.remarks)
    assert "my-token" not in done.text + "".join(done.remarks)


def test_what_matters_and_is_not_in_the_file_is_written_with_a_comment(tmp_path: Path) -> None:
    text = converted(musubi(tmp_path, {"network_dim": None, "network_alpha": None}), start=tmp_path).text
    said = "# Not in the old file: this was the default of musubi-tuner, and ltx has a different one.\n"
    for line in ("learning_rate = 2e-06", "rank = 4", "alpha = 1", "steps = 1600", 'scheduler_type = "constant"'):
        assert f"{said}{line}\n" in text


# ---- commands


COMMAND = """#!/bin/bash
# caches first
python ltx2_cache_latents.py --dataset_config data.toml --ltx2_checkpoint other.safetensors

accelerate launch --num_cpu_threads_per_process 1 --mixed_precision bf16 src/musubi_tuner/ltx2_train_network.py \\
  --dataset_config data.toml --ltx2_checkpoint="my models/ltx.safetensors" \\
  --ltx2_mode av --gradient_checkpointing \\
  --network_dim 32 --network_alpha 32 --optimizer_args weight_decay=0.02 betas=0.9,0.95 \\
  --noise_thing 3 \\
  --learning_rate 1e-4
"""


def test_a_command_is_read_in_any_shell(tmp_path: Path) -> None:
    musubi(tmp_path)
    found = values(COMMAND, start=tmp_path)
    assert found["model"] == {"model_path": "my models/ltx.safetensors"}
    assert found["lora"] == {"rank": 32, "alpha": 32}
    assert found["optimization"]["learning_rate"] == 1e-4
    assert found["optimization"]["optimizer_params"] == {"betas": [0.9, 0.95]}
    assert found["optimization"]["enable_gradient_checkpointing"] is True
    assert remarks(COMMAND, start=tmp_path) == [
        "line 9 of the old file: noise_thing = 3 is not converted: ltx knows no such setting of musubi-tuner."
    ]
    for mark in ("^", "`"):
        other = COMMAND.replace("\\\n", f"{mark}\n").replace("# caches", "REM caches").replace("\n", "\r\n")
        assert values(other, start=tmp_path) == found
        assert remarks(other, start=tmp_path) == remarks(COMMAND, start=tmp_path)
    module = COMMAND.replace("src/musubi_tuner/ltx2_train_network.py", "--module musubi_tuner.ltx2_train_network").replace(
        "accelerate launch", "accelerate"
    )
    assert values(module, start=tmp_path) == found


@pytest.mark.parametrize("end", ["2>&1 | tee log.txt", "> log.txt", ">> log.txt", "&", "; echo done", "&& echo done", "&> log.txt"])
def test_a_command_ends_where_the_shell_ends_it(end: str, tmp_path: Path) -> None:
    musubi(tmp_path)
    text = f"cd there; python ltx2_train_network.py --dataset_config data.toml --network_dim 24 {end}\n"
    assert values(text, start=tmp_path)["lora"]["rank"] == 24
    assert not [remark for remark in remarks(text, start=tmp_path) if "log" in remark or "echo" in remark]


def test_quotation_marks_may_span_lines(tmp_path: Path) -> None:
    musubi(tmp_path)
    text = 'python ltx2_train_network.py --training_comment "a; \\\nb | c" \\\n --network_dim 24\n'
    assert values(text, start=tmp_path)["lora"]["rank"] == 24
    assert any('line 1 of the old file: training_comment = "a; b | c" is not kept' in each for each in remarks(text, start=tmp_path))


def test_a_command_may_name_a_file_of_arguments(tmp_path: Path) -> None:
    (tmp_path / "args.toml").write_text(musubi(tmp_path, {"learning_rate": 1e-3, "seed": 5, "strange": 1}))
    text = "python ltx2_train_network.py --config_file args --learning_rate 1e-4\n"
    found = values(text, start=tmp_path)
    assert (found["seed"], found["optimization"]["learning_rate"]) == (5, 1e-4)
    assert any("of old.txt or args.toml: strange = 1 is not converted" in remark for remark in remarks(text, start=tmp_path))
    assert remarks(text.replace("args", "none"), start=tmp_path)[0] == (
        'line 1 of the old file: config_file = "none" does not exist: only the arguments of the command were converted. Run `ltx convert` where that file is.'
    )


def test_tables_only_group_arguments(tmp_path: Path) -> None:
    text = musubi(tmp_path, {"seed": 3})
    assert values(f"[any]\n{text}", start=tmp_path) == values(text, start=tmp_path)


def test_other_models_are_said(tmp_path: Path) -> None:
    text = musubi(tmp_path, {"ltx2_checkpoint": None, "dit": "wan.safetensors"})
    assert any('dit = "wan.safetensors" is a model other than LTX-2' in remark for remark in remarks(text, start=tmp_path))
    command = "python wan_train_network.py --dit wan.safetensors --dataset_config data.toml --task t2v-14B\n"
    told = remarks(command, start=tmp_path)
    assert any("wan_train_network trains a model other than LTX-2" in remark for remark in told)
    assert any('task = "t2v-14B" is not converted' in remark for remark in told)
    assert values(command, start=tmp_path)["data"]["dataset"] == "clips"


def test_a_script_that_trains_all_weights_has_no_adapters(tmp_path: Path) -> None:
    musubi(tmp_path)
    found = values("python ltx2_train.py --dataset_config data.toml --ltx2_checkpoint a.safetensors\n", start=tmp_path)
    assert found["model"]["training_mode"] == "full"
    assert "lora" not in found


# ---- groups of arguments


def test_video_and_audio_have_the_same_noise_unless_it_is_independent(tmp_path: Path) -> None:
    assert at(values(musubi(tmp_path, {"ltx2_mode": "av"}), start=tmp_path), "flow_matching.shared_sigma") is True
    found = values(musubi(tmp_path, {"ltx2_mode": "av", "independent_audio_timestep": True}), start=tmp_path)
    assert at(found, "flow_matching.shared_sigma") is None


def test_passes_are_not_steps(tmp_path: Path) -> None:
    text = musubi(tmp_path, {"max_train_epochs": 16})
    assert any("max_train_epochs = 16 is not kept: a run is counted in steps" in remark for remark in remarks(text, start=tmp_path))


@pytest.mark.parametrize(
    ("arguments", "params"),
    [
        ({"lr_scheduler": "cosine_with_restarts", "lr_scheduler_num_cycles": 4}, {"T_0": 400, "eta_min": 0.0}),
        ({"lr_scheduler": "polynomial", "lr_scheduler_power": 2.0}, {"power": 2.0}),
        ({"lr_scheduler": "constant_with_warmup", "lr_warmup_steps": "5%"}, None),
    ],
    ids=range(3),
)
def test_schedules(arguments: dict[str, Any], params: Any, tmp_path: Path) -> None:
    found = values(musubi(tmp_path, arguments), start=tmp_path)["optimization"]
    assert found.get("scheduler_params") == params
    assert found.get("warmup_steps") == (0.05 if "lr_warmup_steps" in arguments else None)


def test_the_average_of_the_weights(tmp_path: Path) -> None:
    average = {"ema_decay": 0.99, "ema_update_every": 5, "ema_cpu_offload": True}
    assert values(musubi(tmp_path, {"use_ema": True, **average}), start=tmp_path)["ema"] == {"decay": 0.99, "every": 5, "device": "cpu"}
    assert "ema" not in values(musubi(tmp_path, average), start=tmp_path)


@pytest.mark.parametrize("checkpointing", [True, False])
def test_activations_are_offloaded_where_there_is_checkpointing(checkpointing: bool, tmp_path: Path) -> None:
    old = {"ltx2_mode": "av", "gradient_checkpointing": checkpointing, "gradient_checkpointing_cpu_offload": True}
    found = values(musubi(tmp_path, old), start=tmp_path)
    assert found.get("acceleration", {}).get("offload_activations", False) is checkpointing


def test_what_is_learned(tmp_path: Path) -> None:
    learned = {
        "ltx2_mode": "av",
        "loss_type": "huber",
        "huber_delta": 0.5,
        "audio_loss_weight": 0.3,
        "dop": True,
        "dop_args": ["class=red, round disc", "multiplier=0.5", "mode=fixed"],
        "blank_preservation": True,
        "blank_preservation_args": ["multiplier=0.1"],
    }
    text = musubi(tmp_path, learned)
    assert values(text, start=tmp_path)["objectives"] == [
        {"type": "flow_matching", "error": "huber", "delta": 0.5, "weight": {"video": 1.0, "audio": 0.3}},
        {"type": "preservation", "prompt": "red, round disc", "weight": 0.5},
        {"type": "preservation", "prompt": "empty", "weight": 0.1},
    ]
    assert any("dop_args: mode is not kept" in remark for remark in remarks(text, start=tmp_path))


@pytest.mark.parametrize("arguments", [["betas=(0.9, 0.95)", "eps=1e-6"], "eps=1e-6 betas=0.9,0.95", "betas=[0.9, 0.95] eps=1e-6"])
def test_values_of_parameters_may_hold_spaces(arguments: Any, tmp_path: Path) -> None:
    found = values(musubi(tmp_path, {"optimizer_args": arguments}), start=tmp_path)
    assert found["optimization"]["optimizer_params"] == {"betas": [0.9, 0.95], "eps": 1e-6}


def test_captions_are_dropped_by_modality(tmp_path: Path) -> None:
    rates = {"ltx2_mode": "av", "caption_dropout_rate": 0.1, "audio_caption_dropout_rate": 0.2, "video_caption_dropout_rate": 0.0}
    assert at(values(musubi(tmp_path, rates), start=tmp_path), "data.caption_dropout") == {"video": 0.1, "audio": 0.28}


@pytest.mark.parametrize(
    ("arguments", "written"),
    [
        ({}, {"timestep_sampling_mode": "uniform"}),
        ({"timestep_sampling": "sigmoid", "sigmoid_scale": 1.5}, {"shift": 1.0, "uniform_prob": 0.0, "std": 1.5}),
        ({"timestep_sampling": "shift", "discrete_flow_shift": 3.0}, {"shift": 3.0, "uniform_prob": 0.0}),
        (
            {
                "timestep_sampling": "shifted_logit_normal",
                "shifted_logit_shift": 2.0,
                "shifted_logit_eps": 0.01,
                "shifted_logit_uniform_prob": 0.2,
            },
            {"shift": 2.0, "eps": 0.01, "uniform_prob": 0.2},
        ),
        ({"timestep_sampling": "logsnr", "discrete_flow_shift": 3.0}, {"timestep_sampling_mode": "uniform"}),
    ],
    ids=range(5),
)
def test_noise(arguments: dict[str, Any], written: dict[str, Any], tmp_path: Path) -> None:
    found = values(musubi(tmp_path, arguments), start=tmp_path)["flow_matching"]
    expected = (
        written
        if "timestep_sampling_mode" in written
        else {"timestep_sampling_mode": "shifted_logit_normal", "timestep_sampling_params": written}
    )
    assert found == expected


@pytest.mark.parametrize(
    ("preset", "mode", "modules"),
    [
        ("video_sa", "video", ["attn1.to_k", "attn1.to_q", "attn1.to_v", "attn1.to_out.0"]),
        ("v2v", "video", ["to_k", "to_q", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"]),
        ("v2v", "audio", ["to_k", "to_q", "to_v", "to_out.0", "audio_ff.net.0.proj", "audio_ff.net.2"]),
        ("audio", "video", "auto"),
        ("full", "av", "auto"),
    ],
)
def test_modules_are_chosen_by_preset_among_those_of_the_run(preset: str, mode: str, modules: Any, tmp_path: Path) -> None:
    found = values(musubi(tmp_path, {"lora_target_preset": preset, "ltx2_mode": mode}), start=tmp_path)
    assert at(found, "lora.target_modules") == modules


def test_parameters_of_an_adapter_that_ltx_does_not_have_are_named(tmp_path: Path) -> None:
    text = musubi(tmp_path, {"network_module": "lycoris.kohya", "network_args": ["algo=lokr", "factor=8", "conv_dim=4"]})
    assert values(text, start=tmp_path)["lora"] == {"type": "lokr", "rank": 16, "alpha": 16, "params": {"factor": 8}}
    assert [remark for remark in remarks(text, start=tmp_path) if "conv_dim" in remark]


@pytest.mark.parametrize(
    ("rank", "alpha", "written"),
    [(32, 20_000, (32, 20_000)), (10**9, 10**9, (16_384, 16_384)), (32_768, 1000, (16_384, 500)), (10**9, 1, (16_384, 1))],
)
def test_alpha_keeps_its_ratio_to_the_rank(rank: int, alpha: int, written: tuple[int, int], tmp_path: Path) -> None:
    found = values(musubi(tmp_path, {"network_dim": rank, "network_alpha": alpha}), start=tmp_path)["lora"]
    assert (found["rank"], found["alpha"]) == written


def test_prompts_are_read_from_their_file(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text(
        "# mine\na dog -- of mine --w 96 --h 64 --f 17 --d 3 --s 20 --l 4 --n ugly\n\na cat --i cat.png --l 5 --fs 3\n"
    )
    text = musubi(tmp_path, {"sample_prompts": "prompts.txt", "width": 64, "height": 64, "sample_num_frames": 9})
    found = values(text, start=tmp_path)["validation"]
    assert found["samples"] == [
        {"prompt": "a dog -- of mine", "video_dims": [96, 64, 17], "seed": 3},
        {"prompt": "a cat", "conditions": [{"type": "first_frame", "image_or_video": "cat.png"}]},
    ]
    assert (found["inference_steps"], found["video_cfg_scale"], found["negative_prompt"]) == (20, 4.0, "ugly")
    assert remarks(text, start=tmp_path) == [
        "line 4 of prompts.txt: --l 5 is not kept: all samples have the value of the first.",
        "line 4 of prompts.txt: --fs 3 is not kept: a sample has no such setting.",
    ]
    (tmp_path / "prompts.txt").write_text("a dog --w wide\n")
    assert "prompts.txt:1: an option of a prompt: must be a number" in refused(text, start=tmp_path)
    (tmp_path / "prompts.txt").write_text("a dog --l 4\na cat --g 5\na fox --s many\n")
    assert "prompts.txt:3: an option of a prompt: must be a whole number" in refused(text, start=tmp_path)
    (tmp_path / "prompts.txt").write_text("a dog --l 4\na cat --g 5\n")
    assert remarks(text, start=tmp_path) == ["line 2 of prompts.txt: --g 5 is not kept: all samples have the value of the first."]


def test_what_belongs_to_a_setting_that_is_off_is_named_as_such(tmp_path: Path) -> None:
    given = {"dop_args": ["class=dog"], "blank_preservation_args": ["multiplier=2"], "huber_delta": 0.3}
    text = converted(musubi(tmp_path, given), start=tmp_path).text
    assert "# Not needed here, or switched off: huber_delta, dop_args, blank_preservation_args.\n" in text


def test_checkpoints_are_kept_by_their_number(tmp_path: Path) -> None:
    saved = {"save_every_n_steps": 100, "save_last_n_steps": 300}
    assert values(musubi(tmp_path, saved), start=tmp_path)["checkpoints"] == {"interval": 100, "keep_last_n": 4}
    assert values(musubi(tmp_path), start=tmp_path)["checkpoints"] == {"keep_last_n": -1}


# ---- the dataset


def test_a_dataset_that_is_not_there_is_named(tmp_path: Path) -> None:
    text = musubi(tmp_path, {"dataset_config": "none.toml"})
    assert 'dataset_config = "none.toml" does not exist: the dataset is unknown' in remarks(text, start=tmp_path)[0]


def test_settings_of_all_sets_are_those_of_the_first_too(tmp_path: Path) -> None:
    text = musubi(tmp_path)
    (tmp_path / "data.toml").write_text(
        '[general]\nresolution = [96, 64]\nbatch_size = 3\n[[datasets]]\nvideo_directory = "clips"\ntarget_frames = [9]\n'
    )
    found = values(text, start=tmp_path)
    assert found["preprocessing"]["resolution_buckets"] == "96x64x9"
    assert found["optimization"]["batch_size"] == 3


def test_several_sets_are_kept_with_their_repeats(tmp_path: Path) -> None:
    text = musubi(tmp_path)
    sets = (
        '[general]\nnum_repeats = 2\n[[datasets]]\nvideo_directory = "a"\n[[datasets]]\nimage_directory = "b"\nnum_repeats = 5\n'
        '[[validation_datasets]]\nvideo_directory = "c"\n'
    )
    (tmp_path / "data.toml").write_text(sets)
    assert values(text, start=tmp_path)["data"]["sets"] == [{"dataset": "a", "repeats": 2}, {"dataset": "b", "repeats": 5}]
    told = remarks(text, start=tmp_path)
    assert [remark.partition(" is not kept")[0] for remark in told] == ["line 8 of data.toml: validation_datasets[0]"]


@pytest.mark.parametrize("key", ["video_jsonl_file", "image_directory", "image_jsonl_file", "audio_directory", "audio_jsonl_file"])
def test_a_dataset_may_be_any_of_its_kinds(key: str, tmp_path: Path) -> None:
    mode = {"ltx2_mode": "audio"} if key.startswith("audio") else {}
    text = musubi(tmp_path, mode)
    (tmp_path / "data.toml").write_text(f'[[datasets]]\n{key} = "mine"\nresolution = 64\n')
    found = values(text, start=tmp_path)
    assert found["data"]["dataset"] == "mine"
    assert ("resolution_buckets" in found.get("preprocessing", {})) == (not mode)
    assert remarks(text, start=tmp_path) == []


def test_frames_that_the_model_does_not_take_are_rounded(tmp_path: Path) -> None:
    text = musubi(tmp_path, None, {"target_frames": [1, 25, 45]})
    assert values(text, start=tmp_path)["preprocessing"]["resolution_buckets"] == "64x64x1;64x64x25;64x64x41"
    said = "target_frames = [1, 25, 45] is written as [1, 25, 41]: LTX-2 takes multiples of 8 frames plus 1."
    assert [remark for remark in remarks(text, start=tmp_path) if remark.endswith(said)]


def test_a_side_that_no_clip_has_is_refused(tmp_path: Path) -> None:
    text = musubi(tmp_path, None, {"resolution": [-768, 500], "enable_bucket": True})
    assert "resolution: must be from 1 to 16384 pixels, not -768" in refused(text, start=tmp_path)


def test_whole_clips_are_cut_to_the_most_frames(tmp_path: Path) -> None:
    text = musubi(tmp_path, None, {"frame_extraction": "full", "max_frames": 30})
    assert values(text, start=tmp_path)["preprocessing"]["resolution_buckets"] == "64x64x25"
    text = musubi(tmp_path, None, {"frame_extraction": "backwards"})
    assert any('frame_extraction = "backwards" is not kept' in remark for remark in remarks(text, start=tmp_path))


@pytest.mark.parametrize(
    ("given", "windows"),
    [
        ({"frame_extraction": "uniform", "frame_sample": 4}, "uniform:4"),
        ({"frame_extraction": "slide", "frame_stride": 10}, "stride:10"),
        ({"frame_extraction": "slide", "frame_sample": 4}, "stride:1"),
        ({"frame_extraction": "chunk", "target_frames": [9, 25]}, "stride:25"),
    ],
)
def test_parts_of_clips_become_windows(tmp_path: Path, given: dict[str, Any], windows: str) -> None:
    assert values(musubi(tmp_path, None, given), start=tmp_path)["preprocessing"]["windows"] == windows
    head = musubi(tmp_path, None, {**given, "frame_extraction": "head"})
    assert "windows" not in values(head, start=tmp_path)["preprocessing"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("python ltx2_train_network.py stray --dataset_config data.toml\n", '"stray" belongs to no argument'),
        (
            "python ltx2_train_network.py --dataset_config data.toml --learning_rate fast\n",
            'learning_rate: must be a number, not the text "fast"',
        ),
        ("python ltx2_train_network.py --dataset_config empty.toml\n", "empty.toml: is empty"),
        ("python ltx2_train_network.py --dataset_config bad.toml\n", "bad.toml:1: is not TOML"),
        ('python ltx2_train_network.py --dop --dop_args "multiplier=high"\n', 'dop_args: multiplier must be a number, not "high"'),
        ("python ltx2_train_network.py --dop --dop_args multiplier=1,2\n", "dop_args: multiplier must be a number, not [1, 2]"),
        ("python ltx2_train_network.py \\\n --training_comment it's \\\n --seed 3\n", "old.txt:2: has a quotation mark that is not closed"),
        ("python ltx2_train_network.py --gradient_checkpointing maybe\n", "gradient_checkpointing: must be true or false"),
        ("python ltx2_train_network.py --ltx2_mode vdeo\n", 'ltx2_mode: must be "v" or "a" or "va" or "video" or "audio" or "av", not'),
        ("python ltx2_train_network.py --optimizer_args decay\n", 'optimizer_args: must be texts of the form "name=value", not "decay"'),
    ],
    ids=range(10),
)
def test_what_is_broken_is_refused_with_the_place(text: str, said: str, tmp_path: Path) -> None:
    musubi(tmp_path)
    (tmp_path / "empty.toml").touch()
    (tmp_path / "bad.toml").write_text("a b\n")
    assert said in refused(text, start=tmp_path)


def test_the_run_file_passes_the_check(tmp_path: Path) -> None:
    shutil.copy(TINY_BASE, tmp_path / "ltx.safetensors")
    clips(tmp_path / "clips")
    sampled = {"width": 64, "height": 64, "sample_num_frames": 17, "lora_target_preset": "v2v", "timestep_sampling": "shifted_logit_normal"}
    learned = {
        "dop": True,
        "dop_args": ["class=dog"],
        "use_ema": True,
        "lr_scheduler": "linear",
        "lr_warmup_steps": "5%",
        "int8_base": True,
    }
    text = musubi(tmp_path, {"ltx2_mode": "av", "caption_dropout_rate": 0.1, **sampled, **learned}, {"enable_bucket": True})
    (tmp_path / "run.toml").write_text(converted(text, start=tmp_path).text)
    status, _, said = run_ltx(tmp_path, "check", "run.toml")
    assert (status, said) == (0, "")
