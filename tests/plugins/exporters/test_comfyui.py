"""Files for ComfyUI: what it makes of their tensors, written down here once more, gives the weights that were trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from helpers.lora_files import export_for
from ltxcore.adapters import AdapterSettings
from ltxcore.api.exporters import AdaptedModule
from ltxcore.config.loras import Strength
from ltxcore.errors import LtxError
from ltxcore.models.adapter_types import adapter_of
from ltxcore.models.adapters import adapters, create_adapters, weight_of
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.load_base import load_backbone
from ltxcore.models.lora import lora_parameters, save_lora
from ltxcore.models.lora_stack import load_loras
from ltxcore.models.parameter_names import to_original
from ltxplugins.exporters import ComfyUI

EVERY: Mapping[str, AdapterSettings] = {
    "audio_proj_in": AdapterSettings(2, alpha=3.0, dropout=0.0),
    "transformer_blocks.0.audio_attn1.to_k": AdapterSettings(4, alpha=8.0, dropout=0.0),
    "transformer_blocks.1.audio_attn2.to_out.0": AdapterSettings(6, alpha=2.0, dropout=0.0),
    "transformer_blocks.2.audio_ff.net.0.proj": AdapterSettings(3, alpha=None, dropout=0.0),
    "transformer_blocks.3.audio_ff.net.2": AdapterSettings(70, alpha=70.0, dropout=0.0),
}
"""Attention and feed-forward, ranks by group, and alphas that are not the rank."""

KINDS: Mapping[str, dict[str, Any]] = {
    "lora": {},
    "lora by root": {"use_rslora": True},
    "dora": {},
    "dora by root": {"use_rslora": True},
    "lokr": {},
    "lokr both": {"factor": 8, "decompose_both": True},
    "loha": {},
    "pissa": {},
}


def trained(kind: str) -> LTXBackbone:
    backbone = load_backbone("tiny", frozenset({"audio"}), dtype=torch.float32)
    create_adapters(backbone, EVERY, adapter_of(kind.split()[0], **KINDS[kind]), seed=0)
    draws = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in lora_parameters(backbone).values():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=draws))
    return backbone


def as_comfyui_has_it(file: Mapping[str, Tensor], module: str, base: Tensor) -> Tensor:
    """The weight at a strength of 1: the change of the type whose names are there, times alpha / rank if there is an alpha; and if there is a
    dora_scale, the sum times it, divided by the lengths of the rows of the base and the float32 step.
    """
    own = {
        name.removeprefix(f"diffusion_model.{module}."): value
        for name, value in file.items()
        if name.startswith(f"diffusion_model.{module}.")
    }
    rank = None
    if "lora_A.weight" in own:
        rank, change = own["lora_A.weight"].shape[0], own["lora_B.weight"] @ own["lora_A.weight"]
    elif "hada_w1_a" in own:
        rank = own["hada_w1_b"].shape[0]
        change = torch.mul(own["hada_w1_a"] @ own["hada_w1_b"], own["hada_w2_a"] @ own["hada_w2_b"])
    else:
        factors = []
        for name in ("lokr_w1", "lokr_w2"):
            if name in own:
                factors.append(own[name])
            else:
                rank = own[f"{name}_b"].shape[0]
                factors.append(own[f"{name}_a"] @ own[f"{name}_b"])
        change = torch.einsum("ij,kl->ikjl", *factors).reshape(base.shape)
    alpha = float(own["alpha"]) / rank if "alpha" in own and rank is not None else 1.0
    whole = base + alpha * change
    if "dora_scale" in own:
        assert own["dora_scale"].shape == (base.shape[0], 1)
        whole = whole * (own["dora_scale"] / (base.square().sum(dim=1, keepdim=True).sqrt() + 2**-23))
    return whole


@pytest.mark.parametrize("kind", KINDS)
def test_what_comfyui_computes_is_what_was_trained(kind: str, tmp_path: Path) -> None:
    backbone = trained(kind)
    save_lora(backbone, tmp_path / "lora", metadata={}, dtype=torch.float32)
    export_for(tmp_path / "lora", tmp_path / "out", "comfyui", model="tiny")
    file = load_file(tmp_path / "out")
    for name, layer in adapters(backbone).items():
        base = weight_of(layer.linear).float()
        with torch.no_grad():
            expected = layer.adapter.weight(layer.module, base)
        off = float((as_comfyui_has_it(file, to_original(name), base) - expected).abs().max())
        assert off <= 1e-6 * float(expected.abs().max()), name
        assert float((expected - base).abs().max()) > 1e-3 * float(base.abs().max())


def test_in_bf16_a_factor_of_a_row_keeps_float32(tmp_path: Path) -> None:
    save_lora(trained("dora"), tmp_path / "lora", metadata={"trigger": "ltxworld"}, dtype=torch.float32)
    written = export_for(tmp_path / "lora", tmp_path / "out", "comfyui", model="tiny", dtype=torch.bfloat16)
    kinds = {(name.rpartition(".")[2], tensor.dtype) for name, tensor in load_file(tmp_path / "out").items()}
    assert kinds == {("weight", torch.bfloat16), ("dora_scale", torch.float32)}
    assert (written.dtype, written.metadata["trigger"], written.ranks) == ("bfloat16", "ltxworld", (2, 3, 4, 6, 70))


def test_a_dora_for_comfyui_needs_the_base_and_for_diffusers_it_is_as_saved(tmp_path: Path) -> None:
    save_lora(trained("dora"), tmp_path / "lora", metadata={}, dtype=torch.float32)
    with pytest.raises(LtxError) as error:
        export_for(tmp_path / "lora", tmp_path / "out", "comfyui")
    assert str(error.value).endswith(
        'the exporter "comfyui" needs the base model for adapters of the type "dora"\n    Name the model that the LoRA was trained on: --model MODEL.'
    )
    export_for(tmp_path / "lora", tmp_path / "out", "diffusers")
    saved, exported = load_file(tmp_path / "lora"), load_file(tmp_path / "out")
    assert saved.keys() == exported.keys()
    assert all(torch.equal(tensor, exported[name]) for name, tensor in saved.items())


@pytest.mark.parametrize("kind", ["dora", "dora by root"])
def test_a_dora_is_read_back_as_it_was_trained(kind: str, tmp_path: Path) -> None:
    backbone, again = trained(kind), load_backbone("tiny", frozenset({"audio"}), dtype=torch.float32)
    save_lora(backbone, tmp_path / "lora", metadata={}, dtype=torch.float32)
    export_for(tmp_path / "lora", tmp_path / "out", "comfyui", model="tiny")
    load_loras(again, [Strength(tmp_path / "out")])
    layers = adapters(again)
    assert layers.keys() == EVERY.keys()
    for name, layer in adapters(backbone).items():
        base = weight_of(layer.linear).float()
        with torch.no_grad():
            weights = [each.adapter.weight(each.module, base) for each in (layer, layers[name])]
        lengths = [each.tensors["lora_magnitude_vector"].detach() for each in (layer, layers[name])]
        for trained_one, found in (weights, lengths):
            assert float((found - trained_one).abs().max()) <= 1e-6 * float(trained_one.abs().max()), name


def test_a_dora_that_was_exported_for_comfyui_is_not_exported_again(tmp_path: Path) -> None:
    save_lora(trained("dora"), tmp_path / "lora", metadata={}, dtype=torch.float32)
    export_for(tmp_path / "lora", tmp_path / "out", "comfyui", model="tiny")
    for program in ("comfyui", "diffusers"):
        with pytest.raises(LtxError) as error:
            export_for(tmp_path / "out", tmp_path / "twice", program, model="tiny")
        assert str(error.value) == (
            f"{tmp_path}/out: this DoRA was exported for ComfyUI: it has dora_scale in place of the learned lengths of the rows\n"
            "    Export the file that the run saved."
        )


@pytest.mark.parametrize("turned", [0.0, 0.5])
def test_a_row_that_the_base_does_not_have_is_what_was_trained(turned: float) -> None:
    base = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    tensors = {
        "lora_A.weight": torch.eye(2),
        "lora_B.weight": torch.tensor([[turned, 0.0], [0.0, 0.0]]),
        "lora_magnitude_vector": torch.tensor([2.0, 10.0]),
    }
    file = ComfyUI().tensors(AdaptedModule("x", "dora", tensors, base=base))
    expected = torch.tensor([[2.0 if turned else 0.0, 0.0], [6.0, 8.0]])
    torch.testing.assert_close(as_comfyui_has_it(file, "x", base), expected)
