"""The activations of a step, counted by running the real forward and backward on tensors that have shapes but no
memory.

The blocks of a model are alike, so models of two and of three blocks, which differ by one block, show what any number of blocks takes. If
the groups of a LoRA differ from block to block, a model of three blocks is run for each kind of block. The count includes everything that
the CPU's kernels keep. As with flash attention on a GPU, attention keeps its inputs, its output and one number per row, but never the
scores.
"""

from __future__ import annotations

import contextlib
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import attrs
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import Parameter

from ltxcore.config.groups import LoraGroup, in_blocks
from ltxcore.config.parts import evolved
from ltxcore.config.run_file import LoraTable
from ltxcore.flow.loss import total_loss
from ltxcore.levels import SharedLevels
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.base import Base
from ltxcore.models.block_inputs import AT_ONCE, BlockInputs
from ltxcore.models.frozen_loras import freeze_loras
from ltxcore.models.kept_outputs import KeptOutputs
from ltxcore.models.lora import add_lora, lora_parameters
from ltxcore.models.lora_file import LoraFile, shapes_of
from ltxcore.models.parameter_names import block_of, is_needed, within_block
from ltxcore.models.quantized import is_quantizable, quantized, quantized_linear
from ltxcore.models.reach import unreached_parameters
from ltxcore.models.sequence_parallel import SequenceGroup, divide_tokens
from ltxcore.planner.live import LiveBytes
from ltxcore.protocols import ModelInput, Strategy
from ltxcore.quantizers import QuantizerType

FEW = 3
"""The number of blocks that suffice to count the bytes of any number of blocks: the first, the last, and one between them."""


@attrs.frozen
class Activations:
    """The bytes on a device that one forward and backward of a micro-batch take, besides weights, gradients and the
    optimizer.

    Attributes:
        saved: the bytes that are kept for the backward at the end of the forward.
        peak: the largest number of bytes at any moment, including temporary tensors.
        inputs: the bytes of the model's inputs.
        host: the bytes that wait in host memory for the backward.
        exchanged: the bytes that the device sends to others which divide the tokens with it.
    """

    saved: int
    peak: int
    inputs: int
    host: int = 0
    exchanged: int = 0

    def of_several(self, forwards: int) -> Activations:
        """Return the activations if this number of forwards is done before the first backward.

        Source: docs/explanation/arithmetic.md#activations
        """
        return Activations(
            forwards * self.saved, self.peak + (forwards - 1) * self.saved, self.inputs, forwards * self.host, forwards * self.exchanged
        )


@attrs.frozen(eq=False)
class Choice:
    """The settings that determine how many bytes a step keeps.

    Attributes:
        modalities: the modalities of the run.
        lora: the adapters; None if all weights are trained.
        dtype: the dtype of the base's weights.
        adapter_dtype: the dtype of the adapters' weights.
        autocast: the dtype of matrix products; None for that of the weights.
        checkpointing: whether blocks are recomputed in the backward pass.
        offloading: whether the inputs of recomputed blocks wait in host memory.
        quantizer: the quantizer of the blocks' matrices, as `traced` returns it; None for no quantization.
        sequence_parallel: the number of devices that divide the tokens among them.
        budget: the bytes within which selective checkpointing keeps outputs; None for none.
        chunks: the number of chunks of tokens in which feed-forward is computed.
    """

    modalities: frozenset[str]
    lora: LoraTable | None
    dtype: torch.dtype
    adapter_dtype: torch.dtype
    autocast: torch.dtype | None
    checkpointing: bool
    quantizer: QuantizerType | None = None
    offloading: bool = False
    sequence_parallel: int = 1
    budget: int | None = None
    chunks: int = 1


@attrs.frozen(eq=False)
class Sketch:
    """A model on the meta device with its adapters.

    Attributes:
        backbone: the model, in which the trained parameters require gradients.
        trained: the names of the parameters that are trained.
        unreached: the names of the base's parameters that no loss of this run reaches.
    """

    backbone: LTXBackbone
    trained: frozenset[str]
    unreached: frozenset[str]


@attrs.define(eq=False)
class Tracer:
    """A tracer for one run, which runs models with a few blocks. For each number of blocks, it searches only once for the parameters that
    no loss reaches.

    Attributes:
        base: the model.
        strategy: the strategy of the run.
        frozen: the sum of the run's frozen LoRAs, with shapes but no values; None if there are none.
    """

    base: Base
    strategy: Strategy
    frozen: LoraFile | None = None
    _unreached: dict[tuple[frozenset[str], int], frozenset[str]] = attrs.field(factory=dict, init=False)

    def sketched(self, choice: Choice, inputs: Mapping[str, ModelInput], blocks: Sequence[int]) -> Sketch:
        """Return a model of these blocks, in which the trained parameters are those that `train.trained_model.load_model` selects."""
        backbone = self.base.sketch(choice.modalities, len(blocks))
        key = choice.modalities, len(blocks)
        if key not in self._unreached:  # neither adapters nor dtypes nor sizes change this
            self._unreached[key] = _unreached(backbone, self.strategy, inputs)
        unreached = self._unreached[key]
        if choice.quantizer is not None:
            _quantize(backbone, choice.quantizer)
        if choice.lora is None:
            for name, parameter in backbone.named_parameters():
                parameter.requires_grad_(name not in unreached)
            return Sketch(backbone, frozenset(name for name, _ in backbone.named_parameters()) - unreached, unreached)
        reachable = {name for name, _ in backbone.named_parameters()} - unreached
        if self.frozen is not None:
            freeze_loras(backbone, _in_blocks(self.frozen, blocks, choice.modalities), "model.loras")
        add_lora(backbone, **_of_blocks(choice.lora, blocks).adapters(), reachable=reachable)
        trained = {name for name, parameter in lora_parameters(backbone).items() if parameter.requires_grad}
        return Sketch(backbone, frozenset(trained), unreached)

    def activations(self, choice: Choice, inputs: Mapping[str, ModelInput]) -> Activations:
        """Count the activations of one micro-batch for a model with as many blocks as the base.

        Source: docs/explanation/arithmetic.md#activations
        """
        if choice.budget is None:
            return self._of_all(choice, inputs)
        least, most = (self._of_all(attrs.evolve(choice, budget=each), inputs) for each in (None, sys.maxsize))
        kept = min(choice.budget, most.saved - least.saved)
        return attrs.evolve(least, saved=least.saved + kept, peak=min(least.peak + kept, most.peak))

    def _of_all(self, choice: Choice, inputs: Mapping[str, ModelInput]) -> Activations:
        blocks = self.blocks_run(choice.lora)
        if all(count == 1 for count in blocks.values()):
            return self._run(choice, inputs, list(blocks))
        first, *between, last = blocks
        fewer = self._run(choice, inputs, [first, last])
        runs = {block: self._run(choice, inputs, [first, block, last]) for block in between}
        kept = {block: more.saved - fewer.saved for block, more in runs.items()}
        saved = sum(blocks[block] * kept[block] for block in between)
        host = sum(blocks[block] * (more.host - fewer.host) for block, more in runs.items())
        exchanged = sum(blocks[block] * (more.exchanged - fewer.exchanged) for block, more in runs.items())
        if choice.lora is None:  # gradients to which all blocks add wait for the last block
            peak = fewer.peak + sum(blocks[block] * (more.peak - fewer.peak) for block, more in runs.items())
        else:  # whichever block computes at the peak, the others have only what they keep
            peak = max(more.peak - kept[block] for block, more in runs.items()) + saved
        return Activations(fewer.saved + saved, peak, fewer.inputs, fewer.host + host, fewer.exchanged + exchanged)

    def blocks_run(self, lora: LoraTable | None) -> dict[int, int]:
        """Return the blocks to run, in order, and how many blocks each of them stands for: the first block, the last block and, between
        them, one block for all blocks in the same groups of the LoRA and with the same frozen adapters.
        """
        layers = self.base.num_layers
        if layers <= FEW or not _blocks_are_alike(lora):
            return dict.fromkeys(range(layers), 1)
        groups = [] if lora is None else [group.blocks for group in lora.groups if group.blocks is not None]
        frozen = _shapes_in_blocks(self.frozen)
        alike: dict[str, list[int]] = {}
        for number in range(1, layers - 1):
            key = [in_blocks(blocks, number) for blocks in groups], frozen.get(number)
            alike.setdefault(repr(key), []).append(number)
        return {0: 1, **{numbers[0]: len(numbers) for numbers in alike.values()}, layers - 1: 1}

    def said(self, choice: Choice) -> str:
        """Describe the models that are run to count the activations."""
        blocks = self.blocks_run(choice.lora)
        return f"{len(blocks)} blocks" if all(count == 1 for count in blocks.values()) else f"{FEW - 1} and {FEW} blocks"

    def _run(self, choice: Choice, inputs: Mapping[str, ModelInput], blocks: Sequence[int]) -> Activations:
        return _run(self.sketched(choice, inputs, blocks).backbone, choice, self.strategy, inputs, len(blocks))


def _in_blocks(frozen: LoraFile, blocks: Sequence[int], modalities: frozenset[str]) -> LoraFile:
    """Return the adapters of a model with the streams of these modalities and some of the blocks, numbered from 0 again."""
    numbers = {number: index for index, number in enumerate(blocks)}
    modules = {}
    for name, own in frozen.modules.items():
        block = block_of(name)
        if not is_needed(name, modalities):
            continue
        if block is None:
            modules[name] = own
        elif block in numbers:
            modules[name.replace(f".{block}.", f".{numbers[block]}.", 1)] = own
    return attrs.evolve(frozen, modules=modules)


def _shapes_in_blocks(frozen: LoraFile | None) -> dict[int | None, list[tuple[Any, ...]]]:
    """Return what distinguishes the adapters of one block from those of another, by the number of the block."""
    found: dict[int | None, list[tuple[Any, ...]]] = {}
    for name, own in sorted({} if frozen is None else frozen.modules.items()):
        found.setdefault(block_of(name), []).append((within_block(name), *sorted(shapes_of(own).items())))
    return found


def _of_blocks(lora: LoraTable, blocks: Sequence[int]) -> LoraTable:
    """Return the settings of a LoRA for a model with some of the blocks, numbered from 0 again."""

    def of_group(group: LoraGroup) -> LoraGroup | None:
        if group.blocks is None:
            return group
        own = [str(index) for index, number in enumerate(blocks) if in_blocks(group.blocks, number)]
        return attrs.evolve(group, blocks=",".join(own)) if own else None

    return evolved(lora, groups=[made for group in lora.groups if (made := of_group(group)) is not None])


def _blocks_are_alike(lora: LoraTable | None) -> bool:
    """Return whether blocks in the same groups have the same adapters, because no target and no pattern of a group names a block
    by its number, as `transformer_blocks.3.attn1.to_k` does.
    """
    if lora is None:
        return True
    targets = [] if isinstance(lora.target_modules, str) else lora.target_modules
    named = [*targets, *(pattern for group in lora.groups for pattern in group.modules or ())]
    return not any(re.search(r"(^|\.)\d+\.(?!proj)|^\d+$|^transformer_blocks\.", target) for target in named)


@attrs.define(eq=False)
class _Away(BlockInputs):
    """Inputs of blocks that leave the device and come back, without memory anywhere.

    Attributes:
        bytes: the bytes that left.
    """

    bytes: int = 0

    def to_host(self, tensor: Tensor) -> Any:
        self.bytes += tensor.numel() * tensor.element_size()
        return tensor.shape, tensor.dtype

    def to_device(self, host: Any) -> Tensor:
        shape, dtype = host
        return torch.empty(shape, dtype=dtype)


@attrs.define(eq=False)
class _Alone(SequenceGroup):
    """A group of which only one process runs, without memory anywhere.

    Attributes:
        sent: the bytes that the process sent to the others.
    """

    sent: int = 0

    def all_to_all(self, parts: Tensor) -> Tensor:
        self.sent += parts.numel() * parts.element_size() * (self.size - 1) // self.size
        return torch.empty_like(parts.contiguous())

    def all_gather(self, x: Tensor) -> Tensor:
        self.sent += x.numel() * x.element_size() * (self.size - 1)
        return x.new_empty(self.size, *x.shape)


def _run(backbone: LTXBackbone, choice: Choice, strategy: Strategy, inputs: Mapping[str, ModelInput], blocks: int) -> Activations:
    backbone.transformer.gradient_checkpointing = choice.checkpointing
    backbone.transformer.chunk_feed_forward(choice.chunks)
    away = _Away(torch.device("cpu")) if choice.offloading else None
    backbone.transformer.block_inputs = away
    among = _Alone(0, choice.sequence_parallel, None)
    if among.size > 1:
        divide_tokens(backbone.transformer, among)
    backbone.transformer.kept_outputs = None if choice.budget is None else KeptOutputs(choice.budget)
    known = {name: each.to("cpu") for name, each in inputs.items()}  # finds the shared levels, while there are values
    with FakeTensorMode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given = {name: _hollow(each) for name, each in known.items()}
        _fill_hollow(backbone, choice)
        for parameter in backbone.parameters():
            if parameter.requires_grad:  # gradients are counted elsewhere: here each is dropped once it is complete
                parameter.register_post_accumulate_grad_hook(_drop)
        fields = [*(attrs.asdict(each, recurse=False).values() for each in given.values()), *(each.shared or () for each in given.values())]
        tensors = [tensor for each in fields for tensor in each if isinstance(tensor, Tensor)]
        with LiveBytes([*backbone.parameters(), *backbone.buffers(), *tensors]) as live:
            loss = _loss(backbone, choice, strategy, given)
            saved = live.live
            loss.backward()
        given_bytes = sum(tensor.untyped_storage().nbytes() for tensor in tensors)
        if away is None:
            return Activations(saved, live.peak, given_bytes, exchanged=among.sent)
        unfinished = (AT_ONCE - 2) * away.bytes // blocks  # here, a block is finished when the next one asks for its inputs
        return Activations(saved, live.peak + unfinished, given_bytes, away.bytes, among.sent)


def _loss(backbone: LTXBackbone, choice: Choice, strategy: Strategy, inputs: Mapping[str, ModelInput]) -> Tensor:
    with torch.autocast("cpu", dtype=choice.autocast, enabled=choice.autocast is not None):
        predicted = {name: velocity.float() for name, velocity in backbone(inputs.get("video"), inputs.get("audio")).items()}
    return _total(strategy, predicted, inputs)


def _total(strategy: Strategy, predicted: Mapping[str, Tensor], inputs: Mapping[str, ModelInput]) -> Tensor:
    """Return the strategy's loss or, if it depends on values, which do not exist here, a loss that reads the same velocities."""
    with contextlib.suppress(RuntimeError, NotImplementedError, TypeError):
        return total_loss(strategy.loss(predicted, inputs))
    return torch.stack([velocity.square().mean() for name, velocity in predicted.items() if inputs[name].is_generated]).sum()


def _unreached(backbone: LTXBackbone, strategy: Strategy, inputs: Mapping[str, ModelInput]) -> frozenset[str]:
    on_meta = {name: each.to("meta") for name, each in inputs.items()}
    return unreached_parameters(backbone, lambda: _total(strategy, backbone(on_meta.get("video"), on_meta.get("audio")), on_meta))


def _quantize(backbone: LTXBackbone, quantizer: QuantizerType) -> None:
    transformer = backbone.transformer
    for path, module in list(transformer.named_modules()):
        if isinstance(module, nn.Linear) and is_quantizable(f"{path}.weight"):
            parent, _, child = path.rpartition(".")
            setattr(transformer.get_submodule(parent), child, quantized(module, quantizer, path))


RESTORING = 8.0
"""The bytes per weight that restoring a matrix takes at once, unless its quantizer states another number: two copies in float32."""


@attrs.frozen
class Restoring:
    """A substitute for all quantizers that restore matrices in the same number of bytes per weight. The activations of a step
    depend on nothing else, so they are counted only once.
    """

    restoring_bytes: float
    error = 0.0

    def store(self, linear: nn.Linear) -> nn.Linear:
        return quantized_linear(linear, torch.empty(linear.weight.shape, dtype=torch.int8, device="meta"), {}, self.restored)

    def restored(self, weight: Tensor, factors: Mapping[str, Tensor], shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
        torch.empty(round(prod(shape) * self.restoring_bytes), dtype=torch.uint8, device=weight.device)  # counted, and gone
        return torch.empty(shape, dtype=dtype, device=weight.device)

    def weight_bytes(self, shape: tuple[int, ...]) -> int:
        return prod(shape)


def traced(quantizer: QuantizerType | None) -> QuantizerType | None:
    """Return the quantizer with which the activations of a step are counted."""
    if quantizer is None or getattr(quantizer, "low_precision", False):
        return quantizer
    return Restoring(getattr(quantizer, "restoring_bytes", RESTORING))


def _drop(parameter: Tensor) -> None:
    parameter.grad = None


def _hollow(given: ModelInput) -> ModelInput:
    """Return inputs of the same shapes, but without memory; each tensor has its own storage."""

    def empty(value: Any) -> Any:
        return torch.empty(value.shape, dtype=value.dtype) if isinstance(value, Tensor) else value

    fields = {field.name: empty(getattr(given, field.name)) for field in attrs.fields(ModelInput)}
    shared = None if given.shared is None else SharedLevels(*map(empty, given.shared))
    return ModelInput(**fields | {"applied": {key: empty(value) for key, value in given.applied.items()}, "shared": shared})


def _fill_hollow(backbone: LTXBackbone, choice: Choice) -> None:
    """Move every parameter from the meta device to the CPU, still without memory."""
    adapters = set(lora_parameters(backbone)) if choice.lora is not None else set()
    for path, module in list(backbone.named_modules()):
        for own, parameter in list(module.named_parameters(recurse=False)):
            dtype = choice.adapter_dtype if f"{path}.{own}" in adapters else choice.dtype
            dtype = dtype if parameter.is_floating_point() else parameter.dtype
            module.register_parameter(own, Parameter(torch.empty(parameter.shape, dtype=dtype), requires_grad=parameter.requires_grad))
        for own, buffer in list(module.named_buffers(recurse=False)):
            module.register_buffer(own, torch.empty(buffer.shape, dtype=buffer.dtype))
