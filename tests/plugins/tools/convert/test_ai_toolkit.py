"""A job of ai-toolkit becomes a run file: each setting is kept as a key, or named as not kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.other_trainers import assert_named, at, clips, converted, job, left, refused, remarks, table, values
from helpers.running import run_ltx
from ltxcore.models import TINY_BASE
from ltxplugins.tools.convert.ai_toolkit_rules import RULES
from ltxplugins.tools.convert.settings import ANY, Kept

TABLE = Path(__file__).parent / "settings_of_ai_toolkit.txt"

CLASS = {"train.diff_output_preservation": True}

KEPT: dict[str, tuple[Any, str, Any]] = {
    "config.name": ("dog", "output_dir", "runs/dog"),
    "process.training_folder": ("out", "output_dir", "out/mine"),
    "process.trigger_word": ("sks", "preprocessing.lora_trigger", "sks"),
    "network.type": ("lokr", "lora.type", "lokr"),
    "network.linear": (24, "lora.rank", 24),
    "network.rank": (24, "lora.rank", 24),
    "network.linear_alpha": (8, "lora.alpha", 8),
    "network.dropout": (0.1, "lora.dropout", 0.1),
    "network.pretrained_lora_path": ("first.safetensors", "model.load_checkpoint", "first.safetensors"),
    "save.save_every": (250, "checkpoints.interval", 250),
    "save.max_step_saves_to_keep": (4, "checkpoints.keep_last_n", 4),
    "save.dtype": ("fp32", "checkpoints.precision", "float32"),
    "save.push_to_hub": (True, "hub.push_to_hub", True),
    "save.hf_repo_id": ("me/lora", "hub.hub_model_id", "me/lora"),
    "datasets.folder_path": ("dogs", "data.dataset", "dogs"),
    "datasets.caption_dropout_rate": (0.05, "data.caption_dropout", 0.05),
    "datasets.trigger_word": ("own", "preprocessing.lora_trigger", "own"),
    "datasets.resolution": ([96, 64], "preprocessing.resolution_buckets", "64x128x17;96x96x17;128x64x17"),
    "datasets.num_frames": (1, "preprocessing.resolution_buckets", "64x96x1;64x64x1;96x64x1"),
    "datasets.do_audio": (True, "training_strategy.audio.is_generated", True),
    "datasets.do_i2v": (False, "training_strategy.video.conditions", None),
    "datasets.num_workers": (4, "data.num_dataloader_workers", 4),
    "train.steps": (2000, "optimization.steps", 2000),
    "train.batch_size": (4, "optimization.batch_size", 4),
    "train.gradient_accumulation": (4, "optimization.gradient_accumulation_steps", 4),
    "train.gradient_accumulation_steps": (4, "optimization.gradient_accumulation_steps", 4),
    "train.lr": ("3e-4", "optimization.learning_rate", 3e-4),
    "train.optimizer": ("adamw8bit", "optimization.optimizer_type", "adamw8bit"),
    "train.optimizer_params": ({"weight_decay": 1e-4}, "optimization.weight_decay", 1e-4),
    "train.lr_scheduler": ("cosine", "optimization.scheduler_type", "cosine"),
    "train.lr_scheduler_params": ({"num_warmup_steps": 20}, "optimization.warmup_steps", 20),
    "train.max_grad_norm": (0.5, "optimization.max_grad_norm", 0.5),
    "train.gradient_checkpointing": (False, "optimization.enable_gradient_checkpointing", False),
    "train.dtype": ("float32", "acceleration.mixed_precision_mode", "no"),
    "train.ema_config": ({"use_ema": True, "ema_decay": 0.99}, "ema.decay", 0.99),
    "train.timestep_type": ("linear", "flow_matching.timestep_sampling_mode", "uniform"),
    "train.loss_type": ("mae", "objectives", [{"type": "flow_matching", "error": "l1"}]),
    "train.audio_loss_multiplier": (0.5, "objectives", [{"type": "flow_matching", "weight": {"video": 1.0, "audio": 0.5}}]),
    "train.prompt_dropout_prob": (0.1, "data.caption_dropout", 0.1),
    "train.skip_first_sample": (True, "validation.skip_initial_validation", True),
    "train.disable_sampling": (True, "validation.interval", 0),
    "model.name_or_path": ("/models/ltx.safetensors", "model.model_path", "/models/ltx.safetensors"),
    "model.te_name_or_path": ("gemma", "model.text_encoder_path", "gemma"),
    "model.vae_path": ("vae.safetensors", "model.video_vae_path", "vae.safetensors"),
    "model.quantize": (True, "acceleration.quantization", "fp8"),
    "model.quantize_te": (True, "acceleration.load_text_encoder_in_8bit", True),
    "model.layer_offloading": (True, "acceleration.offload_blocks", 48),
    "model.compile": (True, "acceleration.compile", True),
    "logging.use_wandb": (True, "wandb.enabled", True),
    "logging.project_name": ("dogs", "wandb.project", "dogs"),
    "sample.sample_every": (200, "validation.interval", 200),
    "sample.width": (128, "validation.video_dims", [128, 64, 17]),
    "sample.height": (128, "validation.video_dims", [64, 128, 17]),
    "sample.num_frames": (9, "validation.video_dims", [64, 64, 9]),
    "sample.fps": (25, "validation.frame_rate", 25.0),
    "sample.neg": ("ugly", "validation.negative_prompt", "ugly"),
    "sample.seed": (9, "validation.seed", 9),
    "sample.guidance_scale": (4, "validation.video_cfg_scale", 4.0),
    "sample.sample_steps": (25, "validation.inference_steps", 25),
    "sample.guidance_rescale": (0.3, "validation.guidance_rescale", 0.3),
    "sample.prompts": (["one"], "validation.samples", [{"prompt": "one"}]),
    "samples.width": (96, "validation.samples", [{"prompt": "one", "video_dims": [96, 64, 17]}]),
    "samples.height": (96, "validation.samples", [{"prompt": "one", "video_dims": [64, 96, 17]}]),
    "samples.num_frames": (9, "validation.samples", [{"prompt": "one", "video_dims": [64, 64, 9]}]),
    "samples.seed": (3, "validation.samples", [{"prompt": "one", "seed": 3}]),
    "samples.ctrl_img": (
        "first.png",
        "validation.samples",
        [{"prompt": "one", "conditions": [{"type": "first_frame", "image_or_video": "first.png"}]}],
    ),
}
"""Settings with a value, and the key of the run file with the value that it then has."""

TOGETHER = {
    "network.alpha": "test_alpha_is_that_of_ai_toolkit",
    "network.lokr_factor": "test_lokr_keeps_its_factor",
    "network.lokr_full_rank": "test_lokr_keeps_its_factor",
    "datasets.dataset_path": "test_a_dataset_may_be_a_file",
    "train.diff_output_preservation": "test_preservation_becomes_an_objective",
    "train.diff_output_preservation_multiplier": "test_preservation_becomes_an_objective",
    "train.diff_output_preservation_class": "test_preservation_becomes_an_objective",
    "train.blank_prompt_preservation": "test_preservation_becomes_an_objective",
    "train.blank_prompt_preservation_multiplier": "test_preservation_becomes_an_objective",
    "datasets.num_repeats": "test_several_sets_are_kept_with_their_repeats_and_trigger_words",
    "datasets.is_reg": "test_a_regularization_set_becomes_an_objective",
    "train.reg_weight": "test_a_regularization_set_becomes_an_objective",
    "model.arch": "test_another_model_is_said",
    "model.qtype": "test_quantizers",
    "model.qtype_te": "test_quantizers",
    "model.layer_offloading_transformer_percent": "test_blocks_are_offloaded_by_their_share",
    "model.layer_offloading_text_encoder_percent": "test_blocks_are_offloaded_by_their_share",
    "sample.samples": "test_samples_have_seeds_that_walk",
    "sample.walk_seed": "test_samples_have_seeds_that_walk",
    "samples.prompt": "test_samples_have_seeds_that_walk",
}
"""Settings that mean something only beside others, and their tests."""

PLAIN = values(job())

PARTS = {
    "config",
    "config.process",
    *(f"process.{name}" for name in ("network", "save", "datasets", "train", "model", "sample", "logging")),
}


def test_the_table_of_settings_is_up_to_date() -> None:
    assert table(RULES) == TABLE.read_text()


def test_every_setting_that_is_kept_is_tested() -> None:
    assert {name for name, rule in RULES.items() if isinstance(rule, Kept)} == KEPT.keys() | TOGETHER.keys() | PARTS
    assert set(TOGETHER.values()) <= set(globals())


@pytest.mark.parametrize("setting", KEPT)
def test_a_setting_is_kept(setting: str) -> None:
    value, key, written = KEPT[setting]
    found = at(values(job({setting.removeprefix("process."): value})), key)
    assert found == written
    assert at(PLAIN, key) != found


def test_a_setting_that_is_not_kept_is_named_with_the_reason() -> None:
    strange = {name.removeprefix("process."): "strange" for name in left(RULES) if name not in ("job", "meta")}
    assert_named(converted(job(strange)), RULES, without=("job",))


def test_a_setting_that_does_nothing_is_not_told() -> None:
    idle = {
        name.removeprefix("process."): rule.idle[0]
        for name, rule in left(RULES).items()
        if rule.idle and rule.idle is not ANY and name != "job"
    }
    assert remarks(job(idle)) == []


def test_a_setting_that_is_not_known_is_named() -> None:
    assert remarks(job({"train.lerning": 1})) == [
        "line 17 of the old file: train.lerning = 1 is not converted: ltx knows no such setting of ai-toolkit."
    ]


def test_a_password_in_a_mapping_is_never_shown() -> None:
    done = converted(job({"hub": {"repository": "me/mine", "hf_token": "my-token"}, "login": [{"api_key": "my-own-key"}]}))
    assert any('hub = { repository = "me/mine", hf_token = "***" } is not converted' in remark for remark in done.remarks)
    assert "my-token" not in done.text + "".join(done.remarks)
    assert "my-own-key" not in done.text + "".join(done.remarks)


def test_what_matters_and_is_not_in_the_file_is_written_with_a_comment() -> None:
    text = converted(job({"train.lr": None, "network.linear_alpha": None})).text
    said = "# Not in the old file: this was the default of ai-toolkit, and ltx has a different one.\n"
    for line in (
        "learning_rate = 1e-06",
        "alpha = 1",
        "steps = 1000",
        "batch_size = 1",
        'scheduler_type = "constant"',
        "enable_gradient_checkpointing = true",
    ):
        assert f"{said}{line}\n" in text


def test_alpha_is_that_of_ai_toolkit() -> None:
    assert at(values(job({"network.linear_alpha": None, "network.alpha": 4})), "lora.alpha") == 4
    text = job({"network.linear_alpha": 0.5})
    assert at(values(text), "lora.alpha") is None
    assert remarks(text) == ["line 10 of the old file: network.linear_alpha = 0.5 is not kept: lora.alpha is a whole number."]


def test_lokr_keeps_its_factor() -> None:
    found = values(job({"network.type": "lokr", "network.lokr_factor": 4}))
    assert found["lora"] == {"type": "lokr", "rank": 16, "alpha": 16, "params": {"factor": 4}}
    found = values(job({"network.type": "lokr", "network.lokr_full_rank": True, "network.lokr_factor": -1}))
    assert found["lora"] == {"type": "lokr", "rank": 16384, "alpha": 16384, "params": {"factor": -1}}


def test_a_job_without_a_network_trains_all_weights() -> None:
    found = yaml.safe_load(job())
    del found["config"]["process"][0]["network"]
    assert values(yaml.safe_dump(found))["model"]["training_mode"] == "full"


def test_a_dataset_may_be_a_file() -> None:
    assert at(values(job({"datasets.folder_path": None, "datasets.dataset_path": "clips.jsonl"})), "data.dataset") == "clips.jsonl"


def test_several_sets_are_kept_with_their_repeats_and_trigger_words() -> None:
    found = yaml.safe_load(job({"trigger_word": "sks"}))
    first, *_ = sets = found["config"]["process"][0]["datasets"]
    sets += [{**first, "folder_path": "more", "num_repeats": 3}, {**first, "folder_path": "others", "trigger_word": "own"}]
    text = yaml.safe_dump(found, sort_keys=False)
    assert values(text)["data"]["sets"] == [
        {"dataset": "clips", "caption_prefix": "sks"},
        {"dataset": "more", "repeats": 3, "caption_prefix": "sks"},
        {"dataset": "others", "caption_prefix": "own"},
    ]
    assert at(values(text), "preprocessing.lora_trigger") is None
    assert remarks(text) == []
    sets.pop()
    text = yaml.safe_dump(found, sort_keys=False)
    assert values(text)["data"]["sets"] == [{"dataset": "clips"}, {"dataset": "more", "repeats": 3}]
    assert at(values(text), "preprocessing.lora_trigger") == "sks"


def test_a_trigger_word_of_clips_that_have_another_already_is_named() -> None:
    found = yaml.safe_load(job({"trigger_word": "sks"}))
    first, *_ = sets = found["config"]["process"][0]["datasets"]
    sets.append({**first, "trigger_word": "own"})
    said = 'datasets[1]: "own" is not put before captions: the clips are those of datasets[0].'
    for others in ([], [{**first, "folder_path": "others"}]):
        sets += others
        assert [remark for remark in remarks(yaml.safe_dump(found, sort_keys=False)) if remark.endswith(said)]


def test_settings_of_further_sets_that_differ_from_those_of_the_first_are_named() -> None:
    found = yaml.safe_load(job())
    first, *_ = sets = found["config"]["process"][0]["datasets"]
    sets += [{**first, "folder_path": "more", "num_frames": 33, "flip_x": True}, {**first, "num_repeats": 2, "resolution": 128}]
    text = yaml.safe_dump(found, sort_keys=False)
    assert values(text)["data"]["sets"] == [{"dataset": "clips", "repeats": 3}, {"dataset": "more"}]
    assert remarks(text) == [
        "line 15 of the old file: datasets[1]: num_frames, flip_x not kept: all sets are encoded and trained on as datasets[0] is.",
        "line 19 of the old file: datasets[2]: resolution not kept: all sets are encoded and trained on as datasets[0] is.",
        "line 19 of the old file: datasets[2] has the clips of datasets[0]: both are written as one set, with 3 repeats.",
    ]


def test_repeats_of_the_only_set_do_nothing() -> None:
    text = job({"datasets.num_repeats": 5})
    assert values(text)["data"]["dataset"] == "clips"
    assert remarks(text) == []


def test_a_regularization_set_becomes_an_objective() -> None:
    found = yaml.safe_load(job({"train.reg_weight": 0.5}))
    found["config"]["process"][0]["datasets"].insert(0, {"folder_path": "dogs", "is_reg": True, "flip_x": True})
    text = yaml.safe_dump(found, sort_keys=False)
    assert values(text)["data"]["dataset"] == "clips"
    assert values(text)["objectives"] == [{"type": "flow_matching"}, {"type": "regularization", "dataset": "dogs", "weight": 0.5}]
    assert remarks(text) == ["line 12 of the old file: datasets[0]: flip_x not kept: the set is encoded like that of the run."]


def test_preservation_becomes_an_objective() -> None:
    found = values(job({**CLASS, "train.diff_output_preservation_class": "a dog", "train.diff_output_preservation_multiplier": 0.2}))
    assert found["objectives"] == [{"type": "flow_matching"}, {"type": "preservation", "prompt": "a dog", "weight": 0.2}]
    found = values(job({"train.blank_prompt_preservation": True, "train.blank_prompt_preservation_multiplier": 0.1}))
    assert found["objectives"][1] == {"type": "preservation", "prompt": "empty", "weight": 0.1}
    assert "objectives" not in values(job({"train.diff_output_preservation_class": "a dog"}))


def test_another_model_is_said() -> None:
    text = job({"model.arch": "wan22_14b", "model.name_or_path": "ai-toolkit/Wan2.2"})
    assert remarks(text) == [
        'line 19 of the old file: model.arch = "wan22_14b" is a model other than LTX-2. Only settings of the dataset and of training were used; '
        "write the path of an LTX-2 model in model_path."
    ]
    found = values(text)
    assert found["model"] == {}
    assert found["data"]["dataset"] == "clips"
    assert remarks(job({"model.arch": "ltx2.3", "model.is_ltx": True, "model.is_flux": False})) == []


def test_another_model_that_a_flag_names_is_said() -> None:
    text = job({"model.arch": None, "model.is_flux": True, "model.name_or_path": "black-forest-labs/FLUX.1-dev"})
    assert [said.partition(". ")[0] for said in remarks(text)] == [
        "line 20 of the old file: model.is_flux = true is a model other than LTX-2"
    ]
    assert values(text)["model"] == {}


def test_a_model_on_hugging_face_is_to_be_downloaded() -> None:
    text = job({"model.name_or_path": "Lightricks/LTX-2"})
    assert at(values(text), "model.model_path") == "Lightricks/LTX-2"
    assert remarks(text) == [
        'line 18 of the old file: model.name_or_path = "Lightricks/LTX-2" is on Hugging Face: download it, and write the path of the file or folder '
        "in model_path."
    ]


def test_quantizers() -> None:
    for theirs, ours in (("qfloat8", "fp8"), ("qint8", "int8"), ("convrot8", "int8"), ("uint4", "nf4"), ("uint3|some/adapter", "nf4")):
        text = job({"model.quantize": True, "model.qtype": theirs, "model.quantize_te": False, "model.qtype_te": "qfloat8"})
        assert values(text)["acceleration"] == {"quantization": ours}
        assert any("qtype" in remark for remark in remarks(text)) == (ours == "nf4")
    assert any("qtype_te" in remark for remark in remarks(job({"model.quantize_te": True, "model.qtype_te": "uint4"})))


def test_the_first_frame_is_given_unless_it_is_not() -> None:
    given = [{"type": "first_frame", "probability": 1.0}]
    assert at(values(job({"datasets.do_i2v": True})), "training_strategy.video.conditions") == given
    assert at(values(job()), "training_strategy.video.conditions") == given
    assert at(values(job({"datasets.num_frames": 1})), "training_strategy.video.conditions") is None


def test_what_belongs_to_a_setting_that_is_off_is_named_as_such() -> None:
    off = {
        "network.lokr_factor": 4,
        "train.diff_output_preservation_class": "a",
        "model.qtype": "qint8",
        "train.ema_config": {"ema_decay": 0.9},
    }
    idle = converted(job(off)).text.partition("switched off: ")[2].partition("\n[")[0]
    for setting in ("network.lokr_factor", "train.diff_output_preservation_class", "model.qtype", "train.ema_config.ema_decay"):
        assert setting in idle


def test_blocks_are_offloaded_by_their_share() -> None:
    shares = {"model.layer_offloading_transformer_percent": 0.5, "model.layer_offloading_text_encoder_percent": 0.25}
    assert values(job({"model.layer_offloading": True, **shares}))["acceleration"] == {"offload_blocks": 24, "offload_text_encoder": True}
    assert "acceleration" not in values(job(shares))


def test_samples_have_seeds_that_walk() -> None:
    found = values(
        job(
            {
                "sample.walk_seed": True,
                "sample.seed": 5,
                "sample.prompts": None,
                "sample.samples": [{"prompt": "a"}, {"prompt": "b", "seed": 1}],
            }
        )
    )
    assert found["validation"]["samples"] == [{"prompt": "a", "seed": 5}, {"prompt": "b", "seed": 1}]


def test_the_trigger_word_stands_in_prompts() -> None:
    found = values(job({"trigger_word": "sks", "sample.prompts": ["[trigger] of [name]"]}))
    assert found["validation"]["samples"] == [{"prompt": "sks of mine"}]


@pytest.mark.parametrize(
    ("optimizer", "params", "ours"),
    [
        ("adamw", {}, {"optimizer_type": "adamw", "optimizer_params": {"eps": 1e-6}}),
        ("adam", {"betas": [0.9, 0.99]}, {"optimizer_type": "adamw", "optimizer_params": {"betas": [0.9, 0.99], "eps": 1e-6}}),
        ("prodigy8bit", {}, {"optimizer_type": "prodigy", "learning_rate": 1.0, "weight_decay": 0.0, "optimizer_params": {"eps": 1e-6}}),
        ("adafactor", {"relative_step": False}, {"optimizer_type": "adafactor", "weight_decay": 0.0}),
        ("lion8bit", {"weight_decay": 0.1}, {"optimizer_type": "bitsandbytes.optim:Lion8bit", "weight_decay": 0.1}),
        ("automagic", {}, {"optimizer_type": "adamw"}),
    ],
)
def test_optimizers(optimizer: str, params: dict[str, Any], ours: dict[str, Any]) -> None:
    found = values(job({"train.optimizer": optimizer, "train.optimizer_params": params}))["optimization"]
    assert {key: found.get(key) for key in ours} == ours


def test_parameters_that_an_optimizer_does_not_have_are_named() -> None:
    assert remarks(job({"train.optimizer_params": {"amsgrad": True, "eps": 1e-7}})) == [
        'line 18 of the old file: train.optimizer_params.amsgrad = true is not kept: the optimizer "adamw" has no such parameter.'
    ]
    assert any('"automagic" is not kept: ltx has no such optimizer' in remark for remark in remarks(job({"train.optimizer": "automagic"})))


@pytest.mark.parametrize(
    ("schedule", "params", "ours"),
    [
        ("linear", {}, {"scheduler_type": "linear", "scheduler_params": {"start_factor": 1 / 3, "end_factor": 1.0}}),
        ("cosine", {"eta_min": 1e-6}, {"scheduler_type": "cosine", "scheduler_params": {"eta_min": 1e-6}}),
        ("cosine", {"total_iters": 500}, {"scheduler_type": "cosine", "scheduler_params": {"T_max": 500}}),
        ("cosine_with_restarts", {}, {"scheduler_type": "cosine_with_restarts", "scheduler_params": {"T_0": 1000, "eta_min": 0.0}}),
        ("constant_with_warmup", {}, {"scheduler_type": "constant", "warmup_steps": 1000}),
        ("rex", {}, {"scheduler_type": "constant"}),
    ],
)
def test_schedules(schedule: str, params: dict[str, Any], ours: dict[str, Any]) -> None:
    found = values(job({"train.lr_scheduler": schedule, "train.lr_scheduler_params": params}))["optimization"]
    assert {key: found.get(key) for key in ours} == ours


def test_frames_and_sides_that_the_model_does_not_take_are_rounded() -> None:
    text = job({"datasets.num_frames": 20, "sample.width": 70})
    assert remarks(text) == [
        "line 14 of the old file: datasets[0].num_frames = 20 is written as 17: LTX-2 takes multiples of 8 frames plus 1.",
        "line 21 of the old file: 70x64x17 is written as 64x64x17: sides must be multiples of 32, and the number of frames a multiple of 8 plus 1.",
    ]


def test_json_is_read_as_yaml_is() -> None:
    found = yaml.safe_load(job({"sample.prompts": ["a dog \U0001f436 runs"]}))
    for options in ({"indent": "\t"}, {"ensure_ascii": False}, {}):
        assert values(json.dumps(found, **options)) == values(job({"sample.prompts": ["a dog \U0001f436 runs"]}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (job({"datasets.resolution": [64, 0]}), "datasets[0].resolution: must be from 1 to 16384 pixels, not 0"),
        ("job: extension\nconfig: {name: a, process: []}\n", "config.process: has no process"),
        ("job: extension\nconfig: {name: a, process: 3}\n", "config.process: must be a list, not 3"),
        (job({"train.lr": "fast"}), 'train.lr: must be a number, not the text "fast"'),
        (job({"network.linear": [1]}), "network.linear: must be a whole number, not a list"),
        (job({"datasets.resolution": "big"}), 'datasets[0].resolution: must be a whole number, not the text "big"'),
    ],
    ids=range(6),
)
def test_broken_jobs_are_refused_with_the_place(text: str, said: str) -> None:
    assert said in refused(text)


def test_a_mistake_is_told_once_however_often_the_key_is_read() -> None:
    assert refused(job({"train.steps": 1.5, "train.lr_scheduler": "linear"})).count("train.steps: must be a whole number") == 1


def test_the_run_file_passes_the_check(tmp_path: Path) -> None:
    shutil.copy(TINY_BASE, tmp_path / "ltx.safetensors")
    clips(tmp_path / "clips")
    many = {
        "datasets.do_audio": True,
        "datasets.caption_dropout_rate": 0.1,
        "trigger_word": "sks",
        "train.ema_config": {"use_ema": True},
        "train.lr_scheduler": "cosine",
        **CLASS,
        "train.audio_loss_multiplier": 0.5,
        "network.type": "lokr",
        "network.lokr_full_rank": True,
        "model.quantize": True,
        "model.quantize_te": False,
        "model.qtype": "qint8",
    }
    (tmp_path / "run.toml").write_text(converted(job(many), start=tmp_path).text)
    status, _, said = run_ltx(tmp_path, "check", "run.toml")
    assert (status, said) == (0, "")
