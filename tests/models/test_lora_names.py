"""The names of the tensors of LoRA files lead back to the modules of the model."""

from __future__ import annotations

import pytest

from ltxcore.models.base import released
from ltxcore.models.lora_names import layout_of, parsed, with_dots
from ltxcore.models.parameter_names import to_original

ENDINGS = {"lora_down.weight": "lora_A", "alpha": "alpha"}


@pytest.mark.parametrize("model", ["ltx-2-19b", "ltx-2.3-22b"])
def test_every_linear_module_is_found_by_its_path_without_dots(model: str) -> None:
    linears = released(model).sketch(frozenset({"video", "audio"}), 12).blueprint.linears
    assert "transformer_blocks.11.audio_to_video_attn.to_out.0" in linears
    for path in linears:
        for name in (path, to_original(path)):
            assert with_dots(name.replace(".", "_")) == name
            for prefix in ("lora_unet_", "lora_unet_model_", "lora_unet_diffusion_model_", "lycoris_"):
                assert parsed(f"{prefix}{name.replace('.', '_')}.lora_down.weight", ENDINGS) == (path, "lora_A")


@pytest.mark.parametrize(
    "name",
    [
        "lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight",
        "lora_unet_double_blocks_0_img_attn_qkv.alpha",
        "base_model.model.model.layers.0.self_attn.q_proj.lora_down.weight",
        "lora_te_text_model_encoder_layers_0_mlp_fc1.alpha",
    ],
)
def test_a_name_of_another_model_is_not_known(name: str) -> None:
    assert parsed(name, ENDINGS) == (name, "")


def test_the_layouts_are_told_apart() -> None:
    names = ["lora_unet_transformer_blocks_0_attn1_to_q.alpha", "lycoris_transformer_blocks_0_attn1_to_q.alpha"]
    assert {layout_of(name) for name in names} == {"names without dots, as kohya's programs write them"}
    assert layout_of("base_model.model.transformer_blocks.0.attn1.to_q.lora_A.weight") == "PEFT"
