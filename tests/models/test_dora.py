"""DoRA and rsLoRA: what they compute, and that diffusers computes it too."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from helpers.golden_models import BOTH, ask_stock, load_golden, random_input, stock_model
from helpers.lora_files import load_lora, read_pairs
from helpers.quantizers import quantizer
from ltxcore.errors import CheckpointError
from ltxcore.models.adapter_types import adapter_of
from ltxcore.models.adapters import adapters
from ltxcore.models.load_base import load_backbone
from ltxcore.models.lora import add_lora, lora_parameters, save_lora
from ltxcore.models.lora_file import read_lora

MODULE = "transformer_blocks.0.audio_attn1.to_k"
BY_ROOT = adapter_of("lora", use_rslora=True).adapter
DORA_BY_ROOT = adapter_of("dora", use_rslora=True).adapter


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


def lengths(backbone):
    return adapters(backbone)[MODULE].tensors["lora_magnitude_vector"]


def saved(backbone, path, dtype=torch.float32):
    save_lora(backbone, path, metadata={}, dtype=dtype)
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fresh_dora_says_what_the_base_says(dtype):
    near = {torch.float32: 1e-6, torch.bfloat16: 1e-2}[dtype]
    torch.testing.assert_close(said(with_lora(tiny(dtype), type="dora")), said(tiny(dtype)), rtol=near, atol=near)


def test_a_dora_turns_the_rows_of_a_matrix_and_sets_their_lengths():
    backbone = shaken(with_lora(tiny(), type="dora"))
    layer = adapters(backbone)[MODULE].module
    base = layer.get_base_layer()
    turned = base.weight + 3 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    expected = lengths(backbone)[:, None] * turned / turned.norm(dim=1, keepdim=True)
    x = torch.randn(3, 128, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, expected, base.bias), rtol=1e-4, atol=1e-5)


def test_lengths_are_trained_and_switched_off_with_the_rest():
    backbone = shaken(with_lora(tiny(), type="dora"))
    assert [name.rsplit(".", 3)[1] for name in lora_parameters(backbone)][:3] == ["lora_A", "lora_B", "lora_magnitude_vector"]
    backbone(None, random_input("audio", 5))["audio"].square().mean().backward()
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in lora_parameters(backbone).values())
    for layer in adapters(backbone).values():
        layer.module.enable_adapters(False)
    assert torch.equal(said(backbone), said(tiny()))


def test_a_dora_has_the_names_of_diffusers_with_its_lengths_beside_them(tmp_path):
    path = saved(shaken(with_lora(tiny(), type="dora")), tmp_path / "x.safetensors")
    parts = ("lora_A.weight", "lora_B.weight", "lora_magnitude_vector")
    assert set(load_file(path)) == {f"transformer.transformer_blocks.{i}.audio_attn1.to_k.{part}" for i in range(4) for part in parts}
    with safe_open(path, "pt") as file:
        about = file.metadata()
    assert (about["use_dora"], about["rank"], about["alpha"], about["alpha_is_folded"]) == ("true", "4", "12", "true")


@pytest.mark.parametrize("name", ["A", "B", "C"])
@pytest.mark.parametrize("options", [{"type": "dora"}, {"adapter": BY_ROOT}, {"type": "dora", "adapter": DORA_BY_ROOT}])
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
    backbone = shaken(with_lora(tiny(), adapter=BY_ROOT))
    layer = adapters(backbone)[MODULE].module
    a, b = read_pairs(saved(backbone, tmp_path / "x.safetensors"))[MODULE]
    torch.testing.assert_close(b @ a, 12 / 4**0.5 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight)
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        assert file.metadata()["use_rslora"] == "true"


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_dropout_leaves_inputs_out_in_training_alone(kind):
    backbone = shaken(with_lora(tiny(), dropout=0.5, type=kind))
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
    backbone = with_lora(tiny(quantizer=of_kind), type="dora")
    torch.testing.assert_close(said(backbone), said(tiny(quantizer=of_kind)), rtol=1e-4, atol=1e-4)
    layer = adapters(shaken(backbone))[MODULE].module
    base = layer.get_base_layer()
    turned = base.dequantize() + 3 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    expected = lengths(backbone)[:, None] * turned / turned.norm(dim=1, keepdim=True)
    x = torch.randn(3, 128, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, expected, base.bias), rtol=1e-4, atol=1e-4)
    backbone(None, random_input("audio", 5))["audio"].square().mean().backward()
    assert bool(lengths(backbone).grad.any())


def test_a_dora_with_blocks_computed_again_has_the_same_gradients():
    def gradients(checkpointing):
        backbone = shaken(
            with_lora(load_backbone("tiny-untrained", BOTH, dtype=torch.float32, gradient_checkpointing=checkpointing), type="dora")
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


KOHYA = "lora_unet_" + MODULE.replace(".", "_")
"""The module as programs name it that follow kohya's."""


def of_kohya(path, **tensors):
    """A DoRA in the names of kohya's programs, with factors of the base's rows."""
    draws = torch.Generator().manual_seed(2)
    found = {
        "lora_down.weight": torch.randn(4, 128, generator=draws),
        "lora_up.weight": 0.1 * torch.randn(128, 4, generator=draws),
        "alpha": torch.tensor(2.0),
        "dora_scale": torch.rand(128, 1, generator=draws) + 0.5,
    } | tensors
    save_file({f"{KOHYA}.{name}": value for name, value in found.items()}, path)
    return found


@pytest.mark.parametrize("starts_a_run", [False, True])
def test_factors_of_the_rows_of_the_base_are_read_as_comfyui_reads_them(starts_a_run, tmp_path):
    file = of_kohya(tmp_path / "x.safetensors")
    backbone = with_lora(tiny(), type="dora", rank=6, target_modules=[MODULE]) if starts_a_run else tiny()
    load_lora(backbone, tmp_path / "x.safetensors")
    layer = adapters(backbone)[MODULE]
    base = layer.linear.weight.detach()
    turned = base + 2 / 4 * file["lora_up.weight"] @ file["lora_down.weight"]
    expected = turned * file["dora_scale"] / (base.norm(dim=1, keepdim=True) + 2**-23)
    with torch.no_grad():
        torch.testing.assert_close(layer.adapter.weight(layer.module, base), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kept", [True, False])
def test_factors_of_columns_and_lengths_beside_factors_are_refused(kept, tmp_path):
    wrong = {"lora_magnitude_vector": torch.ones(128)} if kept else {"dora_scale": torch.ones(1, 128)}
    of_kohya(tmp_path / "x.safetensors", **wrong)
    assert refusal(read_lora, tmp_path / "x.safetensors") == (
        f"TMP/x.safetensors: dora tensors are missing, or do not fit each other, in these modules: {MODULE}"
    )


def test_a_dora_that_lacks_a_length_is_refused(tmp_path):
    path = saved(shaken(with_lora(tiny(), type="dora")), tmp_path / "x.safetensors")
    tensors = load_file(path)
    del tensors[f"transformer.{MODULE}.lora_magnitude_vector"]
    save_file(tensors, path)
    assert refusal(read_lora, path) == f"TMP/x.safetensors: dora tensors are missing, or do not fit each other, in these modules: {MODULE}"


def test_values_that_are_not_finite_are_not_exported(tmp_path):
    backbone = shaken(with_lora(tiny(), type="dora"))
    with torch.no_grad():
        lengths(backbone)[3] = float("inf")
    with pytest.raises(CheckpointError) as error:
        saved(backbone, tmp_path / "x.safetensors")
    assert str(error.value) == f"{tmp_path}/x.safetensors: the adapter of {MODULE} has values that are not finite"
    assert list(tmp_path.iterdir()) == []
