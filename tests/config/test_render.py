"""The resolved run file says everything, and loads again to the same run."""

from __future__ import annotations

import datetime
import random
from pathlib import Path
from typing import Any

import pytest
import tomli

from config.run_files import Load
from ltxcore.config.load import LoadedRun, load_run
from ltxcore.config.render import document

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.toml"))
TRAINING = {
    "mask": "{ type = 'mask', mask_dir = 'masks', probability = 0.25 }",
    "prefix": "{ type = 'prefix', temporal_boundary = 8 }",
    "suffix": "{ type = 'suffix', temporal_boundary = 2, probability = 1e-3 }",
    "reference": "{ type = 'reference', latents_dir = 'references' }",
    "first_frame": "{ type = 'first_frame', probability = 0.5 }",
    "spatial_crop": "{ type = 'spatial_crop', spatial_region = [0, 32, 64, 96] }",
}
SAMPLING = {
    "video_mask": "{ type = 'mask', video = 'clip.mp4', mask = 'clip.mp4' }",
    "audio_prefix": "{ type = 'prefix', audio = 'sound.wav', duration = 0.5 }",
    "video_prefix": "{ type = 'prefix', video = 'clip.mp4', num_frames = 9 }",
    "video_suffix": "{ type = 'suffix', video = 'clip.mp4', temporal_boundary = 1 }",
    "open_suffix": "{ type = 'suffix', audio = 'sound.wav' }",
    "first_frame": "{ type = 'first_frame', image_or_video = 'clip.mp4' }",
    "crop": "{ type = 'spatial_crop', video = 'clip.mp4', spatial_region = [0, 0, 64, 32] }",
    "reference": "{ type = 'reference', video = 'clip.mp4', downscale_factor = 2, include_in_output = true }",
    "audio_reference": "{ type = 'reference', audio = 'sound.wav' }",
}
VALUES = {
    "lora": ["rank = 8", "alpha = 4", "dropout = 0.1", "target_modules = ['attn1.to_k', 'ff.net.2']"],
    "optimization": [
        "learning_rate = 1e-4",
        "betas = [0.8, 0.99]",
        "scheduler_type = 'cosine'",
        "scheduler_params = { eta_min = 0 }\nscheduler_type = 'cosine'",
        "max_grad_norm = 0",
    ],
    "acceleration": ["mixed_precision_mode = 'no'", "quantization = 'int8-quanto'"],
    "checkpoints": ["interval = 250", "keep_last_n = -1"],
    "flow_matching": ["timestep_sampling_mode = 'uniform'\ntimestep_sampling_params = { max_value = 1 }", "shared_sigma = true"],
    "wandb": ["tags = ['a \"b\"', 'ü \\\\ \\u0007']", "entity = 'me'"],
    "engine": ["name = 'zero'\nstage = 2\ndeepspeed_config = 'ds.json'"],
    "preprocessing": ["resolution_buckets = '64x64x17;96x64x9'\nlora_trigger = 'TOK'", "audio_durations = [1, 2.5]"],
    "trackers.jsonl": [""],
    "validation": ["stg_blocks = []", "generate_audio = true", "video_dims = [64, 64, 17]", 'negative_prompt = """two\nlines\\ttab"""'],
}


def run_file(rng: random.Random) -> str:
    """A random run file that is in order."""
    lines = [f"seed = {rng.randint(0, 99)}", "plugins = ['extra.py']" if rng.random() < 0.3 else ""]
    lines += ["[model]", "model_path = 'base.safetensors'", f"training_mode = '{rng.choice(['lora', 'full'])}'"]
    lines += ["[data]", rng.choice(["preprocessed_data_root = '.'", "dataset = 'set.jsonl'"])]
    lines += [rng.choice(["", "held_out = 5", "held_out = 0.1", "held_out = 'set.jsonl'"])]
    lines += ["[training_strategy]", "name = 'flexible'"]
    names = rng.choice([["video"], ["audio"], ["video", "audio"]])
    for index, name in enumerate(names):
        generated = index == 0 or rng.random() < 0.5
        allowed = [
            key for key in TRAINING if (name == "video" or key not in ("first_frame", "spatial_crop")) and (generated or key == "reference")
        ]
        conditions = ", ".join(TRAINING[key] for key in rng.sample(allowed, rng.randint(0, min(3, len(allowed)))))
        lines += [
            f"[training_strategy.{name}]",
            f"is_generated = {str(generated).lower()}",
            f"latents_dir = '{name}'",
            f"conditions = [{conditions}]",
        ]
    for table in rng.sample(list(VALUES), rng.randint(0, len(VALUES))):
        lines += [f"[{table}]", rng.choice(VALUES[table])]
    for _ in range(rng.randint(0, 2)):
        chosen = ", ".join(rng.choice(list(SAMPLING.values())) for _ in range(rng.randint(0, 3)))
        lines += [
            "[[validation.samples]]",
            "prompt = 'a \"tone\"'",
            f"conditions = [{chosen}]",
            rng.choice(["", "seed = 0", "video_dims = [64, 64, 9]"]),
        ]
    return "\n".join(lines) + "\n"


@pytest.fixture
def again(tmp_path: Path):  # type: ignore[no-untyped-def]
    """Write a resolved run file elsewhere and load it."""

    def reload(run: LoadedRun) -> LoadedRun:
        path = tmp_path / "elsewhere" / "run.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(run.resolved())
        return load_run(path)

    return reload


@pytest.fixture
def inputs(folder: Path) -> Path:
    for name in ("base.safetensors", "set.jsonl", "clip.mp4", "sound.wav", "ds.json"):
        (folder / name).touch()
    (folder / "extra.py").write_text("from ltxcore.api import hookimpl\n\n\n@hookimpl\ndef ltx_trackers():\n    return {}\n")
    return folder


@pytest.mark.parametrize("seed", range(80))
def test_a_resolved_run_file_loads_to_an_equal_run(inputs: Path, load: Load, again, seed: int) -> None:  # type: ignore[no-untyped-def]
    run = load(run_file(random.Random(seed)))
    repeated = again(run)
    assert repeated.config == run.config
    assert repeated.resolved() == run.resolved()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_loads_resolves_and_loads_again(path: Path, again, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run = load_run(path)
    assert again(run).config == run.config


def test_the_resolved_file_is_the_whole_run(load: Load, minimal: str, folder: Path) -> None:
    text = load(minimal.replace("[data]", "conditions = [{ type = 'mask', mask_dir = 'm' }]\n[data]"), "output_dir=/out").resolved()
    assert text.startswith(
        "# The whole run: every value spelled out, input paths absolute.\n"
        "seed = 42\n"
        'output_dir = "/out"\n'
        "plugins = []\n"
        "\n"
        "[model]\n"
        'model_path = "tiny"\n'
        'training_mode = "lora"\n'
        "\n"
        "[lora]\n"
        "rank = 32\n"
        "alpha = 32\n"
        "dropout = 0.0\n"
        'target_modules = ["to_k", "to_q", "to_v", "to_out.0"]\n'
        "\n"
        "[training_strategy]\n"
        'name = "flexible"\n'
        "\n"
        "[training_strategy.audio]\n"
        "is_generated = true\n"
        'latents_dir = "audio_latents"\n'
        'conditions = [{ type = "mask", probability = 1.0, mask_dir = "m" }]\n'
    )
    assert f'\n[data]\npreprocessed_data_root = "{folder}"\nnum_dataloader_workers = 2\n' in text


def test_samples_are_written_as_tables_of_their_own(load: Load, minimal: str, inputs: Path) -> None:
    sample = "[[validation.samples]]\nprompt = 'x'\nconditions = [{ type = 'audio_to_video', audio = 'sound.wav' }]\n"
    resolved = load(minimal + sample).resolved()
    assert (
        f'\n[[validation.samples]]\nprompt = "x"\nconditions = [\n  {{ type = "audio_to_video", audio = "{inputs}/sound.wav" }},\n]\n'
        in resolved
    )


# ---- TOML itself


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (3, "3"),
        (3.0, "3.0"),
        (1e-05, "1e-05"),
        (1e22, "1e+22"),
        (float("inf"), "inf"),
        ('a "b" \\ \t\n\x00\x7f ü 🎬', '"a \\"b\\" \\\\ \\t\\n\\u0000\\u007F ü 🎬"'),
        ([], "[]"),
        ([{"a": 1}, {}], "[{ a = 1 }, {}]"),
        ({"x y": 1}, '\n[v]\n"x y" = 1'),
        (datetime.date(1979, 5, 27), "1979-05-27"),
    ],
)
def test_a_value_is_written_as_toml_writes_it(value: Any, text: str) -> None:
    written = document({"v": value})
    assert written == (f"v = {text}\n" if not isinstance(value, dict) else text.lstrip() + "\n")
    assert tomli.loads(written) == {"v": value}


@pytest.mark.parametrize("seed", range(60))
def test_any_document_reads_back_as_it_was_written(seed: int) -> None:
    value = table(random.Random(seed), depth=3)
    assert tomli.loads(document(value)) == value


def table(rng: random.Random, depth: int) -> dict[str, Any]:
    names = rng.sample(["plain", "with-dash", "with space", "a.b", 'quo"te', "", "ü", "0"], rng.randint(0, 6))
    return {name: anything(rng, depth - 1) for name in names}


def anything(rng: random.Random, depth: int) -> Any:
    kinds = [
        lambda: rng.randint(-9, 9),
        rng.random,
        lambda: rng.choice([True, False]),
        lambda: "".join(rng.choices('ab"\\\n\t\x01ü', k=rng.randint(0, 60))),
    ]
    if depth > 0:
        kinds += [lambda: table(rng, depth), lambda: [anything(rng, depth - 1) for _ in range(rng.randint(0, 4))]]
        kinds += [lambda: [table(rng, depth) for _ in range(rng.randint(0, 3))]]
    return rng.choice(kinds)()
