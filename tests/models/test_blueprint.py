"""Names and shapes that are worked out are those of the model that is built."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from ltxcore.errors import CheckpointError
from ltxcore.models.base import RELEASED
from ltxcore.models.blueprint import blueprint_of_config
from ltxcore.models.build import blueprint_of, meta_model
from ltxcore.models.tiny_model import TINY

ODD = {
    **TINY,
    "num_layers": 2,
    "num_attention_heads": 3,
    "attention_head_dim": 20,
    "audio_num_attention_heads": 5,
    "audio_attention_head_dim": 8,
    "cross_attention_dim": 70,
    "audio_cross_attention_dim": 30,
    "in_channels": 17,
    "out_channels": 19,
    "audio_in_channels": 23,
    "audio_out_channels": 29,
    "caption_channels": 31,
}
"""No two sizes alike, so that none can be taken for another."""

CHANGES: dict[str, dict[str, Any]] = {
    "plain": {},
    "gated": {"apply_gated_attention": True},
    "modulated": {"cross_attention_adaln": True},
    "modulated without prompt": {"cross_attention_adaln": True, "use_prompt_adaln_single": False},
    "captions projected": {"caption_proj_before_connector": False},
    "marked": {"use_keyframes_abs_pos_embedding": True},
    "no bias": {"attention_bias": False, "ff_bias": False, "audio_ff_bias": False},
    "another activation": {"activation_fn": "geglu"},
    "normalised": {"norm_elementwise_affine": True},
}


@pytest.mark.parametrize("change", CHANGES)
def test_names_shapes_and_linear_modules_are_those_of_the_model(change: str) -> None:
    config = {**ODD, **CHANGES[change]}
    found, expected = blueprint_of_config(config, "odd"), blueprint_of(meta_model(config, "odd"))
    assert list(found.shapes.items()) == list(expected.shapes.items())
    assert found.linears == expected.linears


@pytest.mark.parametrize("name", RELEASED)
def test_names_and_shapes_of_released_models_are_those_of_the_model(name: str) -> None:
    config = {**RELEASED[name], "num_layers": 2}
    found, expected = blueprint_of_config(config, name), blueprint_of(meta_model(config, name))
    assert list(found.shapes.items()) == list(expected.shapes.items())
    assert found.linears == expected.linears


def test_settings_of_another_kind_are_refused_by_the_model_itself() -> None:
    with pytest.raises(CheckpointError, match="the configuration is damaged, or does not describe a transformer"):
        blueprint_of_config({**TINY, "in_channels": "many"}, "here")


def test_the_model_is_not_built_for_it() -> None:
    code = (
        "import sys; from ltxcore.models.blueprint import blueprint_of_config as found; from ltxcore.models.base import RELEASED;"
        "assert len(found(RELEASED['ltx-2.3-22b'], 'x').shapes) > 4000; assert 'diffusers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
