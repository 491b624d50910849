"""The resolved run file says everything, and loads again to the same run."""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli

from config.run_files import Load, run_file
from ltxcore.config.load import LoadedRun, load_run
from ltxcore.config.render import document

Again = Callable[[LoadedRun], LoadedRun]

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.toml"))


@pytest.fixture
def again(tmp_path: Path) -> Again:
    """Write a resolved run file elsewhere and load it."""

    def reload(run: LoadedRun) -> LoadedRun:
        path = tmp_path / "elsewhere" / "run.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(run.resolved())
        return load_run(path)

    return reload


@pytest.mark.parametrize("seed", range(80))
def test_a_resolved_run_file_loads_to_an_equal_run(inputs: Path, load: Load, again: Again, seed: int) -> None:
    run = load(run_file(random.Random(seed)))
    repeated = again(run)
    assert repeated.config == run.config
    assert repeated.resolved() == run.resolved()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_loads_resolves_and_loads_again(path: Path, again: Again, tmp_path: Path) -> None:
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
        "loras = []\n"
        "\n"
        "[lora]\n"
        "rank = 32\n"
        "alpha = 32\n"
        "dropout = 0.0\n"
        'type = "lora"\n'
        'target_modules = ["to_k", "to_q", "to_v", "to_out.0"]\n'
        "groups = []\n"
        "\n"
        "[lora.params]\n"
        "use_rslora = false\n"
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
