import json
import re
from pathlib import Path

import pytest
import torch

from helpers.golden_models import golden_config, golden_weights
from ltxcore.models.parameter_names import is_needed, stream_of, to_diffusers, to_original

REAL = json.loads((Path(__file__).parent / "real_configs.json").read_text())

PAIRS = [
    ("patchify_proj.weight", "proj_in.weight"),
    ("audio_patchify_proj.bias", "audio_proj_in.bias"),
    ("adaln_single.emb.timestep_embedder.linear_1.weight", "time_embed.emb.timestep_embedder.linear_1.weight"),
    ("audio_adaln_single.linear.weight", "audio_time_embed.linear.weight"),
    ("prompt_adaln_single.linear.bias", "prompt_adaln.linear.bias"),
    ("audio_prompt_adaln_single.linear.bias", "audio_prompt_adaln.linear.bias"),
    ("av_ca_video_scale_shift_adaln_single.linear.weight", "av_cross_attn_video_scale_shift.linear.weight"),
    ("av_ca_audio_scale_shift_adaln_single.linear.weight", "av_cross_attn_audio_scale_shift.linear.weight"),
    ("av_ca_a2v_gate_adaln_single.linear.weight", "av_cross_attn_video_a2v_gate.linear.weight"),
    ("av_ca_v2a_gate_adaln_single.linear.weight", "av_cross_attn_audio_v2a_gate.linear.weight"),
    ("transformer_blocks.7.scale_shift_table_a2v_ca_video", "transformer_blocks.7.video_a2v_cross_attn_scale_shift_table"),
    ("transformer_blocks.7.scale_shift_table_a2v_ca_audio", "transformer_blocks.7.audio_a2v_cross_attn_scale_shift_table"),
    ("transformer_blocks.7.attn1.q_norm.weight", "transformer_blocks.7.attn1.norm_q.weight"),
    ("transformer_blocks.7.audio_to_video_attn.k_norm.weight", "transformer_blocks.7.audio_to_video_attn.norm_k.weight"),
    ("transformer_blocks.7.audio_attn2.to_out.0.weight", "transformer_blocks.7.audio_attn2.to_out.0.weight"),
    ("transformer_blocks.7.ff.net.0.proj.weight", "transformer_blocks.7.ff.net.0.proj.weight"),
    ("transformer_blocks.7.scale_shift_table", "transformer_blocks.7.scale_shift_table"),
    ("caption_projection.linear_1.weight", "caption_projection.linear_1.weight"),
    ("keyframes_abs_pos_embedding", "keyframes_abs_pos_embedding"),
    ("audio_proj_out.weight", "audio_proj_out.weight"),
]


@pytest.mark.parametrize(("original", "diffusers"), PAIRS)
def test_a_name_is_translated_both_ways(original, diffusers):
    assert to_diffusers(original) == diffusers
    assert to_original(diffusers) == original


def test_the_page_on_model_files_lists_every_segment_that_differs():
    page = (Path(__file__).parents[2] / "docs" / "explanation" / "model-files.md").read_text()
    table = page.partition("### Names of the transformer's tensors")[2].partition("\nWithin ")[0]
    rows = [[re.findall(r"`([^`]+)`", cell) for cell in line.split("|")[1:3]] for line in table.splitlines() if line.startswith("| `")]
    listed = {pair for originals, renamed in rows for pair in zip(originals, renamed, strict=True)}
    assert listed == {pair for names in PAIRS for pair in zip(*(name.split(".") for name in names), strict=True) if pair[0] != pair[1]}


def test_only_whole_segments_are_translated():
    assert to_diffusers("my_patchify_proj.weight") == "my_patchify_proj.weight"
    assert to_diffusers("transformer_blocks.0.attn1.q_norm_extra.weight") == "transformer_blocks.0.attn1.q_norm_extra.weight"
    assert to_diffusers("text.adaln_single.weight") == "text.adaln_single.weight"


@pytest.mark.parametrize("generation", ["2.0", "2.3", "2.5"])
def test_the_names_of_a_real_model_come_back_from_the_originals(generation):
    from diffusers import LTX2VideoTransformer3DModel

    with torch.device("meta"):
        model = LTX2VideoTransformer3DModel(**REAL[generation] | {"num_layers": 2})
    names = [name for name, _ in model.named_parameters()]
    originals = [to_original(name) for name in names]
    assert len(set(originals)) == len(names)
    assert [to_diffusers(name) for name in originals] == names


@pytest.mark.parametrize("name", ["A", "B", "C"])
def test_the_names_of_a_golden_checkpoint_are_those_of_diffusers_model(name):
    from diffusers import LTX2VideoTransformer3DModel

    from ltxcore.models.transformer_settings import diffusers_arguments

    with torch.device("meta"):
        model = LTX2VideoTransformer3DModel(**diffusers_arguments(golden_config(name), name))
    assert {to_diffusers(key) for key in golden_weights(name)} == {key for key, _ in model.named_parameters()}


@pytest.mark.parametrize(
    ("name", "stream"),
    [
        ("proj_in.weight", "video"),
        ("audio_proj_in.weight", "audio"),
        ("scale_shift_table", "video"),
        ("audio_scale_shift_table", "audio"),
        ("keyframes_abs_pos_embedding", "video"),
        ("audio_prompt_adaln.linear.weight", "audio"),
        ("av_cross_attn_audio_v2a_gate.linear.weight", "cross"),
        ("cross_attn_audio_rope", "cross"),
        ("transformer_blocks.3.attn1.to_k", "video"),
        ("transformer_blocks.3.audio_attn1.to_k", "audio"),
        ("transformer_blocks.3.audio_to_video_attn.to_k", "cross"),
        ("transformer_blocks.3.video_to_audio_norm", "cross"),
        ("transformer_blocks.3.audio_a2v_cross_attn_scale_shift_table", "cross"),
        ("transformer_blocks.3.video_a2v_cross_attn_scale_shift_table", "cross"),
        ("transformer_blocks.3.audio_prompt_scale_shift_table", "audio"),
    ],
)
def test_a_parameter_belongs_to_one_stream(name, stream):
    assert stream_of(name) == stream


def test_one_modality_needs_its_own_stream_only_and_two_need_everything():
    names = {"video": "proj_in", "audio": "audio_proj_in", "cross": "av_cross_attn_video_a2v_gate"}
    assert [s for s, name in names.items() if is_needed(name, {"video"})] == ["video"]
    assert [s for s, name in names.items() if is_needed(name, {"audio"})] == ["audio"]
    assert [s for s, name in names.items() if is_needed(name, {"video", "audio"})] == ["video", "audio", "cross"]
