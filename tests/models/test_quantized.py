"""Weights in fewer bits: how far they are from what they were, what of a model stays as it is, and what they do to a loss."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from helpers.golden_models import BOTH, golden_inputs, load_golden, random_input, write_golden
from helpers.quantizers import quantizer
from ltxcore.errors import LtxError
from ltxcore.models.load_base import load_backbone
from ltxcore.models.lora import add_lora, lora_parameters, save_lora
from ltxcore.models.quantized import QuantizedLinear, is_quantizable, quantized, quantized_linear

ATTENTIONS = ("attn1", "attn2", "audio_attn1", "audio_attn2", "audio_to_video_attn", "video_to_audio_attn")
KINDS = ["int8", "fp8", "fp8uz", "nf4"]
WORST = {"int8": 0.012, "fp8": 0.035, "fp8uz": 0.035, "nf4": 0.12}
"""Largest error of a product, relative to the product, that a kind may have on normally distributed weights."""


@pytest.fixture(params=KINDS)
def kind(request):
    quantizer(request.param)
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
    small = quantizer(kind).store(layer)
    expected, found = layer(x), small(x)
    assert 0 < relative(found, expected) < WORST[kind]
    (right,) = torch.autograd.grad(expected.square().sum(), x)
    (own,) = torch.autograd.grad(found.square().sum(), x)
    assert relative(own, right) < 2 * WORST[kind]


def test_a_layer_computes_exactly_with_its_rounded_weight(kind):
    small = quantizer(kind).store(linear())
    x = torch.randn(3, 128, requires_grad=True)
    weight = small.dequantize()
    found = small(x)
    torch.testing.assert_close(found, nn.functional.linear(x, weight, small.bias))
    torch.testing.assert_close(torch.autograd.grad(found.sum(), x)[0], weight.sum(dim=0).expand(3, 128))


def test_the_bias_stays_and_may_have_a_gradient():
    layer = linear()
    small = quantizer("int8").store(layer)
    assert small.bias is layer.bias
    x = torch.randn(5, 2, 128)
    small(x).sum().backward()
    assert torch.equal(small.bias.grad, torch.full((96,), 10.0))
    assert small.weight.grad is None
    assert quantizer("fp8").store(linear(bias=False))(x).shape == (5, 2, 96)


def test_no_copy_of_the_weight_is_kept_for_the_backward_pass(kind):
    layer = linear(512, 512)
    small, kept = quantizer(kind).store(layer), []
    x = torch.randn(2, 512, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: (kept.append(tensor), tensor)[1], lambda tensor: tensor):
        small(x).sum().backward()
    sizes = [tensor.numel() * tensor.element_size() for tensor in kept]
    assert sum(sizes) < 512 * 512 * 4 / 2


def test_under_autocast_products_are_bf16(kind):
    small, x = quantizer(kind).store(linear()), torch.randn(3, 128, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = small(x)
    assert found.dtype == torch.bfloat16
    found.float().sum().backward()
    assert x.grad.dtype == torch.float32


# ---------------------------------------------------------------- a model


def tiny(kind=None, *, dtype=torch.float32, model="tiny-untrained", modalities=BOTH):
    return load_backbone(model, frozenset(modalities), dtype=dtype, quantizer=quantizer(kind))


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
    given = golden_inputs("B.joint.mask")
    expected = load_golden("B", tmp_path)(given["video"], given["audio"])
    path = write_golden("B", tmp_path)
    backbone = load_backbone(str(path), BOTH, dtype=torch.float32, quantizer=quantizer(kind))
    assert any(isinstance(module, QuantizedLinear) for module in backbone.modules())
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


def test_weights_are_rounded_one_by_one_as_they_are_read():
    int8, read = quantizer("int8"), []

    class Watched:
        def store(self, layer):
            read.append(layer.bias is not None and layer.bias.is_meta)
            return int8.store(layer)

    load_backbone("tiny-untrained", BOTH, dtype=torch.float32, quantizer=Watched())
    assert len(read) == 4 * (6 * 4 + 2 * 2)
    assert not any(read)


# ---------------------------------------------------------------- the layer that a quantizer returns


def halved(layer, **changed):
    """A layer that stores every weight as a multiple of a half."""
    whole = (2 * layer.weight.detach()).round().to(torch.int8)
    given = {"weight": whole, "factors": {"step": torch.full((1,), 0.5)}, "restore": restored, **changed}
    return quantized_linear(layer, **given)


def restored(weight, factors, shape, dtype):
    return (weight.float() * factors["step"]).to(dtype)


def whole_numbers():
    layer = nn.Linear(3, 2)
    layer.weight.data = torch.tensor([[1.0, -0.5, 2.5], [0.0, 3.0, -1.0]])
    return layer


def test_what_is_stored_is_never_converted_and_everything_else_is():
    layer = halved(whole_numbers())
    assert set(layer.state_dict()) == {"weight", "step", "bias"}
    layer.to(torch.bfloat16)
    assert {name: tensor.dtype for name, tensor in layer.state_dict().items()} == {
        "weight": torch.int8,
        "step": torch.float32,
        "bias": torch.bfloat16,
    }
    assert {tensor.device.type for tensor in layer.to("meta").state_dict().values()} == {"meta"}


def test_a_product_of_its_own_takes_inputs_in_the_dtype_of_products():
    seen = []

    def multiply(inputs, weight, factors, bias):
        seen.append(inputs.dtype)
        return inputs @ restored(weight, factors, (2, 3), inputs.dtype).T + bias.to(inputs.dtype)

    layer, plain = halved(whole_numbers(), multiply=multiply), halved(whole_numbers())
    plain.bias = layer.bias
    x = torch.randn(4, 3)
    torch.testing.assert_close(layer(x), plain(x))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer(x)
    assert seen == [torch.float32, torch.bfloat16]


def test_a_matrix_that_could_be_computed_with_by_mistake_is_refused():
    with pytest.raises(TypeError, match=r"a stored matrix must have an integer dtype, but this one is torch\.float16"):
        halved(whole_numbers(), weight=torch.zeros(2, 3, dtype=torch.float16))
    with pytest.raises(ValueError, match='a factor cannot be called "bias", which is an attribute of the layer'):
        halved(whole_numbers(), factors={"bias": torch.zeros(2)})


class Fails:
    def __init__(self, error):
        self.error = error

    def store(self, layer):
        if isinstance(self.error, Exception):
            raise self.error
        return self.error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ImportError("No module named 'bits'"), "the quantizer Fails needs a package that cannot be imported: No module named 'bits'"),
        (ValueError("3 columns are too few"), "the quantizer Fails cannot store blocks.0: 3 columns are too few"),
        (nn.Linear(3, 2), "the quantizer Fails stores a layer as Linear, which quantized_linear() did not make"),
    ],
)
def test_a_quantizer_that_fails_is_told_with_what_it_failed_on(error, said):
    with pytest.raises(LtxError) as caught:
        quantized(whole_numbers(), Fails(error), "blocks.0")
    assert caught.value.problems[0].what == said
    assert caught.value.problems[0].remedy
