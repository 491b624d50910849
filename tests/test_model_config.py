"""Configurations of models that are damaged, or far too large, are refused in words."""

from __future__ import annotations

from typing import Any

import pytest

from ltxcore.errors import CheckpointError, ConfigError
from ltxcore.model_config import building, check_sizes, json_object
from ltxcore.models.build import meta_model
from ltxcore.models.tiny_model import TINY


@pytest.mark.parametrize("text", ["", "[]", "{", "1", "[" * 100_000, '{"a":' * 100_000, f'{{"a": {"9" * 5000}}}'])
def test_what_is_no_object_of_json_is_none(text: str) -> None:
    assert json_object(text) is None


def test_an_object_of_json_is_read() -> None:
    assert json_object('{"a": [1]}') == {"a": [1]}


def test_numbers_that_no_model_has_are_all_named() -> None:
    config = {"transformer": {"num_layers": 10**9, "in_channels": 128}, "vae": [{"layers_per_block": [1, 5000]}, {"patch": 10**400}]}
    with pytest.raises(CheckpointError) as error:
        check_sizes(config, "a.safetensors")
    assert sorted(str(error.value).splitlines()[::2]) == [
        "a.safetensors: the configuration says layers_per_block = 5000, which is more than any model has",
        "a.safetensors: the configuration says num_layers = 1000000000, which is more than any model has",
        f"a.safetensors: the configuration says patch = 1{'0' * 29}, which is more than any model has",
    ]


@pytest.mark.parametrize(
    "changed",
    [
        {"num_layers": "many"},
        {"num_attention_heads": -1},
        {"attention_head_dim": None},
        {"in_channels": [1]},
        {"positional_embedding_max_pos": 20},
        {"positional_embedding_max_pos": [20, 2048]},
        {"audio_positional_embedding_max_pos": []},
        {"num_layers": 10**9},
    ],
    ids=str,
)
def test_a_transformer_whose_settings_are_not_what_they_should_be_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError) as error:
        meta_model({**TINY, **changed}, "a.safetensors")
    assert str(error.value).startswith("a.safetensors: the configuration ")


def test_what_is_said_in_words_already_stays_as_it_is() -> None:
    with pytest.raises(ConfigError, match=r"^b: x$"), building("a model", "a"):
        raise ConfigError("x", where="b")


def test_what_the_builders_raise_is_said_with_what_it_is() -> None:
    with pytest.raises(CheckpointError) as error, building("a video VAE", "a"):
        raise TypeError("int() argument\nmust be")
    what = "the configuration is damaged, or does not describe a video VAE (TypeError: int() argument)"
    assert str(error.value) == f"a: {what}\n    Download or copy the file again."
