"""Adapters in the model: what they are at first, what trains, and how they are switched off."""

import pytest
import torch

from helpers.golden_models import BOTH, random_input
from ltxcore.adapters import AdapterSettings
from ltxcore.errors import ConfigError
from ltxcore.models.adapter_types import adapter_of
from ltxcore.models.adapters import adapters, create_adapters
from ltxcore.models.load_base import load_backbone
from ltxcore.models.lora import add_lora, lora_parameters

AUDIO = frozenset({"audio"})


def tiny(modalities=AUDIO, dtype=torch.float32, **options):
    return load_backbone("tiny-untrained", frozenset(modalities), dtype=dtype, **options)


def with_lora(backbone, **options):
    options = {"rank": 4, "alpha": 8, "dropout": 0.0, "target_modules": ["to_k", "audio_ff.net.2"]} | options
    add_lora(backbone, **options)
    return backbone


def shaken(backbone):
    """Adapters that change something."""
    generator = torch.Generator().manual_seed(5)
    for name, parameter in lora_parameters(backbone).items():
        if ".lora_B." in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return backbone


def loss_of(backbone, modalities=AUDIO):
    video = random_input("video", 6) if "video" in modalities else None
    return sum(v.square().mean() for v in backbone(video, random_input("audio", 5)).values())


def test_adapters_are_put_beside_the_targets_and_nowhere_else():
    backbone = tiny()
    added = add_lora(backbone, rank=4, alpha=8, dropout=0.0, target_modules=["audio_attn1.to_k", "audio_ff.net.0.proj"])
    expected = [f"transformer_blocks.{i}.{part}" for i in range(4) for part in ("audio_attn1.to_k", "audio_ff.net.0.proj")]
    assert list(added.targets) == sorted(expected)
    assert added.unreachable == ()
    assert list(adapters(backbone)) == list(added.targets)
    assert len(lora_parameters(backbone)) == 16


def test_many_targets_get_exactly_their_adapters():
    backbone = tiny(BOTH)
    added = add_lora(backbone, rank=2, alpha=2, dropout=0.0, target_modules=["to_k", "to_q", "to_v", "to_out.0"])
    assert len(added.targets) == 96
    assert tuple(adapters(backbone)) == added.targets


def test_modules_that_no_loss_reaches_get_no_adapter():
    backbone = tiny()
    reachable = [name for name, _ in backbone.named_parameters() if "transformer_blocks.3." not in name]
    added = add_lora(backbone, rank=2, alpha=2, dropout=0.0, target_modules=["audio_attn1.to_k"], reachable=reachable)
    assert added.unreachable == ("transformer_blocks.3.audio_attn1.to_k",)
    assert len(adapters(backbone)) == 3


def test_new_adapters_change_nothing_and_are_the_same_for_the_same_seed():
    plain, state = tiny(), torch.get_rng_state()
    one, same, other = with_lora(tiny()), with_lora(tiny()), with_lora(tiny(), seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(loss_of(one), loss_of(plain))
    first, second, third = (lora_parameters(b) for b in (one, same, other))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert any(not torch.equal(value, third[name]) for name, value in first.items())


def test_only_the_adapters_train():
    backbone = with_lora(tiny())
    trained = {name for name, p in backbone.named_parameters() if p.requires_grad}
    assert trained == set(lora_parameters(backbone))
    loss_of(backbone).backward()
    assert all(p.grad is not None for p in lora_parameters(backbone).values())
    assert all(p.grad is None for name, p in backbone.named_parameters() if name not in trained)


def test_an_adapter_counts_alpha_divided_by_rank_times():
    backbone = shaken(with_lora(tiny(), rank=4, alpha=8))
    for layer in adapters(backbone).values():
        delta = layer.tensors["lora_B"] @ layer.tensors["lora_A"]
        torch.testing.assert_close(layer.module.get_delta_weight("default"), 2 * delta)


def test_dropout_acts_in_training_and_not_in_evaluation():
    backbone = shaken(with_lora(tiny(), dropout=0.5))
    backbone.train()
    torch.manual_seed(0)
    assert not torch.equal(loss_of(backbone), loss_of(backbone))
    backbone.eval()
    assert torch.equal(loss_of(backbone), loss_of(backbone))


def test_a_second_set_of_adapters_is_refused():
    with pytest.raises(ConfigError) as error:
        with_lora(with_lora(tiny()))
    assert str(error.value) == "the backbone has adapters already\n    Load the backbone again to add other adapters."


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("modalities", [AUDIO, BOTH])
def test_float32_adapters_train_on_a_bf16_base_with_blocks_computed_again(modalities, autocast):
    def gradients(checkpointed):
        backbone = tiny(modalities, torch.bfloat16, gradient_checkpointing=checkpointed)
        shaken(with_lora(backbone, target_modules=["to_k", "to_out.0"]))
        assert {p.dtype for p in lora_parameters(backbone).values()} == {torch.float32}
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = loss_of(backbone, modalities)
        loss.backward()
        return {name: p.grad for name, p in lora_parameters(backbone).items()}

    plain, again = gradients(False), gradients(True)
    assert {grad.dtype for grad in plain.values()} == {torch.float32}
    for name, grad in plain.items():
        assert grad.abs().max() > 0
        torch.testing.assert_close(again[name], grad, rtol=0, atol=1e-7)


def test_gradients_of_adapters_on_a_bf16_base_are_near_those_in_float32():
    def gradients(dtype):
        backbone = shaken(with_lora(tiny(dtype=dtype)))
        loss_of(backbone).backward()
        return torch.cat([p.grad.flatten() for p in lora_parameters(backbone).values()])

    assert torch.cosine_similarity(gradients(torch.bfloat16), gradients(torch.float32), dim=0) > 0.999


def test_each_adapter_has_its_own_rank_alpha_and_dropout():
    backbone, asked = (
        tiny(),
        {
            "transformer_blocks.1.audio_attn1.to_k": AdapterSettings(4, alpha=8, dropout=0.0),
            "transformer_blocks.2.audio_attn1.to_k": AdapterSettings(2, alpha=3, dropout=0.25),
            "transformer_blocks.3.audio_ff.net.2": AdapterSettings(4, alpha=None, dropout=0.5),
        },
    )
    create_adapters(backbone, asked, adapter_of("lora", use_rslora=True), seed=0)
    found = adapters(backbone)
    assert [found[name].tensors["lora_A"].shape[0] for name in asked] == [4, 2, 4]
    assert [found[name].module.scaling["default"] for name in asked] == pytest.approx([4, 3 / 2**0.5, 1])
    assert [getattr(found[name].module.lora_dropout["default"], "p", 0) for name in asked] == [0, 0.25, 0.5]
