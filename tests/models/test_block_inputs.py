"""Inputs of recomputed blocks in host memory, tried on a CPU: what differs on a GPU is which memory a copy goes to, and that it is made beside the
computation."""

from __future__ import annotations

import gc

import pytest
import torch

from helpers.golden_models import BOTH, random_input
from ltxcore.models.block_inputs import BlockInputs
from ltxcore.models.load_base import load_backbone
from ltxcore.models.lora import add_lora, lora_parameters
from ltxcore.models.offload import place
from ltxcore.planner.live import LiveBytes

CPU = torch.device("cpu")


def tiny(*, away, offloaded=0):
    backbone = load_backbone("tiny-untrained", BOTH, dtype=torch.float32, gradient_checkpointing=True)
    place(backbone, CPU, offloaded)
    add_lora(backbone, rank=4, alpha=4, dropout=0.0, target_modules=["to_k", "to_q", "to_v", "to_out.0"])
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in lora_parameters(backbone).values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    if away:
        backbone.transformer.block_inputs = BlockInputs.on(CPU)
    return backbone


def loss_of(backbone, seed=1):
    out = backbone(random_input("video", 12, seed=seed), random_input("audio", 7, seed=seed + 1))
    return out["video"].square().mean() + out["audio"].square().mean()


def step(backbone):
    """Two passes before one backward, as objectives make them."""
    loss = loss_of(backbone) + loss_of(backbone, seed=5)
    loss.backward()
    return float(loss.detach()), {name: parameter.grad.clone() for name, parameter in lora_parameters(backbone).items()}


@pytest.mark.parametrize("offloaded", [0, 3], ids=["blocks on the device", "blocks in host memory"])
def test_loss_and_gradients_are_bit_for_bit_those_without(offloaded):
    expected, gradients = step(tiny(away=False, offloaded=offloaded))
    backbone = tiny(away=True, offloaded=offloaded)
    for _ in range(2):  # the second step finds what the first one left
        for parameter in lora_parameters(backbone).values():
            parameter.grad = None
        found, own = step(backbone)
        assert found == expected
        assert all(torch.equal(own[name], value) for name, value in gradients.items())


class Elsewhere(BlockInputs):
    """Memory that is not counted, as that of a host is not counted with a device's."""

    def __init__(self):
        super().__init__(CPU)
        self.sizes = []

    def to_host(self, tensor):
        self.sizes.append(tensor.numel() * tensor.element_size())
        return tensor.detach().numpy().tobytes(), tensor.shape

    def to_device(self, host):
        numbers, shape = host
        return torch.frombuffer(bytearray(numbers), dtype=torch.float32).reshape(shape)


def test_between_forward_and_backward_the_inputs_of_all_blocks_are_in_host_memory():
    plain, away, kept = tiny(away=False), tiny(away=True), []
    away.transformer.block_inputs = Elsewhere()
    for backbone in (plain, away):
        with LiveBytes(list(backbone.parameters())) as live:
            loss = loss_of(backbone)
            gc.collect()
            kept.append(live.live)
            loss.backward()
    sizes = away.transformer.block_inputs.sizes
    assert len(sizes) == 2 * len(away.transformer.transformer_blocks)  # of the picture and of the sound
    assert kept[0] - kept[1] == sum(sizes) > 0
    gradients = [[parameter.grad for parameter in lora_parameters(backbone).values()] for backbone in (plain, away)]
    assert all(map(torch.equal, *gradients))
