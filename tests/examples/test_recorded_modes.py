"""The strategies of the run files agree with what was recorded of their modes; and a LoRA of scaled references says so."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import attrs
import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open

from helpers.golden_draws import Recorded, assert_as_recorded, batch_of, setting_of
from helpers.golden_io import Case, load_case
from ltxcore.cli.main import main
from ltxcore.conditions import ConditionUse
from ltxcore.config.load import load_run
from ltxcore.modality_tables import ModalityTable
from ltxcore.strategy import Flexible

EXAMPLES = Path(__file__).parents[2] / "examples"
RECORDED = {
    "t2v": "t2v.fps24",
    "t2v_low_vram": "t2v.fps24",
    "i2v": "i2v_first_frame.p05.A",
    "video_extend": "video_prefix2.fps24",
    "video_suffix": "video_suffix1.fps24",
    "v2v_ic": "v2v_ic_first_frame.fps24",
    "a2v": "a2v.fps24",
    "v2a": "v2a.fps24",
    "video_inpainting": "video_mask",
    "video_outpainting": "spatial_crop_aligned",
    "t2a": "t2a",
    "audio_extend": "audio_prefix10",
    "audio_suffix": "audio_suffix7",
    "audio_inpainting": "audio_mask",
    "a2a_ic": "a2a_ic",
    "av2av_ic": "av2av_ic",
}
"""By run file, a recording of its mode."""

WITHOUT_SOUND = ("video_inpainting", "video_outpainting")
"""Modes that generate sound too, recorded without it. It has no condition: `t2v` is the recording of it."""


def recorded_tables(mode: str, case: Case) -> dict[str, ModalityTable]:
    """What the run file trains of the modalities that were recorded, with numbers such as a prefix's length as they were then."""
    strategy = load_run(EXAMPLES / f"{mode}.toml").config.training_strategy
    assert isinstance(strategy, Flexible)
    assert set(strategy.tables) - set(case.config["strategy"]) == ({"audio"} if mode in WITHOUT_SOUND else set())
    return {
        name: as_recorded(table, case.config["strategy"].get(name))
        for name, table in strategy.tables.items()
        if name in case.config["strategy"]
    }


def as_recorded(table: ModalityTable, recorded: Mapping) -> ModalityTable:
    by_type = {condition["type"]: condition for condition in recorded.get("conditions", [])}
    assert (table.is_generated, table.latents_dir, {use.type for use in table.conditions}) == (
        recorded["is_generated"],
        recorded["latents_dir"],
        set(by_type),
    )

    def same(use: ConditionUse) -> ConditionUse:
        wanted = by_type[use.type]
        assert use.sources == {role: wanted[key] for role, key in keys_of(use).items()}
        fields = {field.name for field in attrs.fields(type(use.condition)) if field.init}
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in wanted.items() if name in fields}
        return attrs.evolve(use, condition=attrs.evolve(use.condition, **values), probability=wanted.get("probability", 1.0))

    return attrs.evolve(table, conditions=[same(use) for use in table.conditions])


def keys_of(use: ConditionUse) -> dict[str, str]:
    """The key that names the source of each role of a condition."""
    return {role.name: role.source_key for role in getattr(type(use.condition), "roles", ())}


def renamed(draws: Mapping[str, torch.Tensor], tables: Mapping[str, ModalityTable], recorded: Mapping) -> dict[str, torch.Tensor]:
    """Recorded draws under the places that conditions have in the run file, which may list them in another order."""
    places = {}
    for name, table in tables.items():
        old = [condition["type"] for condition in recorded[name].get("conditions", [])]
        places |= {f"{name}.cond{old.index(use.type)}.{use.type}": f"{name}.cond{i}.{use.type}" for i, use in enumerate(table.conditions)}
    found = {}
    for key, draw in draws.items():
        place, _, what = key.rpartition(".")
        found[f"{places.get(place, place)}.{what}"] = draw
    return found


@pytest.mark.parametrize("mode", RECORDED)
def test_the_strategy_of_a_run_file_makes_of_a_batch_what_was_recorded(mode: str) -> None:
    case = load_case("01_flexible", RECORDED[mode])
    tables = recorded_tables(mode, case)
    strategy = Flexible(**tables).build(setting_of(case.config))
    given = batch_of(case, strategy)
    prepared = strategy.prepare(given, Recorded(renamed(case.draws, tables, case.config["strategy"]), len(given.names)))
    assert set(prepared) == set(case.config["strategy"])
    assert_as_recorded(case, prepared)


@pytest.mark.parametrize("mode", WITHOUT_SOUND)
def test_sound_beside_a_picture_that_is_given_in_part_is_generated_as_in_text_to_video(mode: str) -> None:
    tables = load_run(EXAMPLES / f"{mode}.toml").config.training_strategy.tables
    assert tables["audio"] == load_run(EXAMPLES / "t2v.toml").config.training_strategy.tables["audio"]


def test_a_lora_of_references_at_half_size_says_so_from_the_command_line_to_its_metadata(tmp_path: Path) -> None:
    subprocess.run([sys.executable, EXAMPLES / "make_world.py", "--count", "4", "--out", tmp_path], check=True, capture_output=True)
    dataset, root = tmp_path / "clips.jsonl", tmp_path / "encoded"
    command = ["preprocess", str(dataset), "--model-path", "tiny", "--resolution-buckets", "64x64x17", "--reference-downscale-factor", "2"]
    done = CliRunner().invoke(main, [*command, "--output-dir", str(root)])
    assert done.exit_code == 0, done.output
    text = (EXAMPLES / "v2v_ic.toml").read_text().replace('dataset = "media/clips.jsonl"', f'preprocessed_data_root = "{root}"')
    (tmp_path / "run.toml").write_text(text)
    settings = {
        "output_dir": tmp_path / "out",
        "data.held_out": 0,
        "optimization.steps": 1,
        "optimization.batch_size": 2,
        "validation.inference_steps": 2,
    }
    sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    done = CliRunner().invoke(main, ["run", str(tmp_path / "run.toml"), *sets])
    assert done.exit_code == 0, done.output
    with safe_open(tmp_path / "out" / "lora.safetensors", "pt") as lora:
        said = {key: value for key, value in lora.metadata().items() if key.startswith("reference_")}
    assert said == {"reference_downscale_factor": "2", "reference_spatial_scale_factor": "2"}
