"""DoRA and rsLoRA: what they compute, and that diffusers computes it too."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from helpers.golden_models import BOTH, ask_stock, load_golden, random_input, stock_model
from helpers.lora_files import load_lora
from helpers.quantizers import quantizer
from ltxcore.errors import CheckpointError
from ltxcore.models.adapters import adapters, magnitude
from ltxcore.models.load_base import load_backbone
from ltxcore.models.lora import add_lora, lora_parameters, save_lora
from ltxcore.models.lora_file import read_lora, read_pairs

MODULE = "transformer_blocks.0.audio_attn1.to_k"


def tiny(dtype=torch.float32, **options):
    return load_backbone("tiny-untrained", frozenset({"audio"}), dtype=dtype, **options)


def with_lora(backbone, **options):
    add_lora(backbone, **({"rank": 4, "alpha": 12, "dropout": 0.0, "target_modules": ["audio_attn1.to_k"]} | options))
    return backbone


def shaken(backbone, seed=5):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in lora_parameters(backbone).values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return backbone


def said(backbone):
    with torch.no_grad():
        return backbone(None, random_input("audio", 5))["audio"]


def saved(backbone, path, dtype=torch.float32):
    save_lora(backbone, path, metadata={}, dtype=dtype)
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fresh_dora_says_what_the_base_says(dtype):
    near = {torch.float32: 1e-6, torch.bfloat16: 1e-2}[dtype]
    torch.testing.assert_close(said(with_lora(tiny(dtype), dora=True)), said(tiny(dtype)), rtol=near, atol=near)


def test_a_dora_turns_the_rows_of_a_matrix_and_sets_their_lengths():
    backbone = shaken(with_lora(tiny(), dora=True))
    layer = adapters(backbone)[MODULE]
    base = layer.get_base_layer()
    turned = base.weight + 3 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    expected = magnitude(layer)[:, None] * turned / turned.norm(dim=1, keepdim=True)
    x = torch.randn(3, 128, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, expected, base.bias), rtol=1e-4, atol=1e-5)


def test_lengths_are_trained_and_switched_off_with_the_rest():
    backbone = shaken(with_lora(tiny(), dora=True))
    assert [name.rsplit(".", 3)[1] for name in lora_parameters(backbone)][:3] == ["lora_A", "lora_B", "lora_magnitude_vector"]
    backbone(None, random_input("audio", 5))["audio"].square().mean().backward()
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in lora_parameters(backbone).values())
    for layer in adapters(backbone).values():
        layer.enable_adapters(False)
    assert torch.equal(said(backbone), said(tiny()))


def test_a_dora_has_the_names_of_diffusers_with_its_lengths_beside_them(tmp_path):
    path = saved(shaken(with_lora(tiny(), dora=True)), tmp_path / "x.safetensors")
    parts = ("lora_A.weight", "lora_B.weight", "lora_magnitude_vector")
    assert set(load_file(path)) == {f"transformer.transformer_blocks.{i}.audio_attn1.to_k.{part}" for i in range(4) for part in parts}
    with safe_open(path, "pt") as file:
        about = file.metadata()
    assert (about["use_dora"], about["rank"], about["alpha"], about["alpha_is_folded"]) == ("true", "4", "12", "true")


@pytest.mark.parametrize("name", ["A", "B", "C"])
@pytest.mark.parametrize("options", [{"dora": True}, {"rslora": True}, {"dora": True, "rslora": True}])
def test_an_export_is_read_by_diffusers_and_by_us_and_says_the_same(name, options, tmp_path):
    from diffusers.loaders.lora_pipeline import LTX2LoraLoaderMixin

    sigma, width = torch.tensor([0.3, 0.8]), (48, 48) if name == "A" else (64, 32)
    video, audio = random_input("video", 6, width=width[0], sigma=sigma), random_input("audio", 5, width=width[1], sigma=sigma)
    backbone = load_golden(name, tmp_path)
    backbone.transformer.rule = "cross"
    with_lora(backbone, target_modules=["to_k", "to_out.0", "ff.net.2", "proj_in", "time_embed.linear"], **options)
    base = backbone(video, audio)
    expected = shaken(backbone)(video, audio)
    assert (expected["video"] - base["video"]).abs().max() > 0.1
    path = saved(backbone, tmp_path / "x.safetensors")

    again = load_golden(name, tmp_path)
    again.transformer.rule = "cross"
    load_lora(again, path)
    stock = stock_model(name)
    state, metadata = LTX2LoraLoaderMixin.lora_state_dict(path, return_lora_metadata=True)
    LTX2LoraLoaderMixin.load_lora_into_transformer(state, transformer=stock, metadata=metadata)
    for found in (again(video, audio), ask_stock(stock, video, audio, use_cross_timestep=True)):
        for modality, value in expected.items():
            assert (found[modality] - value).abs().max() <= 1e-5 * value.abs().max()


def test_with_the_root_of_the_rank_an_adapter_counts_alpha_over_it(tmp_path):
    backbone = shaken(with_lora(tiny(), rslora=True))
    layer = adapters(backbone)[MODULE]
    a, b = read_pairs(saved(backbone, tmp_path / "x.safetensors"), "x")[MODULE]
    torch.testing.assert_close(b @ a, 12 / 4**0.5 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight)
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert file.metadata()["use_rslora"] == "true"


@pytest.mark.parametrize("dora", [False, True])
def test_dropout_leaves_inputs_out_in_training_alone(dora):
    backbone = shaken(with_lora(tiny(), dropout=0.5, dora=dora))
    backbone.eval()
    assert torch.equal(said(backbone), said(backbone))
    backbone.train()
    assert not torch.equal(said(backbone), said(backbone))
    torch.manual_seed(3)
    first = said(backbone)
    torch.manual_seed(3)
    assert torch.equal(said(backbone), first)


@pytest.mark.parametrize("quantization", ["int8", "fp8", "nf4"])
def test_a_dora_trains_on_weights_in_fewer_bits(quantization):
    of_kind = quantizer(quantization)
    backbone = with_lora(tiny(quantizer=of_kind), dora=True)
    torch.testing.assert_close(said(backbone), said(tiny(quantizer=of_kind)), rtol=1e-4, atol=1e-4)
    layer = adapters(shaken(backbone))[MODULE]
    base = layer.get_base_layer()
    turned = base.dequantize() + 3 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    expected = magnitude(layer)[:, None] * turned / turned.norm(dim=1, keepdim=True)
    x = torch.randn(3, 128, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, expected, base.bias), rtol=1e-4, atol=1e-4)
    backbone(None, random_input("audio", 5))["audio"].square().mean().backward()
    assert bool(magnitude(layer).grad.any())


def test_a_dora_with_blocks_computed_again_has_the_same_gradients():
    def gradients(checkpointing):
        backbone = shaken(
            with_lora(load_backbone("tiny-untrained", BOTH, dtype=torch.float32, gradient_checkpointing=checkpointing), dora=True)
        )
        backbone(random_input("video", 6), random_input("audio", 5))["audio"].square().mean().backward()
        return {name: parameter.grad for name, parameter in lora_parameters(backbone).items()}

    plain, again = gradients(False), gradients(True)
    assert all(torch.allclose(again[name], value, atol=1e-7) for name, value in plain.items())


# ---------------------------------------------------------------- files


def refusal(read, path):
    with pytest.raises(CheckpointError) as error:
        read(path, str(path))
    return str(error.value).replace(str(path.parent), "TMP")


def test_a_dora_is_no_pairs(tmp_path):
    path = saved(shaken(with_lora(tiny(), dora=True)), tmp_path / "x.safetensors")
    assert len(read_lora(path, "x").magnitudes) == 4
    assert refusal(read_pairs, path) == (
        "TMP/x.safetensors: it is a DoRA: besides A and B it holds the magnitudes of the adapted rows, and the result would be different without them\n"
        "    Use the file as it is, with diffusers."
    )


def test_scales_that_programs_do_not_agree_about_are_refused(tmp_path):
    tensors = load_file(saved(shaken(with_lora(tiny(), dora=True)), tmp_path / "x.safetensors"))
    save_file({name.replace("lora_magnitude_vector", "dora_scale"): value for name, value in tensors.items()}, tmp_path / "y.safetensors")
    names = ", ".join(f"transformer.transformer_blocks.{i}.audio_attn1.to_k.dora_scale" for i in range(4))
    assert refusal(read_lora, tmp_path / "y.safetensors") == (
        f"TMP/y.safetensors: it is a DoRA whose magnitudes are called dora_scale, which programs interpret differently: {names}\n"
        "    Export it with lora_magnitude_vector, as diffusers does."
    )


def test_a_dora_that_lacks_a_length_is_refused(tmp_path):
    path = saved(shaken(with_lora(tiny(), dora=True)), tmp_path / "x.safetensors")
    tensors = load_file(path)
    del tensors[f"transformer.{MODULE}.lora_magnitude_vector"]
    save_file(tensors, path)
    assert refusal(read_lora, path) == f"TMP/x.safetensors: it is a DoRA, but magnitudes are missing for {MODULE}"


def test_values_that_are_not_finite_are_not_exported(tmp_path):
    backbone = shaken(with_lora(tiny(), dora=True))
    with torch.no_grad():
        magnitude(adapters(backbone)[MODULE])[3] = float("inf")
    with pytest.raises(CheckpointError) as error:
        saved(backbone, tmp_path / "x.safetensors")
    assert str(error.value) == f"{tmp_path}/x.safetensors: the adapter of {MODULE} has values that are not finite"
    assert list(tmp_path.iterdir()) == []
