"""Which modules a run's LoRA targets name, and what is said of those that name none."""

import pytest
import torch

from ltxcore.errors import ConfigError
from ltxcore.models.backbone import ModelInfo
from ltxcore.models.build import build
from ltxcore.models.load_base import load_backbone
from ltxcore.models.targets import matches, resolve_targets
from models.test_build import GENERATIONS

AUDIO = (
    "These would match: audio_attn1.to_k, audio_attn1.to_out.0, audio_attn1.to_q, audio_attn1.to_v, audio_attn2.to_k, audio_attn2.to_out.0, "
    "audio_attn2.to_q, audio_attn2.to_v, audio_ff.net.0.proj, audio_ff.net.2."
)
SHORT = ["to_k", "to_q", "to_v", "to_out.0"]
OF_AUDIO = [f"audio_attn{i}.{part}" for i in (1, 2) for part in SHORT] + ["audio_ff.net.0.proj", "audio_ff.net.2"]
OF_VIDEO = [f"attn{i}.{part}" for i in (1, 2) for part in SHORT]


def tiny(*modalities):
    return load_backbone("tiny-untrained", frozenset(modalities), dtype=torch.float32)


def message(backbone, targets, reachable=None):
    with pytest.raises(ConfigError) as error:
        resolve_targets(backbone, targets, reachable)
    return str(error.value)


def test_a_target_names_the_modules_whose_path_ends_with_it():
    assert matches("transformer_blocks.0.attn1.to_k", "attn1.to_k")
    assert matches("transformer_blocks.0.attn1.to_k", "transformer_blocks.0.attn1.to_k")
    assert not matches("transformer_blocks.0.audio_attn1.to_k", "attn1.to_k")
    assert not matches("transformer_blocks.0.audio_ff.net.2", "ff.net.2")


def test_a_target_may_be_written_in_the_names_of_a_checkpoint_or_of_diffusers():
    assert matches("proj_in", "patchify_proj")
    assert matches("proj_in", "proj_in")
    assert matches("time_embed.linear", "adaln_single.linear")


@pytest.mark.parametrize(
    ("targets", "modalities", "layers"),
    [
        (SHORT, {"video", "audio"}, 1152),
        (OF_VIDEO, {"video"}, 384),
        ([*OF_VIDEO, "ff.net.0.proj", "ff.net.2"], {"video"}, 480),
        (OF_AUDIO, {"audio"}, 480),
        ([*OF_AUDIO, *(f"video_to_audio_attn.{part}" for part in SHORT)], {"video", "audio"}, 672),
    ],
)
def test_the_usual_lists_name_as_many_modules_of_a_real_model_as_is_known(targets, modalities, layers):
    backbone = build(GENERATIONS["2.0"], ModelInfo("real", "2.0", "", 48), frozenset(modalities))
    assert len(resolve_targets(backbone, targets).adapted) == layers


def test_a_short_target_names_modules_of_the_loaded_modality_only():
    found = resolve_targets(tiny("audio"), ["to_k"]).adapted
    assert found == tuple(f"transformer_blocks.{i}.audio_attn{j}.to_k" for i in range(4) for j in (1, 2))


def test_modules_that_no_loss_reaches_are_left_out_and_named():
    backbone = tiny("audio")
    reachable = {name for name, _ in backbone.named_parameters()} - {"transformer.transformer_blocks.3.audio_ff.net.2.weight"}
    found = resolve_targets(backbone, ["audio_ff.net.2"], reachable)
    assert found.adapted == tuple(f"transformer_blocks.{i}.audio_ff.net.2" for i in range(3))
    assert found.unreachable == ("transformer_blocks.3.audio_ff.net.2",)


def test_targets_that_no_loss_reaches_at_all_are_refused():
    assert message(tiny("audio"), ["audio_ff.net.2", "to_k"], reachable=set()) == (
        "lora.target_modules: no loss of this run can reach any of the LoRA targets: audio_ff.net.2, to_k\n"
        "    Name modules of a modality that is generated."
    )


def test_a_target_with_a_slip_of_the_pen_is_refused_with_what_was_meant():
    assert message(tiny("audio"), ["audio_attn1.to_kk", "to_k"]) == (
        'lora.target_modules: the LoRA target "audio_attn1.to_kk" does not match any module\n    Did you mean "audio_attn1.to_k"?'
    )


def test_a_target_that_resembles_nothing_is_refused_with_all_that_would_match():
    assert message(tiny("audio"), ["zzz"]) == f'lora.target_modules: the LoRA target "zzz" does not match any module\n    {AUDIO}'


def test_a_group_of_modules_is_refused_with_what_is_in_it():
    assert message(tiny("audio"), ["audio_ff"]) == (
        'lora.target_modules: the LoRA target "audio_ff" does not match any module\n'
        "    It is a group of modules; it contains: audio_ff.net.0.proj, audio_ff.net.2."
    )


def test_every_target_that_names_only_a_modality_the_run_does_not_have_is_refused():
    assert message(tiny("audio"), ["attn1.to_k", "audio_to_video_attn.to_k", "audio_attn1.to_k"]) == (
        'lora.target_modules: the LoRA target "attn1.to_k" matches only modules of video, but this run has only audio\n'
        f"    {AUDIO}\n"
        'lora.target_modules: the LoRA target "audio_to_video_attn.to_k" matches only modules of the attention between video and audio, '
        "but this run has only audio\n"
        f"    {AUDIO}"
    )


def test_no_target_at_all_is_refused():
    assert message(tiny("audio"), []) == f"lora.target_modules: there are no LoRA targets\n    {AUDIO}"


# ---------------------------------------------------------------- auto


@pytest.mark.parametrize(
    ("modalities", "patterns"),
    [
        ({"video", "audio"}, ["to_k", "to_q", "to_v", "to_out.0"]),
        (
            {"video"},
            [f"{attention}.{name}" for attention in ("attn1", "attn2") for name in ("to_k", "to_q", "to_v", "to_out.0")]
            + ["ff.net.0.proj", "ff.net.2"],
        ),
        (
            {"audio"},
            [f"audio_{attention}.{name}" for attention in ("attn1", "attn2") for name in ("to_k", "to_q", "to_v", "to_out.0")]
            + ["audio_ff.net.0.proj", "audio_ff.net.2"],
        ),
    ],
)
def test_auto_is_what_the_modalities_of_a_run_suggest(modalities, patterns):
    backbone = load_backbone("tiny-untrained", frozenset(modalities), dtype=torch.float32)
    found = resolve_targets(backbone, "auto")
    assert found == resolve_targets(backbone, patterns)
    assert len(found.adapted) == {2: 96, 1: 40}[len(modalities)]
