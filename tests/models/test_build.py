"""Real configurations, on the meta device: how large they are, and how much of them a run of one modality holds."""

from math import prod

import pytest
import torch

from ltxcore.errors import CheckpointError, ConfigError
from ltxcore.models.backbone import ModelInfo
from ltxcore.models.build import build
from ltxcore.models.parameter_names import is_needed

OLDER = {
    "num_layers": 48,
    "rope_type": "split",
    "frequencies_precision": "float64",
    "av_ca_timestep_scale_multiplier": 1000,
}
NEWER = OLDER | {"apply_gated_attention": True, "cross_attention_adaln": True, "caption_proj_before_connector": True}
GENERATIONS = {"2.0": OLDER, "2.3": NEWER, "2.5": NEWER | {"ff_bias": False, "use_keyframes_abs_pos_embedding": True}}


def built(generation, modalities):
    return build(GENERATIONS[generation], ModelInfo("real", generation, "", 48), frozenset(modalities))


def billions(shapes, modalities):
    return round(sum(prod(shape) for name, shape in shapes.items() if is_needed(name, modalities)) / 1e9, 2)


@pytest.mark.parametrize(
    ("generation", "whole", "video", "audio"),
    [("2.0", 18.88, 13.04, 3.27), ("2.3", 18.99, 13.12, 3.29), ("2.5", 18.99, 13.12, 3.29)],
)
def test_a_real_model_has_the_size_that_is_known_and_one_modality_a_part_of_it(generation, whole, video, audio):
    shapes = built(generation, {"audio"}).blueprint.shapes
    assert billions(shapes, {"video", "audio"}) == whole
    assert billions(shapes, {"video"}) == video
    assert billions(shapes, {"audio"}) == audio


@pytest.mark.parametrize(("modality", "size"), [("video", 13.04), ("audio", 3.27)])
def test_a_run_of_one_modality_holds_that_part_and_no_more(modality, size):
    backbone = built("2.0", {modality})
    assert round(sum(p.numel() for p in backbone.parameters()) / 1e9, 2) == size


def test_the_older_model_has_exactly_as_many_parameters_as_is_known():
    backbone = built("2.0", {"video", "audio"})
    assert sum(p.numel() for p in backbone.parameters()) == 18_876_174_592
    assert {p.device for p in backbone.parameters()} == {torch.device("meta")}


def test_an_audio_run_holds_no_parameter_of_the_video_stream_or_of_the_attention_between_the_two():
    names = [name for name, _ in built("2.3", {"audio"}).named_parameters()]
    parts = {name.split(".")[3 if "transformer_blocks" in name else 1] for name in names}
    assert all(part.startswith("audio_") for part in parts)
    assert not any("a2v" in part or part.startswith("audio_to_video") for part in parts)


@pytest.mark.parametrize("modalities", [set(), {"text"}, {"video", "smell"}])
def test_modalities_that_do_not_exist_are_refused(modalities):
    with pytest.raises(ConfigError) as error:
        built("2.0", modalities)
    assert str(error.value) == (f'a model cannot be loaded for the modalities {sorted(modalities)}\n    Use "video", "audio" or both.')


def test_settings_that_are_not_known_are_refused_before_anything_is_built():
    with pytest.raises(CheckpointError) as error:
        build({"positional_embedding_type": "learned"}, ModelInfo("a.safetensors", "2.0", "", 48), frozenset({"video"}))
    assert str(error.value) == (
        'a.safetensors: the transformer\'s setting positional_embedding_type = "learned" is not known (known: "rope")'
    )
