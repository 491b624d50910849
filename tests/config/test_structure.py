"""Every mistake of a run file is found in one go: where, what, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
import tomli

from config.run_files import Load, Mistakes
from ltxcore.flow.sigmas import ShiftedLogitNormal, Uniform
from ltxcore.logs import notice

REST = """
[model]
model_path = "tiny"
[data]
preprocessed_data_root = "."
"""
AUDIO = """\
[training_strategy]
name = "flexible"
[training_strategy.audio]
is_generated = true
latents_dir = "audio_latents"
"""


def test_a_small_file_gets_every_default(load: Load, minimal: str, folder: Path) -> None:
    run = load(minimal).config
    assert run.strategy_name == "flexible"
    assert run.training_strategy.audio.is_generated is True
    assert run.training_strategy.video is None
    assert (run.lora.rank, run.lora.alpha, run.optimization.steps, run.seed) == (32, 32, 3000, 42)
    assert run.flow_matching.sampler == ShiftedLogitNormal()
    assert run.data.preprocessed_data_root == folder
    assert run.output_dir == folder.parent / "work" / "outputs"


def test_all_mistakes_are_found_at_once_in_the_order_of_the_file(mistakes: Mistakes) -> None:
    text = """\
output_dir = 3
sed = 4
[model]
model_path = "nope.safetensors"
training_mode = "lroa"
[lora]
rank = 3.7
dropout = 1
[training_strategy]
name = "flexible"
[training_strategy.audio]
is_generated = "false"
latents_dir = "audio_latents"
conditions = [{ type = "maks", mask_dir = "audio_masks" },
  { type = "prefix", temporal_boundary = 0, probability = 2 },
  { type = "first_frame" },
  { type = "mask" }]
[optimization]
scheduler_params = { start = 1, end_factor = "1" }
[data]
"""
    assert mistakes(text) == (
        "run.toml:1: output_dir: must be a path, not 3\n"
        '    Write "3", in quotes.\n'
        "run.toml:2: sed: there is no such key\n"
        '    Did you mean "seed"?\n'
        "run.toml:4: model.model_path: there is no file or folder nope.safetensors\n"
        '    Paths are relative to the run file; "tiny" is the model that comes with ltx.\n'
        'run.toml:5: model.training_mode: must be "lora" or "full", not the text "lroa"\n'
        '    Did you mean "lora"?\n'
        "run.toml:7: lora.rank: must be a whole number, not 3.7\n"
        "run.toml:8: lora.dropout: must be below 1, not 1\n"
        'run.toml:12: training_strategy.audio.is_generated: must be true or false, not the text "false"\n'
        "    Write false, without quotes.\n"
        'run.toml:14: training_strategy.audio.conditions[0].type: there is no condition "maks"\n'
        '    Did you mean "mask"?\n'
        "run.toml:15: training_strategy.audio.conditions[1].probability: must be at most 1, not 2\n"
        "run.toml:15: training_strategy.audio.conditions[1].temporal_boundary: must be at least 1, not 0\n"
        'run.toml:16: training_strategy.audio.conditions[2].type: the condition "first_frame" does not work on audio\n'
        "    Conditions on audio: hole, mask, prefix, reference, suffix.\n"
        "run.toml:17: training_strategy.audio.conditions[3].mask_dir: is missing\n"
        "    Add mask_dir: text, folder of the encoded mask.\n"
        "run.toml:19: optimization.scheduler_params.start: there is no such key\n"
        "    Known: end_factor, start_factor, total_iters.\n"
        'run.toml:19: optimization.scheduler_params.end_factor: must be a number, not the text "1"\n'
        "    Write 1, without quotes.\n"
        "run.toml:20: data: does not name any data to train on\n"
        "    Set dataset to a folder of media or a file that lists them, or preprocessed_data_root to the folder of a set that is already encoded."
    )


def test_an_empty_file_says_what_a_run_needs(mistakes: Mistakes) -> None:
    assert mistakes("") == (
        "run.toml:1: model.model_path: is missing\n"
        '    Add model_path: text, "tiny", a safetensors file, a folder of such files, or a diffusers folder.\n'
        "run.toml:1: training_strategy.name: does not name any strategy\n"
        "    Choose one: flexible.\n"
        "run.toml:1: data: does not name any data to train on\n"
        "    Set dataset to a folder of media or a file that lists them, or preprocessed_data_root to the folder of a set that is already encoded."
    )


def test_a_strategy_without_a_name_is_an_error_and_not_a_default(mistakes: Mistakes) -> None:
    text = REST + "[training_strategy.audio]\nis_generated = true\nlatents_dir = 'a'\n"
    assert mistakes(text) == "run.toml:6: training_strategy.name: does not name any strategy\n    Choose one: flexible."


def test_an_unknown_strategy_is_named(mistakes: Mistakes) -> None:
    text = REST + "[training_strategy]\nname = 'flexibel'\n"
    assert mistakes(text) == 'run.toml:7: training_strategy.name: there is no strategy "flexibel"\n    Did you mean "flexible"?'


def test_a_run_that_generates_nothing_is_refused(mistakes: Mistakes) -> None:
    text = REST + AUDIO.replace("true", "false")
    assert mistakes(text) == (
        "run.toml:6: training_strategy: no modality is generated, so there is nothing to train\n"
        "    Set is_generated = true for video, audio or both."
    )


def test_a_mask_on_a_frozen_modality_is_refused(mistakes: Mistakes) -> None:
    text = (
        REST
        + AUDIO
        + "[training_strategy.video]\nis_generated = false\nlatents_dir = 'latents'\nconditions = [{ type = 'mask', mask_dir = 'm' }]\n"
    )
    assert mistakes(text) == (
        'run.toml:14: training_strategy.video.conditions[0].type: the condition "mask" makes no sense on the frozen video, which is already given\n'
        "    Remove the condition, or set is_generated = true for video."
    )


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ("3", "conditions: must be a list of tables, not 3"),
        (
            "{ type = 'mask' }",
            "conditions: must be a list of tables, not a table\n    Write it in brackets: [...], or as [[training_strategy.audio.conditions]].",
        ),
        ("['mask']", 'conditions[0]: must be a table, not the text "mask"'),
        (
            "[{}]",
            "conditions[0].type: does not name any condition\n    Choose one: first_frame, hole, keyframes, mask, prefix, reference, spatial_crop, suffix.",
        ),
        ("[{ type = 3 }]", 'conditions[0].type: must be text, not 3\n    Write "3", in quotes.'),
        (
            "[{ type = 'mask', mask_dri = 'x' }]",
            'conditions[0].mask_dri: there is no such key\n    Did you mean "mask_dir"?\n'
            "run.toml:11: training_strategy.audio.conditions[0].mask_dir: is missing\n    Add mask_dir: text, folder of the encoded mask.",
        ),
        (
            "[{ type = 'prefix' }]",
            "conditions[0].temporal_boundary: is missing\n    Add temporal_boundary: a whole number, number of latent frames (for audio: latent steps) that are given.",
        ),
        (
            "[{ type = 'prefix', temporal_boundary = '4' }]",
            'conditions[0].temporal_boundary: must be a whole number, not the text "4"\n    Write 4, without quotes.',
        ),
        ("[{ type = 'mask', mask_dir = 'm', probability = -0.5 }]", "conditions[0].probability: must be at least 0, not -0.5"),
        ("[{ type = 'mask', mask_dir = 'm', probability = nan }]", "conditions[0].probability: must be a finite number, not nan"),
    ],
)
def test_a_condition_that_is_wrong_says_how(mistakes: Mistakes, conditions: str, message: str) -> None:
    assert mistakes(f"{REST}{AUDIO}conditions = {conditions}\n") == f"run.toml:11: training_strategy.audio.{message}"


def test_a_conditions_own_validator_speaks_with_its_own_remedy(mistakes: Mistakes) -> None:
    text = REST + AUDIO.replace("audio", "video") + "conditions = [{ type = 'spatial_crop', spatial_region = [64, 0, 64, 32] }]\n"
    assert mistakes(text) == (
        "run.toml:11: training_strategy.video.conditions[0].spatial_region: the region [64, 0, 64, 32] is empty\n"
        "    Write [y1, x1, y2, x2] in pixels with 0 <= y1 < y2 and 0 <= x1 < x2."
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("[0, 0, 64]", ": must be a list of 4 whole numbers, not of 3"),
        ("5", ": must be a list of 4 whole numbers, not 5"),
        ("[0, 0, 64, 'x']", '[3]: must be a whole number, not the text "x"'),
        (
            "[0, 0.5, 64, 6.0]",
            "[1]: must be a whole number, not 0.5\n"
            "run.toml:11: training_strategy.video.conditions[0].spatial_region[3]: must be a whole number, not 6.0\n    Write 6.",
        ),
    ],
)
def test_a_list_of_fixed_length_is_read_to_the_letter(mistakes: Mistakes, value: str, message: str) -> None:
    text = REST + AUDIO.replace("audio", "video") + f"conditions = [{{ type = 'spatial_crop', spatial_region = {value} }}]\n"
    assert mistakes(text) == f"run.toml:11: training_strategy.video.conditions[0].spatial_region{message}"


def test_conditions_hold_their_class_probability_and_sources(load: Load) -> None:
    text = (
        REST + AUDIO + "conditions = [{ type = 'mask', mask_dir = 'm', probability = 0.25 }, { type = 'prefix', temporal_boundary = 8 }]\n"
    )
    mask, prefix = load(text).config.training_strategy.audio.conditions
    assert (mask.type, mask.probability, mask.sources) == ("mask", 0.25, {"mask": "m"})
    assert (prefix.type, prefix.probability, prefix.sources) == ("prefix", 1.0, {})
    assert prefix.condition.temporal_boundary == 8


# ---- sigma samplers, trackers


def test_the_sigma_sampler_is_built_and_its_keys_are_spelled_out(load: Load, minimal: str) -> None:
    text = minimal + "[flow_matching]\ntimestep_sampling_mode = 'uniform'\ntimestep_sampling_params = { max_value = 0.5 }\n"
    table = load(text).config.flow_matching
    assert table.sampler == Uniform(0.0, 0.5)
    assert table.timestep_sampling_params == {"min_value": 0.0, "max_value": 0.5, "shift": 1.0}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("timestep_sampling_mode = 'unifrom'", 'timestep_sampling_mode: there is no sigma sampler "unifrom"\n    Did you mean "uniform"?'),
        ("timestep_sampling_params = { stdev = 1 }", 'timestep_sampling_params.stdev: there is no such key\n    Did you mean "std"?'),
        ("timestep_sampling_params = { eps = 2 }", "timestep_sampling_params.eps: is 2; it must lie between 0 and 1"),
        ("timestep_sampling_params = 1", "timestep_sampling_params: must be a table, not 1"),
    ],
)
def test_a_sigma_sampler_that_is_wrong_says_how(mistakes: Mistakes, minimal: str, table: str, message: str) -> None:
    assert mistakes(f"{minimal}[flow_matching]\n{table}\n") == f"run.toml:11: flow_matching.{message}"


def test_two_keys_that_a_class_refuses_are_both_named(mistakes: Mistakes, minimal: str) -> None:
    text = minimal + "[flow_matching.timestep_sampling_params]\neps = 2\nuniform_prob = -1\n"
    assert mistakes(text) == (
        "run.toml:11: flow_matching.timestep_sampling_params.eps: is 2; it must lie between 0 and 1\n"
        "run.toml:12: flow_matching.timestep_sampling_params.uniform_prob: is -1; it must lie between 0 and 1"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[trackers.jsnol]", 'run.toml:10: trackers.jsnol: there is no tracker "jsnol"\n    Did you mean "jsonl"?'),
        ("[trackers]\njsonl = true", "run.toml:11: trackers.jsonl: must be a table, not true"),
        ("[[trackers]]", "run.toml:10: trackers: must be tables, [trackers.NAME], not a list"),
        ("[trackers.jsonl]\nfile = 1", "run.toml:11: trackers.jsonl.file: there is no such key\n    None is known."),
    ],
)
def test_a_tracker_that_is_wrong_says_how(mistakes: Mistakes, minimal: str, text: str, message: str) -> None:
    assert mistakes(f"{minimal}{text}\n") == message


def test_trackers_are_made_by_name(load: Load, minimal: str) -> None:
    run = load(f"{minimal}[trackers.jsonl]\n")
    assert list(run.config.trackers) == ["jsonl"]
    assert type(run.config.trackers["jsonl"]) is run.registry.get("tracker", "jsonl").value


# ---- tables


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model = 3\n", "run.toml:1: model: must be a table, not 3"),
        ("optimizaton = {}\n", 'run.toml:1: optimizaton: there is no such key\n    Did you mean "optimization"?'),
        ("lora = [1]\n", "run.toml:1: lora: must be a table, not a list"),
        ("seed = 1979-05-27\n", "run.toml:1: seed: must be a whole number, not the date or time 1979-05-27"),
        ("seed = true\n", "run.toml:1: seed: must be a whole number, not true"),
        ("seed = -1\n", "run.toml:1: seed: must be at least 0, not -1"),
        ("plugins = 'a.py'\n", 'run.toml:1: plugins: must be a list of paths, not the text "a.py"\n    Write it in brackets: [...].'),
        ("plugins = ['a.py']\n", "run.toml:1: plugins: there is no file a.py\n    Paths are relative to the run file."),
        ("plugins = ['']\n", "run.toml:1: plugins[0]: is an empty path"),
        ("output_dir = ''\n", "run.toml:1: output_dir: is an empty path"),
        ("validation.stg_blocks = [1, -2]\n", "run.toml:1: validation.stg_blocks: must be at least 0, not -2"),
        ("validation.video_dims = [64, 64]\n", "run.toml:1: validation.video_dims: must be a list of 3 whole numbers, not of 2"),
        ("validation.inference_steps = 1\n", "run.toml:1: validation.inference_steps: must be at least 2, not 1"),
        ("lora.target_modules = []\n", "run.toml:1: lora.target_modules: does not name any module\n    Name at least one, such as to_k."),
        ("lora.target_modules = ['to_k', 1]\n", 'run.toml:1: lora.target_modules[1]: must be text, not 1\n    Write "1", in quotes.'),
        ("lora.rank = 0\n", "run.toml:1: lora.rank: must be at least 1, not 0"),
        ("optimization.batch_size = 0\n", "run.toml:1: optimization.batch_size: must be at least 1, not 0"),
        (
            "optimization.learning_rate = '1e-4'\n",
            'run.toml:1: optimization.learning_rate: must be a number, not the text "1e-4"\n    Write 1e-4, without quotes.',
        ),
        ("optimization.learning_rate = inf\n", "run.toml:1: optimization.learning_rate: must be a finite number, not inf"),
        ("optimization.learning_rate = 0.0\n", "run.toml:1: optimization.learning_rate: must be above 0, not 0"),
        ("optimization.betas = [0.9, 1]\n", "run.toml:1: optimization.betas: must be below 1, not 1"),
        (
            "optimization.scheduler_type = 'cosin'\n",
            'run.toml:1: optimization.scheduler_type: there is no schedule "cosin"\n    Did you mean "cosine"?',
        ),
        (
            "optimization = { scheduler_type = 'constant', scheduler_params = { power = 2 } }\n",
            "run.toml:1: optimization.scheduler_params.power: there is no such key\n    None is known.",
        ),
        (
            "acceleration.mixed_precision_mode = 'fp16'\n",
            "run.toml:1: acceleration.mixed_precision_mode: fp16 is not available: many gradients are smaller than its smallest number, so it would need "
            'loss scaling\n    Use "bf16", which has as many bits as fp16 but the range of float32, so it needs no scaling; or "no" for float32.',
        ),
        (
            "optimization.optimizer_type = 'adam'\n",
            "run.toml:1: optimization.optimizer_type: Adam is not available: it mixes weight decay into its moments\n"
            '    Use "adamw", which keeps the two separate.',
        ),
        (
            "optimization.optimizer_type = 'prodigi'\n",
            'run.toml:1: optimization.optimizer_type: there is no optimizer "prodigi"\n    Did you mean "prodigy"?',
        ),
        (
            "optimization.scheduler_type = 'constant_with_warmup'\n",
            'run.toml:1: optimization.scheduler_type: there is no schedule "constant_with_warmup"\n'
            "    Known: constant, cosine, cosine_with_restarts, linear, polynomial, step, warmup_stable_decay.",
        ),
        ("engine.stage = 4\n", "run.toml:1: engine.stage: must be at most 3, not 4"),
        (
            "engine.deepspeed_config = 'ds.json'\n",
            "run.toml:1: engine.deepspeed_config: there is no file ds.json\n    Paths are relative to the run file.",
        ),
        (
            "hub.push_to_hub = true\n",
            'run.toml:1: hub.hub_model_id: must be set, because push_to_hub is true\n    Write where to publish: hub_model_id = "name/model".',
        ),
        (
            "preprocessing.resolution_buckets = '64x64;64x64x17'\n",
            'run.toml:1: preprocessing.resolution_buckets: "64x64" is not a bucket\n'
            '    Write width x height x frames, such as "960x544x49"; separate several buckets with ";".',
        ),
        (
            "preprocessing.alpha_color = 'mauve'\n",
            'run.toml:1: preprocessing.alpha_color: "mauve" is not a colour\n'
            '    Write it as "#RRGGBB", such as "#00FF00", or as black, white, gray, grey.',
        ),
        ("preprocessing.audio_durations = [2, 0]\n", "run.toml:1: preprocessing.audio_durations: must be above 0, not 0"),
        ("checkpoints.keep_last_n = -2\n", "run.toml:1: checkpoints.keep_last_n: must be at least -1, not -2"),
    ],
)
def test_a_key_that_is_wrong_says_how(mistakes: Mistakes, minimal: str, text: str, message: str) -> None:
    rest = minimal.replace('[model]\nmodel_path = "tiny"\n', "") if text.startswith("model") else minimal
    assert mistakes(text + rest) == message


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "'https://host/model.safetensors'",
            "https://host/model.safetensors is an address\n    Download the model first, and write the path of its file.",
        ),
        ("''", "is an empty path"),
        ("4", 'must be text, not 4\n    Write "4", in quotes.'),
    ],
)
def test_a_model_path_is_a_file_a_folder_or_the_name_of_a_shipped_model(mistakes: Mistakes, minimal: str, path: str, message: str) -> None:
    assert mistakes(minimal.replace('"tiny"', path)) == f"run.toml:2: model.model_path: {message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("held_out = -1", "held_out: must be at least 0, not -1"),
        ("held_out = 1.0", "held_out: a share must be at least 0 and below 1, not 1.0\n    Write a whole number for a number of samples."),
        ("held_out = 'more.jsonl'", "held_out: there is no file or folder more.jsonl\n    Paths are relative to the run file."),
        ("held_out = '0.1'", "held_out: there is no file or folder 0.1\n    Write 0.1, without quotes."),
        ("held_out = true", "held_out: must be a number or a path, not true"),
        ("held_out = nan", "held_out: must be a number or a path, not nan"),
        ("num_dataloader_workers = -1", "num_dataloader_workers: must be at least 0, not -1"),
        ("dataset = 'set.jsonl'", "dataset: there is no file or folder set.jsonl\n    Paths are relative to the run file."),
    ],
)
def test_data_that_is_wrong_says_how(mistakes: Mistakes, minimal: str, text: str, message: str) -> None:
    assert mistakes(f"{minimal}{text}\n") == f"run.toml:10: data.{message}"


TOO_LONG = f'the name "{"x" * 40}..." is too long: it has 300 bytes, but a file\'s name has at most 255'


@pytest.mark.parametrize("key", ["dataset", "held_out", "preprocessed_data_root"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x" * 300, TOO_LONG),
        ("x/" * 3000, "the path is too long: it has "),
        ("a\\u0000b", "contains a zero byte, which no file name can contain"),
        ("~nobody-of-that-name/a", "there is no home folder ~nobody-of-that-name"),
    ],
)
def test_a_path_that_no_file_can_have_is_refused_in_words(mistakes: Mistakes, minimal: str, key: str, name: str, message: str) -> None:
    text = minimal.replace('preprocessed_data_root = "."\n', "")
    assert mistakes(f'{text}{key} = "{name}"\n').startswith(f"run.toml:9: data.{key}: {message}")


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("output_dir = 'NAME'", "run.toml:1: output_dir"),
        ("plugins = ['NAME']", "run.toml:1: plugins[0]"),
        ("model.load_checkpoint = 'NAME'", "run.toml:1: model.load_checkpoint"),
    ],
)
def test_a_name_that_is_too_long_is_refused_at_every_key_that_takes_a_path(mistakes: Mistakes, minimal: str, line: str, place: str) -> None:
    text = line.replace("NAME", "x" * 300) + "\n" + minimal
    text = text.replace('[model]\nmodel_path = "tiny"', 'model.model_path = "tiny"') if line.startswith("model.") else text
    assert mistakes(text) == f"{place}: {TOO_LONG}"


def test_a_model_whose_name_is_too_long_is_refused_in_words(mistakes: Mistakes, minimal: str) -> None:
    assert mistakes(minimal.replace('"tiny"', f'"{"x" * 300}"')) == f"run.toml:2: model.model_path: {TOO_LONG}"


def test_a_bucket_of_thousands_of_digits_is_none(mistakes: Mistakes, minimal: str) -> None:
    bucket = f"{'9' * 5000}x64x9"
    assert mistakes(f"{minimal}[preprocessing]\nresolution_buckets = '{bucket}'\n").startswith(
        f'run.toml:11: preprocessing.resolution_buckets: "{"9" * 37}..." is not a bucket\n'
    )


def test_clips_that_are_held_out_do_not_lie_among_those_that_are_trained_on(
    load: Load, mistakes: Mistakes, minimal: str, folder: Path
) -> None:
    for name in ("clips/held", "held"):
        (folder / name).mkdir(parents=True)
    folders = f"{minimal}dataset = 'clips'\nheld_out = "
    assert load(f"{folders}'held'\n").config.data.held_out == folder / "held"
    assert mistakes(f"{folders}'clips/held'\n") == (
        "run.toml:11: data.held_out: is inside the folder clips, whose media would be both trained on and held out\n"
        "    Move the held-out media out of that folder."
    )


@pytest.mark.parametrize("kept", ["0", "12", "0.0", "0.25"])
def test_held_out_is_a_number_of_samples_or_a_share(load: Load, minimal: str, kept: str) -> None:
    found = load(f"{minimal}held_out = {kept}\n").config.data.held_out
    assert (found, type(found)) == (float(kept), float if "." in kept else int)


def test_an_encoded_set_that_is_not_there_is_named(mistakes: Mistakes, minimal: str) -> None:
    assert mistakes(minimal.replace('root = "."', 'root = "set"')) == (
        "run.toml:9: data.preprocessed_data_root: there is no folder set\n    Correct the path, or set dataset, so that the data are encoded on first use."
    )


def test_beside_a_dataset_the_root_need_not_exist_yet(load: Load, minimal: str, folder: Path) -> None:
    (folder / "set.jsonl").write_text("")
    data = load(minimal.replace('root = "."', 'root = "set"\ndataset = "set.jsonl"')).config.data
    assert (data.preprocessed_data_root, data.dataset) == (folder / "set", folder / "set.jsonl")


def test_the_marker_of_the_first_frame_is_a_key_of_video_alone(load: Load, mistakes: Mistakes) -> None:
    video = AUDIO.replace("audio]", "video]").replace("audio_latents", "latents")
    assert load(video + REST).config.training_strategy.video.mark_first_frame is True
    assert load(video + "mark_first_frame = false\n" + REST).config.training_strategy.video.mark_first_frame is False
    assert mistakes(AUDIO + "mark_first_frame = true\n" + REST) == (
        "run.toml:6: training_strategy.audio.mark_first_frame: is for video: audio has no frames to mark\n"
        "    Write it in [training_strategy.video], or remove it."
    )


def test_keys_of_folders_that_are_not_set_are_not_spelled_out_so_that_unfinished_runs_of_0_1_0_go_on(load: Load, minimal: str) -> None:
    resolved = load(minimal).resolved()
    assert "skip_audio = false" in resolved
    assert "prefer" not in resolved
    assert "caption_from" not in resolved


@pytest.fixture(autouse=True)
def fresh_notices(folder: Path) -> None:
    notice.cache_clear()
    for name in ("a.png", "b.png", "a.mp4", "b.mp4"):
        (folder / name).touch()


def test_prompts_with_images_and_references_are_samples_with_conditions(load: Load, minimal: str, folder: Path) -> None:
    text = (
        "[validation]\nprompts = ['one', 'two']\nimages = ['a.png', 'b.png']\nreference_videos = ['a.mp4', 'b.mp4']\n"
        "reference_downscale_factor = 2\ninclude_reference_in_output = true\nseed = 3\n"
    )
    table = load(minimal + text).config.validation
    assert [sample.prompt for sample in table.samples] == ["one", "two"]
    assert table.seed == 3
    first, reference = table.samples[1].conditions
    assert (first.type, first.medium) == ("first_frame", folder / "b.png")
    assert (reference.type, reference.media) == ("reference", {"reference": folder / "b.mp4"})
    assert (reference.downscale_factor, reference.include_in_output, reference.index) == (2, True, 1)


def test_prompts_alone_are_samples_without_conditions(load: Load, minimal: str) -> None:
    samples = load(minimal + "[validation]\nprompts = ['one']\n").config.validation.samples
    assert [(sample.prompt, sample.conditions) for sample in samples] == [("one", [])]


@pytest.mark.parametrize(
    ("older", "scales"),
    [
        ("guidance_scale = 4", {"video_cfg_scale": 4.0, "audio_cfg_scale": 4.0}),
        ("stg_scale = 0.5", {"video_stg_scale": 0.5, "audio_stg_scale": 0.5}),
        ("stg_scale = 2\nstg_mode = 'stg_v'", {"video_stg_scale": 2.0, "audio_stg_scale": 0.0}),
        ("stg_mode = 'stg_av'", {"video_stg_scale": 1.0, "audio_stg_scale": 1.0}),
    ],
)
def test_one_scale_is_one_for_each_modality(load: Load, minimal: str, older: str, scales: dict[str, float]) -> None:
    table = load(minimal + f"[validation]\n{older}\n").config.validation
    assert {name: getattr(table, name) for name in scales} == scales


def test_what_to_write_instead_is_told_once_and_reads_to_the_same(
    load: Load, minimal: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    older = "[validation]\nprompts = ['one', 'two']\nimages = ['a.png', 'b.png']\nguidance_scale = 4.0\n"
    config = load(minimal + older).config
    load(minimal + older)
    (said,) = caplog.messages
    assert said == (
        "In [validation], prompts, images, guidance_scale are deprecated. Write instead:\n\n"
        "[validation]\nvideo_cfg_scale = 4.0\naudio_cfg_scale = 4.0\n\n"
        '[[validation.samples]]\nprompt = "one"\nconditions = [{ type = "first_frame", image_or_video = "a.png" }]\n\n'
        '[[validation.samples]]\nprompt = "two"\nconditions = [{ type = "first_frame", image_or_video = "b.png" }]\n'
    )
    newer = said.partition("\n\n")[2]
    assert tomli.loads(newer)
    assert load(minimal + newer).config == config


def test_a_single_older_word_is_told_in_the_singular(load: Load, minimal: str, caplog: pytest.LogCaptureFixture) -> None:
    load(minimal + "[validation]\nprompts = ['one']\n")
    assert caplog.messages == ['In [validation], prompts is deprecated. Write instead:\n\n[[validation.samples]]\nprompt = "one"\n']


def test_older_words_that_say_nothing_are_to_be_removed(load: Load, minimal: str, caplog: pytest.LogCaptureFixture) -> None:
    assert load(minimal + "[validation]\nprompts = []\n").config.validation.samples == []
    assert caplog.messages == ["In [validation], prompts is deprecated. Remove it."]


def test_newer_words_alone_are_told_nothing(load: Load, minimal: str, caplog: pytest.LogCaptureFixture) -> None:
    load(minimal + "[[validation.samples]]\nprompt = 'one'\n")
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("older", "message"),
    [
        (
            "prompts = ['one']\nsamples = [{ prompt = 'two' }]\nimages = ['a.png']",
            "run.toml:11: validation.prompts: means the same as samples\n    Keep samples.\n"
            "run.toml:13: validation.images: means the same as samples\n    Keep samples.",
        ),
        (
            "images = ['a.png']",
            "run.toml:11: validation.images: needs prompts, but there are none\n    Write [[validation.samples]], each with a prompt.",
        ),
        (
            "prompts = ['one', 'two']\nimages = ['a.png']",
            "run.toml:12: validation.images: has 1 entry for 2 prompts\n    Write one entry for each prompt.",
        ),
        ("prompts = 'one'", 'run.toml:11: validation.prompts: must be a list of texts, not the text "one"'),
        (
            "guidance_scale = 3.0\naudio_cfg_scale = 3.0",
            "run.toml:11: validation.guidance_scale: means the same as audio_cfg_scale\n    Keep audio_cfg_scale.",
        ),
        (
            "stg_scale = 1.0\nstg_mode = 'stg_v'\nvideo_stg_scale = 1.0\naudio_stg_scale = 1.0",
            "run.toml:11: validation.stg_scale: means the same as video_stg_scale and audio_stg_scale\n    Keep video_stg_scale and audio_stg_scale.\n"
            "run.toml:12: validation.stg_mode: means the same as video_stg_scale and audio_stg_scale\n    Keep video_stg_scale and audio_stg_scale.",
        ),
        ("stg_mode = 'stg_x'", 'run.toml:11: validation.stg_mode: there is no mode "stg_x"\n    Choose one: stg_av, stg_v.'),
        (
            "guidance_scale = 0",
            "run.toml:10: validation.video_cfg_scale: must be at least 1, not 0\nrun.toml:10: validation.audio_cfg_scale: must be at least 1, not 0",
        ),
    ],
)
def test_older_words_that_are_wrong_say_how(mistakes: Mistakes, minimal: str, older: str, message: str) -> None:
    assert mistakes(minimal + f"[validation]\n{older}\n").replace("not 0.0", "not 0") == message
