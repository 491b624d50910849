"""Base models known by their configuration alone: those that were released are those of the tables of their real files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ltxcore.errors import ConfigError
from ltxcore.models.base import RELEASED, base_of, released
from ltxcore.models.connectors import connector_arguments
from ltxcore.models.transformer_settings import diffusers_arguments

REAL = json.loads((Path(__file__).parent / "real_configs.json").read_text())
TABLES = json.loads((Path(__file__).parents[1] / "codecs" / "official" / "model_configs.json").read_text())
GENERATIONS = {"ltx-2-19b": "2.0", "ltx-2.3-22b": "2.3", "ltx-2.5-22b": "2.5"}
NOT_OF_THE_ARITHMETIC = {"perturbed_attn"}


@pytest.mark.parametrize("name", RELEASED)
def test_a_released_model_is_that_of_its_file(name: str) -> None:
    base = released(name)
    generation = GENERATIONS[name]
    assert base.info.generation == generation
    found = diffusers_arguments(base.transformer, name)
    assert {key: found[key] for key in REAL[generation] if key not in NOT_OF_THE_ARITHMETIC} == {
        key: value if not isinstance(found[key], tuple) else tuple(value)
        for key, value in REAL[generation].items()
        if key not in NOT_OF_THE_ARITHMETIC
    }


@pytest.mark.parametrize("name", RELEASED)
def test_its_connectors_have_the_sizes_of_the_real_ones(name: str) -> None:
    told = TABLES["connectors"][GENERATIONS[name]]["diffusers_config"]
    for modality in ("video", "audio"):
        found = connector_arguments(released(name).transformer, modality, name)
        for key in ("num_attention_heads", "attention_head_dim", "num_layers", "num_learnable_registers"):
            assert found[key] == told[f"{modality}_connector_{key}"], key
        assert found["gated_attention"] == told[f"{modality}_gated_attn"]


def test_a_sketch_has_the_blocks_that_are_asked_for_and_no_memory() -> None:
    backbone = released("ltx-2.3-22b").sketch(frozenset({"audio"}), 2)
    assert len(backbone.transformer.transformer_blocks) == 2
    assert {parameter.device for parameter in backbone.parameters()} == {torch.device("meta")}


def test_the_small_model_is_known_like_any_file() -> None:
    base = base_of("tiny")
    assert base.num_layers == 4
    assert base.context_widths == {"video": 128, "audio": 128}
    assert base.token_widths == {"video": 128, "audio": 128}
    assert base.connector_numbers({"video"}) == 0


def test_a_name_that_was_not_released_is_refused() -> None:
    with pytest.raises(ConfigError) as error:
        released("ltx-3")
    assert str(error.value) == '--model: no released model is called "ltx-3"\n    Known: ltx-2-19b, ltx-2.3-22b, ltx-2.5-22b.'
