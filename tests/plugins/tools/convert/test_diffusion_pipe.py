"""A configuration of diffusion-pipe and its dataset become a run file."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from helpers.other_trainers import assert_named, at, clips, converted, left, pipe, refused, remarks, table, values
from helpers.running import run_ltx
from ltxcore.models import TINY_BASE
from ltxplugins.tools.convert.diffusion_pipe_rules import RULES
from ltxplugins.tools.convert.settings import ANY, Kept

TABLE = Path(__file__).parent / "settings_of_diffusion_pipe.txt"

MODE = "flow_matching.timestep_sampling_mode"
PARAMS = "flow_matching.timestep_sampling_params"
BUCKETS = "preprocessing.resolution_buckets"

KEPT: dict[str, tuple[Any, str, Any]] = {
    "output_dir": ("/out", "output_dir", "/out"),
    "max_steps": (500, "optimization.steps", 500),
    "micro_batch_size_per_gpu": (4, "optimization.batch_size", 4),
    "gradient_accumulation_steps": (4, "optimization.gradient_accumulation_steps", 4),
    "gradient_clipping": (0.5, "optimization.max_grad_norm", 0.5),
    "warmup_steps": (100, "optimization.warmup_steps", 100),
    "lr_scheduler": ("linear", "optimization.scheduler_params", {"end_factor": 0.0}),
    "force_constant_lr": (1e-6, "optimization.learning_rate", 1e-6),
    "activation_checkpointing": ("unsloth", "optimization.enable_gradient_checkpointing", True),
    "pseudo_huber_c": (0.5, "objectives", [{"type": "flow_matching", "error": "huber", "delta": 0.5}]),
    "blocks_to_swap": (20, "acceleration.offload_blocks", 20),
    "compile": (True, "acceleration.compile", True),
    "save_dtype": ("float32", "checkpoints.precision", "float32"),
    "save_every_n_steps": (200, "checkpoints.interval", 200),
    "huggingface_repo": ("me/lora", "hub.hub_model_id", "me/lora"),
    "model.diffusion_model": ("/models/ltx.safetensors", "model.model_path", "/models/ltx.safetensors"),
    "model.text_encoder": ("gemma.safetensors", "model.text_encoder_path", "gemma.safetensors"),
    "model.dtype": ("float32", "acceleration.mixed_precision_mode", "no"),
    "model.diffusion_model_dtype": ("float8", "acceleration.quantization", "fp8"),
    "model.transformer_dtype": ("float8_e5m2", "acceleration.quantization", "fp8"),
    "model.timestep_sample_method": ("uniform", MODE, "uniform"),
    "model.sigmoid_scale": (1.5, PARAMS, {"shift": 1.0, "uniform_prob": 0.0, "std": 1.5}),
    "model.shift": (3, PARAMS, {"shift": 3.0, "uniform_prob": 0.0}),
    "adapter.type": ("lokr", "lora.type", "lokr"),
    "adapter.rank": (24, "lora.rank", 24),
    "adapter.alpha": (8, "lora.alpha", 8),
    "adapter.dropout": (0.1, "lora.dropout", 0.1),
    "adapter.init_from_existing": ("epoch50", "model.load_checkpoint", "epoch50"),
    "optimizer.type": ("Prodigy", "optimization.optimizer_type", "prodigy"),
    "optimizer.lr": (1e-4, "optimization.learning_rate", 1e-4),
    "monitoring.enable_wandb": (True, "wandb.enabled", True),
    "monitoring.wandb_tracker_name": ("dogs", "wandb.project", "dogs"),
    "dataset.resolutions": ([[96, 64]], BUCKETS, "64x64x17"),
    "dataset.frame_buckets": ([1, 9], BUCKETS, "64x64x1;64x64x9"),
    "dataset.size_buckets": ([[96, 70, 10]], BUCKETS, "96x64x9"),
    "dataset.enable_ar_bucket": (True, BUCKETS, "32x96x17;64x96x17;64x64x17;96x64x17;96x32x17"),
    "dataset.ar_buckets": ([2.0], BUCKETS, "96x32x17"),
    "directory.path": ("dogs", "data.dataset", "dogs"),
    "directory.caption_prefix": ("sks, ", "preprocessing.lora_trigger", "sks,"),
    "directory.resolutions": ([128], BUCKETS, "128x128x17"),
    "directory.frame_buckets": ([9], BUCKETS, "64x64x9"),
    "directory.size_buckets": ([[64, 96, 9]], BUCKETS, "64x96x9"),
    "directory.enable_ar_bucket": (True, BUCKETS, "32x96x17;64x96x17;64x64x17;96x64x17;96x32x17"),
    "directory.ar_buckets": ([[96, 32]], BUCKETS, "96x32x17"),
}
"""Settings with a value, and the key of the run file with the value that it then has."""

RANGE = "test_shapes_are_spaced_evenly_by_their_ratios"
TOGETHER = {
    "dataset": "test_a_dataset_that_is_not_there_is_named",
    "directory.num_repeats": "test_several_directories_are_kept_with_their_repeats_and_prefixes",
    "dataset.directory": "test_several_directories_are_kept_with_their_repeats_and_prefixes",
    "epochs": "test_passes_are_not_steps",
    "model.type": "test_another_model_is_said",
    "adapter.decompose_factor": "test_lokr_keeps_its_factor",
    **{f"{place}.{name}": RANGE for place in ("dataset", "directory") for name in ("min_ar", "max_ar", "num_ar_buckets")},
    **dict.fromkeys(("model", "adapter", "optimizer", "monitoring"), "test_a_setting_is_kept"),
}
"""Settings that mean something only beside others, and their tests."""


def test_the_table_of_settings_is_up_to_date() -> None:
    assert table(RULES) == TABLE.read_text()


def test_every_setting_that_is_kept_is_tested() -> None:
    assert {name for name, rule in RULES.items() if isinstance(rule, Kept)} == KEPT.keys() | TOGETHER.keys()
    assert set(TOGETHER.values()) <= set(globals())


@pytest.mark.parametrize("setting", KEPT)
def test_a_setting_is_kept(setting: str, tmp_path: Path) -> None:
    value, key, written = KEPT[setting]
    found = at(values(pipe(tmp_path, {setting: value}), start=tmp_path), key)
    assert found == written
    plain = at(values(pipe(tmp_path), start=tmp_path), key)
    assert plain != found or setting in ("dataset.resolutions", "directory.resolutions")


def test_a_setting_that_is_not_kept_is_named_with_the_reason(tmp_path: Path) -> None:
    strange = dict.fromkeys(left(RULES), "strange")
    assert_named(converted(pipe(tmp_path, strange), start=tmp_path), RULES)


def test_a_setting_that_does_nothing_is_not_told(tmp_path: Path) -> None:
    idle = {name: rule.idle[0] for name, rule in left(RULES).items() if rule.idle and rule.idle is not ANY}
    assert remarks(pipe(tmp_path, idle), start=tmp_path) == []


def test_a_password_is_never_shown(tmp_path: Path) -> None:
    done = converted(pipe(tmp_path, {"monitoring.wandb_api_key": "my-own-key"}), start=tmp_path)
    assert "my-own-key" not in done.text + "".join(done.remarks)


def test_a_small_configuration_becomes_a_short_run_file(tmp_path: Path) -> None:
    said = "# Not in the old file: this was the default of diffusion-pipe, and ltx has a different one.\n"
    assert converted(pipe(tmp_path), start=tmp_path).text == (
        "# Made by `ltx convert` from old.txt, a configuration of diffusion-pipe.\n"
        'output_dir = "runs"\n'
        "\n"
        "[model]\n"
        'model_path = "ltx.safetensors"\n'
        "\n"
        "[lora]\n"
        "rank = 16\n"
        "\n"
        "[training_strategy]\n"
        'name = "flexible"\n'
        "\n"
        "[training_strategy.video]\n"
        "is_generated = true\n"
        'latents_dir = "latents"\n'
        "\n"
        "[optimization]\n"
        "learning_rate = 2e-05\n"
        "steps = 100\n"
        "batch_size = 1\n"
        'optimizer_type = "adamw"\n'
        f'{said}scheduler_type = "constant"\n'
        "\n"
        "[acceleration]\n"
        'mixed_precision_mode = "bf16"\n'
        "\n"
        "[data]\n"
        'dataset = "clips"\n'
        "# held_out: ltx keeps 5 % of the samples, at least one and at most 32, to measure the loss on;\n"
        "# held_out = 0 trains on all samples, as diffusion-pipe did.\n"
        "\n"
        "[preprocessing]\n"
        'resolution_buckets = "64x64x17"\n'
        "\n"
        "[validation]\n"
        "# diffusion-pipe generates no samples; ltx does at the end, and at any interval that you set.\n"
        "interval = 0\n"
        "skip_initial_validation = true\n"
        "\n"
        "[checkpoints]\n"
        f"{said}keep_last_n = -1\n"
        "\n"
        "[flow_matching]\n"
        'timestep_sampling_mode = "shifted_logit_normal"\n'
        "timestep_sampling_params = { shift = 1.0, uniform_prob = 0.0 }\n"
    )


def test_another_model_is_said(tmp_path: Path) -> None:
    text = pipe(tmp_path, {"model.type": "wan", "model.ckpt_path": "wan"})
    told = remarks(text, start=tmp_path)
    assert any('model.type = "wan" is a model other than LTX-2' in remark for remark in told)
    assert any('model.ckpt_path = "wan" is not converted' in remark for remark in told)
    found = values(text, start=tmp_path)
    assert found["model"] == {}
    assert found["data"]["dataset"] == "clips"


def test_a_configuration_without_an_adapter_trains_all_weights(tmp_path: Path) -> None:
    text = pipe(tmp_path).replace('[adapter]\ntype = "lora"\nrank = 16\n', "")
    assert values(text, start=tmp_path)["model"]["training_mode"] == "full"


def test_passes_are_not_steps(tmp_path: Path) -> None:
    text = pipe(tmp_path, {"epochs": 1000, "max_steps": None})
    assert any("epochs = 1000 is not kept: a run is counted in steps" in remark for remark in remarks(text, start=tmp_path))
    assert remarks(pipe(tmp_path, {"epochs": 1000}), start=tmp_path) == []


def test_lokr_keeps_its_factor(tmp_path: Path) -> None:
    found = values(pipe(tmp_path, {"adapter.type": "lokr", "adapter.rank": 1e6, "adapter.decompose_factor": 4}), start=tmp_path)
    assert found["lora"] == {"type": "lokr", "rank": 16384, "params": {"factor": 4}}


def test_batches_by_resolution_become_the_smallest(tmp_path: Path) -> None:
    text = pipe(tmp_path, {"micro_batch_size_per_gpu": [[512, 4], [1024, 2]]})
    assert values(text, start=tmp_path)["optimization"]["batch_size"] == 2
    assert any("is written as 2: a run has one batch size" in remark for remark in remarks(text, start=tmp_path))


@pytest.mark.parametrize(
    ("optimizer", "ours"),
    [
        (
            {"type": "adamw_optimi", "betas": [0.9, 0.99], "eps": 1e-8},
            {"optimizer_type": "adamw", "optimizer_params": {"betas": [0.9, 0.99], "eps": 1e-8}},
        ),
        ({"type": "AdamW8bitKahan", "weight_decay": 0.1, "stabilize": False}, {"optimizer_type": "adamw8bit", "weight_decay": 0.1}),
        ({"type": "Prodigy", "d_coef": 2.0}, {"optimizer_type": "prodigy", "weight_decay": 0.0, "optimizer_params": {"d_coef": 2.0}}),
        ({"type": "CAME", "eps1": 1e-30}, {"optimizer_type": "pytorch_optimizer:CAME", "optimizer_params": {"eps1": 1e-30}}),
        ({"type": "stableadamw"}, {"optimizer_type": "optimi:StableAdamW"}),
    ],
    ids=range(5),
)
def test_optimizers(optimizer: dict[str, Any], ours: dict[str, Any], tmp_path: Path) -> None:
    found = values(pipe(tmp_path, {f"optimizer.{key}": value for key, value in optimizer.items()}), start=tmp_path)["optimization"]
    assert {key: found.get(key) for key in ours} == ours


# ---- the dataset


def test_a_dataset_that_is_not_there_is_named(tmp_path: Path) -> None:
    text = pipe(tmp_path, {"dataset": "none.toml"})
    assert remarks(text, start=tmp_path) == [
        'line 2 of the old file: dataset = "none.toml" does not exist: the dataset is unknown. Run `ltx convert` where that file is, or write the folder of the clips in '
        "data.dataset."
    ]


def test_a_dataset_beside_the_configuration_is_found_too(tmp_path: Path) -> None:
    text = pipe(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data.toml").rename(tmp_path / "elsewhere" / "data.toml")
    assert values(text, start=tmp_path, name="elsewhere/old.toml")["data"]["dataset"] == "clips"


def test_several_directories_are_kept_with_their_repeats_and_prefixes(tmp_path: Path) -> None:
    text = pipe(tmp_path)
    (tmp_path / "data.toml").write_text(
        'resolutions = [64]\n[[directory]]\npath = "clips"\ncaption_prefix = "a clip, "\n'
        '[[directory]]\npath = "more"\nnum_repeats = 2.6\n[[directory]]\npath = "few"\nnum_repeats = 0.1\nresolutions = [128]\n'
    )
    assert values(text, start=tmp_path)["data"]["sets"] == [
        {"dataset": "clips", "caption_prefix": "a clip,"},
        {"dataset": "more", "repeats": 3},
        {"dataset": "few"},
    ]
    assert remarks(text, start=tmp_path) == [
        "line 8 of data.toml: directory[2]: resolutions not kept: all sets are encoded and trained on as directory[0] is.",
        "line 7 of data.toml: directory[1].num_repeats = 2.6 is written as 3: repeats are whole numbers.",
        "line 10 of data.toml: directory[2].num_repeats = 0.1 is written as 1: repeats are whole numbers.",
    ]


def test_shapes_are_spaced_evenly_by_their_ratios(tmp_path: Path) -> None:
    shapes = {"resolutions": [512], "enable_ar_bucket": True, "min_ar": 0.25, "max_ar": 4.0, "num_ar_buckets": 3}
    for place in ("dataset", "directory"):
        found = values(pipe(tmp_path, {f"{place}.{name}": value for name, value in shapes.items()}), start=tmp_path)
        assert at(found, BUCKETS) == "256x1024x17;512x512x17;1024x256x17"
    narrow = {"dataset.enable_ar_bucket": True, "dataset.num_ar_buckets": 10**12}
    assert at(values(pipe(tmp_path, narrow), start=tmp_path), BUCKETS) == "32x96x17;64x96x17;64x64x17;96x64x17;96x32x17"
    assert (
        at(values(pipe(tmp_path, {"dataset.enable_ar_bucket": True, "dataset.num_ar_buckets": 1}), start=tmp_path), BUCKETS) == "64x64x17"
    )


def test_of_several_resolutions_the_largest_is_written(tmp_path: Path) -> None:
    text = pipe(tmp_path, {"dataset.resolutions": [64, 128], "dataset.frame_buckets": [1, 20]})
    assert at(values(text, start=tmp_path), BUCKETS) == "128x128x1;128x128x17"
    assert [remark.partition(": ")[2] for remark in remarks(text, start=tmp_path)] == [
        "resolutions = [64, 128] is written as the largest one: a clip is encoded once, in one size.",
        "frame_buckets = [1, 20] is written as [1, 17]: LTX-2 takes multiples of 8 frames plus 1.",
    ]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"optimizer.lr": "fast"}, 'optimizer.lr: must be a number, not the text "fast"'),
        ({"dataset.resolutions": "big"}, 'data.toml:1: resolutions: must be a list, not the text "big"'),
        ({"dataset.ar_buckets": [0.0]}, "ar_buckets: must be a ratio from 0.01 to 100, not 0"),
        ({"dataset.max_ar": 1e300}, "max_ar: must be a ratio from 0.01 to 100"),
        ({"dataset.resolutions": [1e200]}, "resolutions: must be from 1 to 16384 pixels"),
        ({"dataset.resolutions": [[-64, 64]]}, "resolutions: must be from 1 to 16384 pixels, not -64"),
        ({"micro_batch_size_per_gpu": [[1]]}, "micro_batch_size_per_gpu: must be a list of 2, not of 1"),
    ],
    ids=range(7),
)
def test_what_is_broken_is_refused_with_the_place(changed: dict[str, Any], said: str, tmp_path: Path) -> None:
    assert said in refused(pipe(tmp_path, changed), start=tmp_path)


def test_the_run_file_passes_the_check(tmp_path: Path) -> None:
    shutil.copy(TINY_BASE, tmp_path / "ltx.safetensors")
    clips(tmp_path / "clips")
    many = {
        "warmup_steps": 10,
        "lr_scheduler": "linear",
        "pseudo_huber_c": 0.5,
        "adapter.type": "lokr",
        "adapter.rank": 1e6,
        "dataset.enable_ar_bucket": True,
    }
    (tmp_path / "run.toml").write_text(converted(pipe(tmp_path, {**many, "dataset.frame_buckets": [1, 17]}), start=tmp_path).text)
    status, _, said = run_ltx(tmp_path, "check", "run.toml")
    assert (status, said) == (0, "")
