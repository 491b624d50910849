"""Blocks in CPU memory, tried on a CPU: what differs on a GPU is which memory a copy goes to, and that it is on its way beside the computation."""

from __future__ import annotations

import filecmp
import gc
import weakref
from contextlib import nullcontext

import attrs
import numpy as np
import pytest
import torch
from torch import nn

from helpers.device_record import Queue
from helpers.golden_models import BOTH, random_input
from helpers.quantizers import quantizer
from ltxcore.models.load_base import load_backbone
from ltxcore.models.lora import add_lora, lora_parameters, save_lora
from ltxcore.models.offload import Offload, place
from ltxcore.models.reach import unreached_parameters

CPU = torch.device("cpu")
TARGETS = ["to_k", "to_q", "to_v", "to_out.0"]


def tiny(offloaded, *, checkpointing=True, quantization=None, lora=True, use_dora=False):
    backbone = load_backbone(
        "tiny-untrained", BOTH, dtype=torch.float32, gradient_checkpointing=checkpointing, quantizer=quantizer(quantization)
    )
    place(backbone, CPU, offloaded)
    if lora:
        add_lora(backbone, rank=4, alpha=4, dropout=0.0, target_modules=TARGETS)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in lora_parameters(backbone).values():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return backbone


def loss_of(backbone):
    video, audio = random_input("video", 12, seed=1), random_input("audio", 7, seed=2)
    out = backbone(video, audio)
    return out["video"].square().mean() + out["audio"].square().mean()


def step(backbone):
    loss = loss_of(backbone)
    loss.backward()
    return float(loss.detach()), {name: parameter.grad.clone() for name, parameter in lora_parameters(backbone).items()}


@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize(("offloaded", "quantization"), [(1, None), (3, None), (99, None), (3, "int8"), (4, "fp8"), (4, "nf4")])
def test_loss_and_gradients_are_bit_for_bit_those_without(offloaded, quantization, checkpointing):
    options = {"quantization": quantization, "checkpointing": checkpointing}
    expected, gradients = step(tiny(0, **options))
    found, own = step(tiny(offloaded, **options))
    assert found == expected
    assert own.keys() == gradients.keys()
    assert all(torch.equal(own[name], value) for name, value in gradients.items())


def test_at_most_two_blocks_are_on_the_device_in_the_forward_pass_and_none_is_left_after_it(monkeypatch):
    alive: weakref.WeakSet[nn.Parameter] = weakref.WeakSet()
    most = []
    copies = Offload._copies

    def counted(self, index):
        made = copies(self, index)
        alive.update(made.values())
        gc.collect()
        most.append(len(alive))
        return made

    monkeypatch.setattr(Offload, "_copies", counted)
    backbone = tiny(4)
    layers = len([m for m in backbone.transformer.transformer_blocks[0].modules() if isinstance(m, nn.Linear)]) - 2 * len(TARGETS) * 6
    with torch.no_grad():
        loss_of(backbone)
    gc.collect()
    assert max(most) == 2 * layers
    assert len(alive) <= layers  # of the block that was on its way
    del most[:]
    step(backbone)
    assert max(most) <= 3 * layers  # and the one whose gradients are being computed


def test_the_next_block_is_ordered_while_one_computes_forwards_and_backwards(monkeypatch):
    ordered = []
    copies = Offload._copies
    monkeypatch.setattr(Offload, "_copies", lambda self, index: (ordered.append(index), copies(self, index))[1])
    backbone = tiny(3)
    loss = loss_of(backbone)
    assert ordered == [0, 1, 2]
    loss.backward()
    assert ordered == [0, 1, 2, 2, 1, 0]
    with torch.no_grad():
        loss_of(backbone)
    assert ordered == [0, 1, 2, 2, 1, 0, 0, 1, 2]


@attrs.define
class Moment:
    """An event of a device that is behind: it gets there when it is waited for, and not before."""

    queue: Queue
    when: int

    def wait(self):
        pass  # one stream for another

    def synchronize(self):
        self.queue.wait_for(self.when)


@attrs.define
class Behind:
    """A stream of such a device."""

    queue: Queue

    def record_event(self):
        return Moment(self.queue, self.queue.now())


@pytest.mark.parametrize("offloaded", [2, 3, 4])
def test_a_device_that_is_behind_has_the_matrices_of_three_blocks_at_most(monkeypatch, offloaded):
    """Of memory itself, not of tensors: what autograd keeps of a copy shares its memory."""
    queue = Queue()

    def tracked(self, index):
        made = {}
        for layer in self.blocks[index]:
            array = np.array(self._hosts[layer].detach().numpy())
            queue.take(id(array), array.nbytes)
            weakref.finalize(array, queue.let_go, id(array))
            made[layer] = nn.Parameter(torch.from_numpy(array), requires_grad=False)
        return made

    monkeypatch.setattr(Offload, "_copies", tracked)
    monkeypatch.setattr("ltxcore.models.offload.copying_stream", lambda device: Behind(queue))
    monkeypatch.setattr("ltxcore.models.offload.current_stream", lambda device: Behind(queue))
    monkeypatch.setattr("ltxcore.models.offload.on_stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: None)
    backbone = tiny(offloaded, lora=False)
    layers = len([module for module in backbone.transformer.transformer_blocks[0].modules() if isinstance(module, nn.Linear)])
    backbone.requires_grad_(False)
    backbone.transformer.proj_in.weight.requires_grad_(True)
    most = []
    for with_gradients in (False, True, True):
        queue.most = (0, 0)
        with torch.set_grad_enabled(with_gradients):
            loss = loss_of(backbone)
        if with_gradients:
            loss.backward()
        most.append(queue.most[0])
    assert layers < max(most) <= 3 * layers


@pytest.mark.parametrize("offloaded", [1, 2, 3])
def test_a_block_is_ordered_one_block_before_it_computes_in_every_pass_and_direction(monkeypatch, offloaded):
    seen = []
    copies = Offload._copies
    monkeypatch.setattr(Offload, "_copies", lambda self, index: (seen.append(("order", index)), copies(self, index))[1])
    backbone = tiny(offloaded)
    for index, block in enumerate(backbone.transformer.transformer_blocks):
        block.register_forward_pre_hook(lambda module, inputs, index=index: seen.append(("run", index)))
    count = len(backbone.transformer.transformer_blocks)
    forwards = [("order", 0), *((kind, index + (kind == "order")) for index in range(count) for kind in ("order", "run"))]
    forwards = [each for each in forwards if each[0] == "run" or each[1] < offloaded]
    backwards = [(kind, index - (kind == "order")) for index in reversed(range(count)) for kind in ("order", "run")]
    backwards = [each for each in backwards if each[0] == "run" or 0 <= each[1] < offloaded]
    for _ in range(2):
        with torch.no_grad():
            loss_of(backbone)
        assert seen == forwards
        del seen[:]
    for _ in range(2):
        loss_of(backbone).backward()
        assert seen == forwards + backwards
        del seen[:]


def test_names_and_weights_are_as_they_were():
    plain, backbone = tiny(0, lora=False), tiny(2, lora=False)
    hosts = {name: parameter.data_ptr() for name, parameter in backbone.named_parameters()}
    assert hosts.keys() == dict(plain.named_parameters()).keys()
    with torch.no_grad():
        loss_of(backbone)
    assert {name: parameter.data_ptr() for name, parameter in backbone.named_parameters()} == hosts
    assert all(torch.equal(value, dict(plain.named_parameters())[name]) for name, value in backbone.named_parameters())


def test_a_block_that_fails_leaves_nothing_behind(monkeypatch):
    backbone = tiny(4)
    hosts = {name: parameter.data_ptr() for name, parameter in backbone.named_parameters()}
    block = backbone.transformer.transformer_blocks[2]
    with monkeypatch.context() as patch:
        patch.setattr(block, "_attend", lambda *_: (_ for _ in ()).throw(ZeroDivisionError))
        with pytest.raises(ZeroDivisionError):
            loss_of(backbone)
    assert {name: parameter.data_ptr() for name, parameter in backbone.named_parameters()} == hosts
    assert step(backbone)[0] == step(tiny(0))[0]


def test_what_no_loss_reaches_is_found_all_the_same():
    plain, backbone = tiny(0, lora=False), tiny(4, lora=False)

    def video(model):
        return lambda: model(random_input("video", 6), random_input("audio", 5))["video"].square().mean()

    assert unreached_parameters(backbone, video(backbone)) == unreached_parameters(plain, video(plain)) != frozenset()


def test_a_lora_of_offloaded_blocks_is_saved_as_any_other(tmp_path):
    for offloaded in (0, 4):
        save_lora(tiny(offloaded), tmp_path / f"{offloaded}.safetensors", metadata={}, dtype=torch.float32)
    assert filecmp.cmp(tmp_path / "0.safetensors", tmp_path / "4.safetensors", shallow=False)
