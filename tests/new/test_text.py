"""The text of a run file: the examples are what is written for the demo, and for a real model it is in order but for what the user fills in."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import tomli

from helpers.sampling import drawn, sampled
from helpers.whole_models import split, unified
from ltxcore.config.load import load_run, read_run
from ltxcore.config.run_file import RunFile
from ltxcore.encode.buckets import Bucket
from ltxcore.errors import LtxError
from ltxcore.new.clips import Clips, look
from ltxcore.new.models import MODELS
from ltxcore.new.modes import MODES
from ltxcore.new.purposes import PURPOSES, WORDS, suits
from ltxcore.new.text import Request, line, text
from ltxcore.new.tiny_world import write_world
from ltxcore.progress import bars
from ltxcore.registry import load
from ltxcore.runs.checks import check_run

EXAMPLES = Path(__file__).parents[2] / "examples"
CLIPS = Clips(24, (Bucket(768, 448, 89), Bucket(448, 768, 121)), 4.0, 29.97, "a dog runs along a beach")


def asked(name: str, model: str = "2.3", clips: Clips | None = None, purpose: str = "") -> str:
    mode = MODES[name]
    return text(Request(mode, model, purpose or mode.purpose, f"{name}.toml", "clips/" if clips else "", clips))


@pytest.mark.parametrize("name", MODES)
def test_the_examples_are_what_is_written_for_the_demo(name: str) -> None:
    mode = MODES[name]
    written = text(Request(mode, "tiny", mode.purpose, f"examples/{name}.toml", "media/clips.jsonl"))
    assert written == (EXAMPLES / f"{name}.toml").read_text(), f"run: ltx new {name} --demo examples --force"


@pytest.mark.parametrize("model", ["tiny", *MODELS])
@pytest.mark.parametrize("name", MODES)
def test_every_value_of_a_real_run_has_its_reason_and_every_line_that_names_a_file_says_which(name: str, model: str) -> None:
    for clips in (None, CLIPS):
        lines = asked(name, model, clips).splitlines()
        tables = tomli.loads("\n".join(lines))
        assert tables["training_strategy"].keys() - {"name"} == MODES[name].parts.keys()
        for key in (
            () if model == "tiny" else ("steps", "batch_size", "learning_rate", "rank", "held_out", "resolution_buckets", "interval")
        ):
            assert all("  # " in each for each in lines if each.startswith(f"{key} = ")), key
        assert {each.partition(" = ")[0] for each in lines if "_path = " in each and "/models/" in each.partition("#")[0]} == {
            key for key, _, _ in (MODELS[model].paths if model != "tiny" else ())
        }


def test_the_two_models_of_one_layout_differ_in_what_they_are_called_alone() -> None:
    for name in MODES:
        older = asked(name, "2.0", CLIPS).replace("LTX-2 (19B)", "LTX-2.3 (22B)").replace("ltx-2-19b", "ltx-2.3-22b")
        older = older.replace("Lightricks/LTX-2\n", "Lightricks/LTX-2.3\n")
        assert [" ".join(each.split()) for each in older.splitlines()] == [
            " ".join(each.split()) for each in asked(name, "2.3", CLIPS).splitlines()
        ]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Path]]:
    """Small models in the layout of released ones, as the keys of `[model]`."""

    @functools.cache
    def made(name: str) -> dict[str, Path]:
        return {"2.3": unified, "2.5": split}[name](tmp_path_factory.mktemp("model")) if name != "tiny" else {}

    return made


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five clips with all that any mode needs."""
    return write_world(tmp_path_factory.mktemp("world"), "train", 5)


def problems(path: Path, settings: list[str]) -> list[str]:
    """What the check finds, but for a package that is not installed here."""
    try:
        check_run(read_run(path, settings))
    except LtxError as error:
        return [
            problem.what
            for problem in error.problems
            if not problem.what.endswith("needs the package bitsandbytes, which is not installed")
        ]
    return []


CHECKED = [
    *((name, "tiny") for name in MODES),
    *sampled([(name, "2.5") for name in MODES], 2),
    *(pytest.param(name, "2.3", marks=pytest.mark.slow) for name in drawn(MODES, 2)),
]


@pytest.mark.parametrize(("name", "model"), CHECKED)
def test_what_is_written_for_clips_passes_the_check_once_the_models_files_are_named(
    name: str, model: str, small: Callable[[str], dict[str, Path]], dataset: Path, tmp_path: Path
) -> None:
    with bars(False) as phase:
        clips, _ = look(dataset, MODES[name], load(), phase)
    assert (clips.count, clips.sizes, clips.rate) == (5, (Bucket(64, 64, 17),), 16.0)
    path = tmp_path / "run.toml"
    path.write_text(text(Request(MODES[name], model, MODES[name].purpose, "run.toml", str(dataset), clips)))
    to_here = f"output_dir={tmp_path / 'out'}"
    assert problems(path, [to_here, *(f"model.{key}={file}" for key, file in small(model).items())]) == []
    if model != "tiny":
        assert problems(path, [to_here]) == [f"there is no file or folder {place}" for _, place, _ in MODELS[model].paths]


@pytest.mark.parametrize("word", WORDS)
def test_what_a_lora_is_for_decides_its_rank_rate_and_steps(word: str, tmp_path: Path) -> None:
    name = next(name for name, mode in MODES.items() if suits(word, mode))
    config = configured(asked(name, clips=CLIPS, purpose=word), tmp_path)
    means = PURPOSES[word]
    assert (config.lora.rank, config.optimization.learning_rate) == (means.rank, float(means.learning_rate))
    assert means.fewest <= config.optimization.steps <= means.most
    assert config.data.held_out == 2
    assert config.preprocessing.resolution_buckets == "768x448x89;448x768x121"


def configured(written: str, folder: Path) -> RunFile:
    """The keys of a run file whose paths are all there."""
    for key, place, _ in MODELS["2.3"].paths:
        there = folder / Path(place).name
        there.mkdir(exist_ok=True) if key == "text_encoder_path" else there.touch()
    (folder / "clips").mkdir(exist_ok=True)
    (folder / "run.toml").write_text(written.replace("/models/", f"{folder}/"))
    return load_run(folder / "run.toml").config


def test_samples_are_drawn_where_text_alone_says_what_is_to_be_generated(tmp_path: Path) -> None:
    drawn = {name: configured(asked(name, clips=CLIPS), tmp_path).validation for name in MODES}
    with_samples = {name for name, validation in drawn.items() if validation.samples}
    assert with_samples == {"t2v", "t2v_low_vram", "i2v", "t2a", "full_finetune", "full_finetune_zero3"}
    assert {drawn[name].samples[0].prompt for name in with_samples} == {CLIPS.caption}
    assert (drawn["t2v"].video_dims, drawn["t2v"].frame_rate) == ((448, 768, 121), 29.97)


def test_comments_stand_in_a_column_as_far_as_lines_leave_the_room() -> None:
    assert line("steps = 2", "why") == "steps = 2".ljust(35) + "# why"
    assert line("x" * 40, "why") == "x" * 40 + "   # why"
    assert line("steps = 2") == "steps = 2"
