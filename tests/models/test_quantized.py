"""Weights in fewer bits: how far they are from what they were, what of a model stays as it is, and what they do to a loss."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from helpers.golden_models import BOTH, golden_inputs, load_golden, random_input, write_golden
from ltxcore.errors import ConfigError
from ltxcore.models.load_base import load_backbone
from ltxcore.models.lora import add_lora, lora_parameters, save_lora
from ltxcore.models.quantized import NAMES, RoundedLinear, is_quantizable, quantization_of

ATTENTIONS = ("attn1", "attn2", "audio_attn1", "audio_attn2", "audio_to_video_attn", "video_to_audio_attn")
ROUNDED = ["int8", "fp8", "fp8uz"]
WORST = {"int8": 0.012, "fp8": 0.035, "fp8uz": 0.035, "nf4": 0.12}
"""Largest error of a product, relative to the product, that a kind may have on normally distributed weights."""


@pytest.fixture(params=[*ROUNDED, "nf4"])
def kind(request):
    if request.param == "nf4":
        pytest.importorskip("bitsandbytes")
    return request.param


def linear(out=96, inputs=128, *, bias=True, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(inputs, out, bias=bias)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
    return layer.to(dtype)


def relative(found, expected):
    return float((found.detach() - expected.detach()).norm() / expected.detach().norm())


# ---------------------------------------------------------------- one layer


def test_a_product_and_its_gradient_are_near_those_of_the_layer(kind):
    layer, x = linear(), torch.randn(4, 7, 128, generator=torch.Generator().manual_seed(1), requires_grad=True)
    small = RoundedLinear.of(layer, kind)
    expected, found = layer(x), small(x)
    assert 0 < relative(found, expected) < WORST[kind]
    (right,) = torch.autograd.grad(expected.square().sum(), x)
    (own,) = torch.autograd.grad(found.square().sum(), x)
    assert relative(own, right) < 2 * WORST[kind]


def test_a_layer_computes_exactly_with_its_rounded_weight(kind):
    small = RoundedLinear.of(linear(), kind)
    x = torch.randn(3, 128, requires_grad=True)
    weight = small.dequantize()
    found = small(x)
    torch.testing.assert_close(found, nn.functional.linear(x, weight, small.bias))
    torch.testing.assert_close(torch.autograd.grad(found.sum(), x)[0], weight.sum(dim=0).expand(3, 128))


def test_whole_numbers_are_those_of_rounding_each_row_to_its_largest():
    weight = torch.tensor([[1.0, -0.5, 0.251, 0.0], [0.0, 0.0, 0.0, 0.0], [1e-3, 127e-3, 63.4e-3, -127e-3]])
    layer = nn.Linear(4, 3, bias=False)
    layer.weight.data = weight
    small = RoundedLinear.of(layer, "int8")
    assert small.weight.tolist() == [[127, -64, 32, 0], [0, 0, 0, 0], [1, 127, 63, -127]]
    torch.testing.assert_close(small.dequantize()[2], torch.tensor([1e-3, 127e-3, 63e-3, -127e-3]))
    assert torch.equal(small(torch.ones(1, 4))[0, 1], torch.tensor(0.0))


def test_the_bias_stays_and_may_have_a_gradient():
    layer = linear()
    small = RoundedLinear.of(layer, "int8")
    assert small.bias is layer.bias
    x = torch.randn(5, 2, 128)
    small(x).sum().backward()
    assert torch.equal(small.bias.grad, torch.full((96,), 10.0))
    assert small.weight.grad is None
    assert RoundedLinear.of(linear(bias=False), "fp8")(x).shape == (5, 2, 96)


def test_no_copy_of_the_weight_is_kept_for_the_backward_pass(kind):
    layer = linear(512, 512)
    small, kept = RoundedLinear.of(layer, kind), []
    x = torch.randn(2, 512, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: (kept.append(tensor), tensor)[1], lambda tensor: tensor):
        small(x).sum().backward()
    sizes = [tensor.numel() * tensor.element_size() for tensor in kept]
    assert sum(sizes) < 512 * 512 * 4 / 2


def test_under_autocast_products_are_bf16(kind):
    small, x = RoundedLinear.of(linear(), kind), torch.randn(3, 128, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = small(x)
    assert found.dtype == torch.bfloat16
    found.float().sum().backward()
    assert x.grad.dtype == torch.float32


# ---------------------------------------------------------------- a model


def tiny(kind=None, *, dtype=torch.float32, model="tiny-untrained", modalities=BOTH):
    return load_backbone(model, frozenset(modalities), dtype=dtype, quantization=kind)


def test_matrices_of_the_blocks_are_stored_in_fewer_bits_and_nothing_else():
    plain = dict(tiny().named_parameters())
    backbone = tiny("int8")
    own = dict(backbone.named_parameters())
    assert own.keys() == plain.keys()
    changed = {name for name, value in own.items() if value.dtype != plain[name].dtype}
    assert {name.split(".", 3)[3] for name in changed} == {
        *(f"{a}.{p}.weight" for a in ATTENTIONS for p in ("to_q", "to_k", "to_v", "to_out.0")),
        *(f"{ff}.net.{n}.weight" for ff in ("ff", "audio_ff") for n in ("0.proj", "2")),
    }
    assert all(torch.equal(own[name], plain[name]) for name in own.keys() - changed)


@pytest.mark.parametrize(
    "name",
    [
        "proj_in.weight",
        "audio_proj_out.weight",
        "time_embed.linear.weight",
        "time_embed.emb.timestep_embedder.linear_1.weight",
        "caption_projection.linear_1.weight",
        "transformer_blocks.0.scale_shift_table",
        "transformer_blocks.0.attn1.norm_q.weight",
        "transformer_blocks.0.attn1.to_gate_logits.weight",
        "transformer_blocks.0.attn1.to_q.bias",
        "transformer_blocks.0.norm1.weight",
    ],
)
def test_projections_adaln_tables_normalisations_and_gates_are_kept(name):
    assert not is_quantizable(name)


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_a_golden_model_says_nearly_the_same(kind, tmp_path):
    if kind == "nf4":
        pytest.importorskip("bitsandbytes")
    given = golden_inputs("B.joint.mask")
    expected = load_golden("B", tmp_path)(given["video"], given["audio"])
    path = write_golden("B", tmp_path)
    backbone = load_backbone(str(path), BOTH, dtype=torch.float32, quantization=kind)
    assert any(isinstance(module, RoundedLinear) for module in backbone.modules())
    found = backbone(given["video"], given["audio"])
    for name in expected:
        assert 0 < relative(found[name], expected[name]) < {"int8": 0.02, "nf4": 0.25}[kind]


def trained(kind, steps=15):
    """Losses of a LoRA that learns two clips by heart, on the shipped base."""
    backbone = tiny(kind, model="tiny")
    add_lora(backbone, rank=8, alpha=8, dropout=0.0, target_modules=["to_k", "to_q", "to_v", "to_out.0"])
    video, audio = random_input("video", 12, seed=1), random_input("audio", 7, seed=2)
    optimizer = torch.optim.AdamW(lora_parameters(backbone).values(), lr=3e-3)
    losses = []
    for _ in range(steps):
        out = backbone(video, audio)
        loss = (out["video"] - video.tokens).square().mean() + (out["audio"] - audio.tokens).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses, backbone


@pytest.fixture(scope="module")
def plain_losses():
    return trained(None)[0]


def test_a_lora_on_rounded_weights_learns_as_one_on_whole_ones(kind, plain_losses, tmp_path):
    losses, backbone = trained(kind)
    near = {"int8": 0.005, "fp8": 0.02, "fp8uz": 0.02, "nf4": 0.05}[kind]
    assert losses[0] == pytest.approx(plain_losses[0], rel=near)
    assert losses[-1] == pytest.approx(plain_losses[-1], rel=near)
    assert losses[-1] < 0.9 * losses[0]
    save_lora(backbone, tmp_path / "lora.safetensors", metadata={}, dtype=torch.bfloat16)


def test_weights_are_rounded_one_by_one_as_they_are_read(monkeypatch):
    import ltxcore.models.build as module

    read, real = [], RoundedLinear.of

    class Watched(RoundedLinear):
        @classmethod
        def of(cls, layer, kind):
            read.append(layer.bias is not None and layer.bias.is_meta)
            return real(layer, kind)

    monkeypatch.setattr(module, "RoundedLinear", Watched)
    tiny("int8")
    assert len(read) == 4 * (6 * 4 + 2 * 2)
    assert not any(read)


# ---------------------------------------------------------------- names


def test_names_of_older_run_files_mean_what_they_meant():
    assert {name: quantization_of(name) for name in NAMES if name != "nf4"} == {
        "int8": "int8",
        "fp8": "fp8",
        "int8-quanto": "int8",
        "fp8-quanto": "fp8",
        "fp8uz-quanto": "fp8uz",
    }
    assert quantization_of(None) is None


@pytest.mark.parametrize("name", ["int4-quanto", "int2-quanto"])
def test_what_cannot_be_had_is_refused_with_what_can(name):
    with pytest.raises(ConfigError) as error:
        quantization_of(name)
    assert str(error.value) == f'"{name}" is not available: no package can train on weights stored in so few bits\n    Use "nf4".'


def test_nf4_without_its_package_is_refused(monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError) as error:
        quantization_of("nf4")
    assert str(error.value) == (
        '"nf4" needs the package bitsandbytes, which is not installed\n    Install it with `pip install "ltx[low-memory]"`, or use "int8".'
    )
    assert quantization_of("int8") == "int8"
