"""Frozen LoRAs under trained adapters, beside the same model with the LoRAs added to its weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from helpers.golden_models import random_input
from helpers.lora_files import read_pairs
from helpers.quantizers import quantizer
from ltxcore.config.loras import FROZEN, Strength, said_of
from ltxcore.errors import CheckpointError
from ltxcore.models.adapters import adapters, weight_of
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.frozen_loras import frozen_layers
from ltxcore.models.load_base import load_backbone
from ltxcore.models.lora import add_lora, lora_parameters, save_lora
from ltxcore.models.lora_stack import load_loras, put_beside, put_under
from ltxcore.models.offload import place

AUDIO = frozenset({"audio"})
TARGETS = ["transformer_blocks.0.audio_attn1.to_q", "transformer_blocks.1.audio_ff.net.2"]
UNDER = [TARGETS[0], "transformer_blocks.2.audio_attn1.to_k"]
STRENGTH = 0.5


def bare(kind: str = "plain") -> LTXBackbone:
    offloaded = 2 if kind == "offloaded" else 0
    backbone = load_backbone(
        "tiny-untrained",
        AUDIO,
        dtype=torch.float32,
        quantizer=quantizer("int8") if kind == "int8" else None,
        gradient_checkpointing=offloaded > 0,
        offloaded=offloaded,
    )
    place(backbone, torch.device("cpu"), offloaded)
    return backbone


def shaken(backbone: LTXBackbone, seed: int) -> LTXBackbone:
    generator = torch.Generator().manual_seed(seed)
    for parameter in lora_parameters(backbone).values():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    return backbone


def adapted(backbone: LTXBackbone, type: str, targets: list[str] = TARGETS, seed: int = 3) -> LTXBackbone:
    add_lora(backbone, rank=2, alpha=4, dropout=0.0, target_modules=targets, type=type)
    return shaken(backbone, seed)


@pytest.fixture(scope="module")
def under(tmp_path_factory: pytest.TempPathFactory) -> Strength:
    path = tmp_path_factory.mktemp("under") / "under.safetensors"
    save_lora(adapted(bare(), "lora", UNDER, 1), path, metadata={}, dtype=torch.float32)
    return Strength(path, STRENGTH)


def predicted(backbone: LTXBackbone) -> torch.Tensor:
    return backbone.eval()(None, random_input("audio", 5))["audio"]


def merged(under: Strength) -> LTXBackbone:
    backbone = bare()
    with torch.no_grad():
        for name, (a, b) in read_pairs(under.path).items():
            backbone.transformer.get_submodule(name).weight.add_(under.strength * b @ a)
    return backbone


@pytest.mark.parametrize("type", ["lora", "dora", "lokr", "loha", "pissa"])
def test_a_model_with_frozen_loras_learns_as_one_with_their_changes_in_its_weights(type: str, under: Strength) -> None:
    over, whole = bare(), merged(under)
    put_under(over, [under])
    kept = {name: parameter.clone() for name, parameter in over.named_parameters()}
    gradients = []
    for backbone in (over, whole):
        adapted(backbone, type)
        predicted(backbone).square().sum().backward()
        layers = adapters(backbone)
        assert sorted(layers) == sorted(TARGETS)
        gradients.append({f"{name}.{key}": tensor.grad for name, layer in layers.items() for key, tensor in layer.tensors.items()})
    torch.testing.assert_close(predicted(over), predicted(whole), rtol=1e-4, atol=1e-5)
    for name, gradient in gradients[1].items():
        if gradient is not None:
            torch.testing.assert_close(gradients[0][name], gradient, rtol=1e-3, atol=1e-3)
    own = {name: parameter for name, parameter in over.named_parameters() if not parameter.requires_grad}
    assert all(parameter.grad is None for parameter in own.values())
    for name, layer in frozen_layers(over).items():
        for tensor in (*layer.tensors.values(), layer.linear.weight):
            assert any(torch.equal(tensor, before) for before in kept.values() if before.shape == tensor.shape), name


def test_all_weights_learn_as_with_the_changes_added_to_them_and_keep_their_names(under: Strength) -> None:
    beside, whole = bare(), merged(under)
    names = dict(beside.named_parameters()).keys()
    put_beside(beside, [under], torch.device("cpu"))
    assert dict(beside.named_parameters()).keys() == names
    gradients = []
    for backbone in (beside, whole):
        backbone.requires_grad_(True)
        predicted(backbone).square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in backbone.named_parameters()})
    torch.testing.assert_close(predicted(beside), predicted(whole), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(predicted(beside), predicted(bare()), atol=1e-2)
    for name, gradient in gradients[1].items():
        torch.testing.assert_close(gradients[0][name], gradient, rtol=1e-3, atol=1e-3)


def test_only_plain_loras_can_be_beside_weights_that_are_trained(tmp_path: Path) -> None:
    path = tmp_path / "dora.safetensors"
    save_lora(adapted(bare(), "dora", UNDER, 1), path, metadata={}, dtype=torch.float32)
    with pytest.raises(CheckpointError, match='adapters of the type "dora" need whole matrices'):
        put_beside(bare(), [Strength(path)], torch.device("cpu"))


@pytest.mark.parametrize("kind", ["int8", "offloaded"])
@pytest.mark.parametrize("type", ["lora", "dora"])
def test_the_base_may_be_quantized_or_in_host_memory(kind: str, type: str, under: Strength) -> None:
    backbone = bare(kind)
    wanted = {}
    for name in UNDER:
        base = weight_of(backbone.transformer.get_submodule(name)).clone()
        a, b = read_pairs(under.path)[name]
        wanted[name] = base + under.strength * b @ a
    put_under(backbone, [under])
    for name, expected in wanted.items():
        linear = backbone.transformer.get_submodule(name)
        torch.testing.assert_close(weight_of(linear), expected)
        x = torch.randn(3, linear.in_features, generator=torch.Generator().manual_seed(0))
        torch.testing.assert_close(linear(x), torch.nn.functional.linear(x, expected, linear.bias), rtol=1e-4, atol=1e-5)
    adapted(backbone, type)
    predicted(backbone).square().sum().backward()
    assert all(parameter.grad is not None for parameter in lora_parameters(backbone).values())


def test_a_base_in_host_memory_is_combined_with_its_lora_where_the_lora_is(under: Strength) -> None:
    """The meta device stands for a GPU: like a GPU, it refuses a sum with a tensor of the CPU."""
    backbone = bare("offloaded")
    put_under(backbone, [under])
    layer = frozen_layers(backbone)[UNDER[0]]
    for part in ("lora_A", "lora_B"):
        getattr(layer.module, part).to("meta")
    assert layer.linear.weight.device.type == "cpu"
    assert weight_of(backbone.transformer.get_submodule(UNDER[0])).device.type == "meta"


def test_feed_forward_in_chunks_works_over_frozen_loras_with_block_swap(tmp_path: Path) -> None:
    inside = ["transformer_blocks.0.audio_ff.net.2", "transformer_blocks.1.audio_ff.net.0.proj"]
    path = tmp_path / "under.safetensors"
    save_lora(adapted(bare(), "lora", inside, 1), path, metadata={}, dtype=torch.float32)
    gradients = []
    for kind, chunks in (("plain", 1), ("offloaded", 2)):
        backbone = bare(kind)
        backbone.transformer.chunk_feed_forward(chunks)
        put_under(backbone, [Strength(path)])
        adapted(backbone, "lora", inside[:1])
        names = [name for name, _ in backbone.named_parameters()]
        predicted(backbone).square().sum().backward()
        assert [name for name, _ in backbone.named_parameters()] == names
        gradients.append([parameter.grad for parameter in lora_parameters(backbone).values()])
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("type", ["lora", "dora", "lokr"])
def test_a_saved_file_is_put_on_top_of_the_same_loras_again(type: str, under: Strength, tmp_path: Path) -> None:
    trained = bare()
    put_under(trained, [under])
    adapted(trained, type)
    path = tmp_path / "own.safetensors"
    save_lora(trained, path, metadata={FROZEN: said_of([under])}, dtype=torch.float32)
    assert {name.split(".lora")[0].split(".lokr")[0].removesuffix(".alpha") for name in names(path)} == {
        f"{'transformer' if type == 'dora' else 'diffusion_model'}.{name}" for name in TARGETS
    }
    again = bare()
    load_loras(again, [Strength(path), under])
    torch.testing.assert_close(predicted(again), predicted(trained), rtol=1e-5, atol=1e-6)
    assert sorted(frozen_layers(again)) == sorted(UNDER)


def names(path: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return list(file.keys())


def test_values_that_are_not_finite_are_refused(under: Strength, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(under.path)
    next(iter(tensors.values()))[0, 0] = float("inf")
    save_file(tensors, tmp_path / "bad.safetensors")
    with pytest.raises(CheckpointError, match="1 adapter has values that are not finite"):
        put_under(bare(), [Strength(tmp_path / "bad.safetensors")])
