"""All sixteen example configurations of ltx-trainer become run files that load and say the same."""

from __future__ import annotations

import copy
import random
import re
from pathlib import Path
from typing import Any

import attrs
import pytest
import tomli
import yaml

from helpers.sixteen_configs import MODES, configuration
from ltxcore.config.load import load_run
from ltxcore.config.run_file import RunFile
from ltxcore.errors import ConfigError
from ltxcore.runs.refusals import refusals
from ltxplugins.tools.convert.old import convert


def test_there_are_sixteen() -> None:
    assert len(MODES) == 16


@pytest.fixture(params=sorted(MODES))
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def config(name: str, tmp_path: Path) -> RunFile:
    """What the run file says."""
    old = configuration(name, tmp_path)
    done = convert(old, f"{name}.yaml", start=tmp_path, folder=tmp_path)
    assert done.remarks == ()
    path = tmp_path / "run.toml"
    path.write_text(done.text)
    return load_run(path).config


def test_the_strategy_is_the_same(name: str, config: RunFile) -> None:
    for modality in ("video", "audio"):
        block, table = getattr(MODES[name], modality), getattr(config.training_strategy, modality)
        assert (block is None) == (table is None)
        if block is None:
            continue
        assert table.is_generated == block["is_generated"]
        assert table.latents_dir == ("latents" if modality == "video" else "audio_latents")
        found = []
        for use in table.conditions:
            folders = {role.source_key: use.sources[role.name] for role in use.roles}
            fields = {key: list(value) if isinstance(value, tuple) else value for key, value in attrs.asdict(use.condition).items()}
            assert (fields.pop("level", 0.0), fields.pop("strength", 1.0)) == (0.0, 1.0)
            found.append({"type": use.type, "probability": use.probability, **fields, **folders})
        assert found == block.get("conditions", [])


def test_the_numbers_are_the_same(name: str, config: RunFile, tmp_path: Path) -> None:
    mode = MODES[name]
    rank = 16 if name == "t2v_lora_low_vram" else 32
    assert (config.lora.rank, config.lora.alpha, config.lora.target_modules) == (rank, rank, mode.targets)
    assert (config.optimization.learning_rate, config.optimization.steps) == ((2e-4, 3000) if mode.longer else (1e-4, 2000))
    assert (config.optimization.batch_size, config.optimization.enable_gradient_checkpointing) == (1, True)
    assert config.checkpoints.keep_last_n == (3 if mode.longer else -1)
    assert config.model.model_path == str(tmp_path / "model.safetensors")
    assert config.model.text_encoder_path == tmp_path / "gemma"
    assert config.data.preprocessed_data_root == tmp_path
    assert config.acceleration.quantization == ("int8-quanto" if "low_vram" in name else None)
    assert config.acceleration.load_text_encoder_in_8bit == ("low_vram" in name)
    assert config.wandb.tags[:2] == ["ltx2", "lora"]
    assert config.output_dir == Path.cwd() / "outputs" / name


def test_validation_is_the_same(name: str, config: RunFile, tmp_path: Path) -> None:
    mode, validation = MODES[name], config.validation
    scales = {"video_cfg_scale": 3.0, "audio_cfg_scale": 7.0, "video_modality_guidance_scale": 3.0, "audio_modality_guidance_scale": 3.0}
    for key, value in {**scales, **mode.scales}.items():
        assert getattr(validation, key) == value
    for modality in ("audio", "video"):
        # What was left out was true.
        wanted = mode.generate.get(f"generate_{modality}", True)
        table = getattr(config.training_strategy, modality)
        said = getattr(validation, f"generate_{modality}")
        assert (said if said is not None else table is not None and table.is_generated) == wanted
    assert validation.video_dims == ((576, 576, 49) if "low_vram" in name else (960, 544, 89))
    assert [sample.prompt for sample in validation.samples] == ["A bird sings.", "Rain on a roof."]
    for sample in validation.samples:
        drawn = [*(freeze.type for freeze in sample.frozen), *(each.type for each in sample.conditions)]
        assert drawn == [each["type"] for each in mode.sample]
        for condition, old in zip(sample.conditions, [each for each in mode.sample if each["type"] not in FREEZING], strict=True):
            assert condition.modality == ("audio" if "audio" in old else "video")
            assert condition.num_frames == old.get("num_frames")
            assert condition.duration == old.get("duration")
            assert condition.include_in_output == old.get("include_in_output", False)
            media = [old[key] for key in ("video", "audio", "image_or_video", "mask") if key in old]
            given = [*filter(None, [condition.medium]), *condition.media.values(), *condition.masks.values()]
            assert sorted(given) == sorted(tmp_path / file for file in media)


FREEZING = ("video_to_audio", "audio_to_video")


def test_a_configuration_that_is_damaged_is_converted_or_refused_in_words(tmp_path: Path) -> None:
    """Whatever stands where: the file that comes out is TOML, or a sentence says why there is none."""
    text = configuration("av2av_ic_lora", tmp_path)
    draw = random.Random(0)
    outcomes, told = {True: 0, False: 0}, list[str]()
    whole = yaml.safe_load(text)
    for _ in range(60):
        tree = copy.deepcopy(whole)
        for _ in range(draw.choice([1, 3])):
            _damage(tree, draw)
        try:
            tomli.loads(convert(yaml.safe_dump(tree), "old.yaml", start=tmp_path, folder=tmp_path).text)
            outcomes[True] += 1
        except ConfigError as error:
            told += [problem.where for problem in error.problems]
            outcomes[False] += 1
    assert min(outcomes.values()) > 10
    assert all(where.startswith("old.yaml") for where in told)


ODD = (None, True, -1, 0.5, "", "1e-4", "\x07\u2028", [], [None], {}, {"a": [{"b": None}]}, "2024-01-01", 10**30, float("nan"))


def _damage(tree: Any, draw: random.Random) -> None:
    """Put something odd in a random place."""
    inner = [each for each in (tree.values() if isinstance(tree, dict) else tree) if isinstance(each, (dict, list)) and each]
    if inner and draw.random() < 0.8:
        _damage(draw.choice(inner), draw)
        return
    place = draw.choice(list(tree)) if isinstance(tree, dict) else draw.randrange(len(tree))
    kind = draw.random()
    if kind < 0.3 and isinstance(tree, dict):
        tree[f"{place}s"] = tree.pop(place)
    elif kind < 0.5 and isinstance(tree, dict):
        del tree[place]
    else:
        tree[place] = draw.choice(ODD)


def test_nothing_of_it_is_refused_but_paths_and_packages_that_are_not_here(name: str, tmp_path: Path) -> None:
    old = configuration(name, tmp_path)
    done = convert(old, f"{name}.yaml", start=tmp_path, folder=tmp_path)
    text = re.sub("^(text_encoder|video_vae|audio_vae)_path = .*\n", "", done.text, flags=re.MULTILINE)
    text = re.sub('model_path = ".*"', 'model_path = "tiny"', text, count=1)
    media = {path.name for path in tmp_path.iterdir() if path.is_file() and path.name in text}
    for name_of_one in media:
        (tmp_path / name_of_one).unlink()
    found = refusals(text, tmp_path / "run.toml")
    assert found.anywhere == ()
    assert all(problem.what.startswith("there is no f") or "package bitsandbytes" in problem.what for problem in found.here)
    assert {path for path in media if any(problem.what.endswith(path) for problem in found.here)} == media
