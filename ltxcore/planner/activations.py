"""The activations of a step, which follow from one run of the real forward and backward on tensors that have shapes but no memory.

The blocks of a model are alike, so the first block, the last and one between them show what any number of blocks takes. If the groups of a
LoRA differ from block to block, one block of each kind is run. The count includes everything that the CPU's kernels keep. As with flash
attention on a GPU, attention keeps its inputs, its output and one number per row, but never the scores.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import Any, TypeVar

import attrs
import torch
from torch import Tensor, nn

from ltxcore.config.groups import LoraGroup, in_blocks
from ltxcore.config.parts import evolved
from ltxcore.config.run_file import LoraTable
from ltxcore.flow.loss import total_loss
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.base import Base
from ltxcore.models.block_inputs import AT_ONCE
from ltxcore.models.frozen_loras import freeze_loras
from ltxcore.models.lora import add_lora, lora_parameters
from ltxcore.models.lora_file import LoraFile, shapes_of
from ltxcore.models.parameter_names import block_of, is_needed, within_block
from ltxcore.models.quantized import is_quantizable, quantized
from ltxcore.planner.trace import Trace, Uses, outputs_kept, trace, unreached
from ltxcore.protocols import ModelInput, Strategy
from ltxcore.quantizers import QuantizerType

T = TypeVar("T")

FEW = 3
"""The number of blocks that suffice to count the bytes of any number of blocks: the first, the last, and one between them."""

RESTORING = 8.0
"""The bytes per weight that restoring a matrix takes at once, unless its quantizer states another number: two copies in float32."""


@attrs.frozen
class Restoring:
    """All quantizers that restore matrices in the same number of bytes per weight. The activations of a step depend on nothing else.

    Attributes:
        restoring_bytes: the bytes per weight that restoring a matrix takes at once.
    """

    restoring_bytes: float


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
        late: the largest number of bytes while the first block computes its backward, when the gradients of all other blocks exist.
    """

    saved: int
    peak: int
    inputs: int
    host: int = 0
    late: int = 0
    exchanged: int = 0

    def of_several(self, forwards: int) -> Activations:
        """Return the activations if this number of forwards is done before the first backward.

        Source: docs/explanation/arithmetic.md#activations
        """
        others = (forwards - 1) * self.saved
        host, exchanged = forwards * self.host, forwards * self.exchanged
        return Activations(forwards * self.saved, self.peak + others, self.inputs, host, self.late + others, exchanged)


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
    quantizer: QuantizerType | Restoring | None = None
    offloading: bool = False
    sequence_parallel: int = 1
    budget: int | None = None
    chunks: int = 1

    @property
    def plain(self) -> Choice:
        """The settings of the run from which the activations follow: all of them are kept, and no matrix is restored."""
        quantizer = None if isinstance(self.quantizer, Restoring) else self.quantizer
        budget = None if self.budget is None else sys.maxsize  # what any budget keeps follows from what an unlimited one keeps
        return attrs.evolve(self, checkpointing=False, offloading=False, quantizer=quantizer, budget=budget)


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
    """A tracer for one run, which runs models with a few blocks. It builds a model once for all dtypes and numbers of samples, since
    putting adapters into a model takes as long as running it. For each number of blocks, it searches only once for the parameters that no
    loss reaches.

    Attributes:
        base: the model.
        strategy: the strategy of the run.
        frozen: the sum of the run's frozen LoRAs, with shapes but no values; None if there are none.
    """

    base: Base
    strategy: Strategy
    frozen: LoraFile | None = None
    _unreached: dict[tuple[frozenset[str], int], frozenset[str]] = attrs.field(factory=dict, init=False)
    _sketches: dict[str, Sketch] = attrs.field(factory=dict, init=False)
    _seen: dict[Any, Any] = attrs.field(factory=dict, init=False)

    def sketched(self, choice: Choice, inputs: Mapping[str, ModelInput], blocks: Sequence[int]) -> Sketch:
        """Return a model of these blocks, in which the trained parameters are those that `train.trained_model.load_model` selects."""
        backbone = self.base.sketch(choice.modalities, len(blocks))
        without_loss = self._without_loss(choice, inputs, len(blocks))
        if choice.quantizer is not None and not isinstance(choice.quantizer, Restoring):
            _quantize(backbone, choice.quantizer)
        if choice.lora is None:
            for name, parameter in backbone.named_parameters():
                parameter.requires_grad_(name not in without_loss)
            return Sketch(backbone, frozenset(name for name, _ in backbone.named_parameters()) - without_loss, without_loss)
        reachable = {name for name, _ in backbone.named_parameters()} - without_loss
        if self.frozen is not None:
            freeze_loras(backbone, _in_blocks(self.frozen, blocks, choice.modalities), "model.loras")
        add_lora(backbone, **_of_blocks(choice.lora, blocks).adapters(), reachable=reachable)
        trained = {name for name, parameter in lora_parameters(backbone).items() if parameter.requires_grad}
        return Sketch(backbone, frozenset(trained), without_loss)

    def sketched_once(self, choice: Choice, inputs: Mapping[str, ModelInput], blocks: Sequence[int]) -> Sketch:
        """Return what `sketched` returns, the same for every choice of dtypes. Its shapes, names and adapters must not be changed."""
        lora = None if choice.lora is None else attrs.astuple(choice.lora, recurse=False)
        key = repr((sorted(choice.modalities), lora, choice.quantizer, list(blocks)))
        if key not in self._sketches:
            self._sketches[key] = self.sketched(choice, inputs, blocks)
        return self._sketches[key]

    def _without_loss(self, choice: Choice, inputs: Mapping[str, ModelInput], layers: int) -> frozenset[str]:
        key = choice.modalities, layers
        if key not in self._unreached:  # neither adapters nor dtypes nor sizes change this
            backbone, plain = self.base.sketch(choice.modalities, layers), choice.plain
            self._unreached[key] = unreached(
                backbone, inputs, lambda given: _loss(backbone, plain, self.strategy, given), dtype=plain.dtype, seen=self._seen
            )
        return self._unreached[key]

    def traced(self, choice: Choice, inputs: Mapping[str, ModelInput], batch_size: int = 1) -> Trace:
        """Run a step of a model of a few blocks, in which every activation is kept.

        Args:
            choice: the settings; those that `Choice.plain` leaves out make no difference.
            inputs: the inputs for one sample.
            batch_size: the number of samples.
        """
        plain, times = choice.plain, list(self.blocks_run(choice.lora).values())
        found = self.run(plain, inputs, batch_size, partial(trace, times=times))
        return found if plain.budget is None else attrs.evolve(found, outputs_kept=self.run(plain, inputs, batch_size, outputs_kept))

    def run(self, plain: Choice, inputs: Mapping[str, ModelInput], batch_size: int, counted: Callable[..., T]) -> T:
        """Run a model of a few blocks by `counted`, which takes what `trace.outputs_kept` takes, and return its result.

        Args:
            plain: the settings, as `Choice.plain` returns them.
            inputs: the inputs for one sample of a step.
            batch_size: the number of samples.
            counted: runs the model and counts.
        """
        blocks = list(self.blocks_run(plain.lora))
        is_changed = plain.sequence_parallel > 1 or plain.budget is not None  # then the model computes in another way from now on
        backbone = (self.sketched if is_changed else self.sketched_once)(plain, inputs, blocks).backbone
        backbone.transformer.chunk_feed_forward(plain.chunks)
        adapters = set(lora_parameters(backbone)) if plain.lora is not None else set()
        return counted(
            backbone,
            inputs,
            lambda given: _loss(backbone, plain, self.strategy, given),
            dtype=lambda name: plain.adapter_dtype if name in adapters else plain.dtype,
            batch_size=batch_size,
            sequence_parallel=plain.sequence_parallel,
            seen=self._seen,
        )

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
        """Describe the model that is run to count the activations."""
        return f"{len(self.blocks_run(choice.lora))} blocks"


def activations_of(traced: Trace, choice: Choice) -> Activations:
    """Count the activations of one micro-batch of the whole model.

    Args:
        traced: the step of a model of a few blocks, with `choice.plain`.
        choice: the settings of the run.

    Source: docs/explanation/arithmetic.md#activations
    """
    blocks, again = traced.blocks, choice.checkpointing
    restored = choice.quantizer.restoring_bytes if isinstance(choice.quantizer, Restoring) else None
    itemsize = (choice.autocast or choice.dtype).itemsize

    def most(highest: int, uses: Uses) -> int:
        if restored is None:
            return highest
        return max([highest, *(max(a + round(n * restored), b + n * itemsize) for n, (a, b) in uses.items())])

    there = [each.kept - each.gone for each in blocks]
    kept = [each.outputs if again else own for each, own in zip(blocks, there, strict=True)]
    # What the blocks of the model up to one of them keep, beyond what the blocks of the trace keep.
    more = [*accumulate(each.times * own - known for each, own, known in zip(blocks, kept, there, strict=True))]
    context = traced.forgotten if again else 0
    in_any_order = len(blocks) > FEW and any(each.times > 1 for each in blocks)
    peaks = [traced.highest_between + more[-1]]
    if again:  # all copies of weights exist until the forward ends
        peaks.append(blocks[0].begins + sum(each.times * (own + each.casts) for each, own in zip(blocks, kept, strict=True)))
    for number, (each, own, known) in enumerate(zip(blocks, kept, there, strict=True)):
        later = sum(other.times * rest for other, rest in [*zip(blocks, kept, strict=True)][number + 1 :]) if in_any_order else 0
        backward = most(each.highest_backward, each.uses_backward) + more[number] + later
        forward = most(each.highest, each.uses) - each.begins
        if again:
            peaks += [each.begins_backward + more[number] + later + forward, backward + known - own]
        else:
            peaks += [each.begins + forward + more[number] + known - own, backward]
    # Gradients to which all blocks add wait for the first block.
    pairs = zip(blocks[1:], blocks, there[1:], strict=False)
    waiting = sum((each.times - 1) * max(0, before.begins_backward - each.begins_backward + known) for each, before, known in pairs)
    first = blocks[0]
    late = most(first.highest_backward, first.uses_backward)
    if again:
        late = max(late, first.begins_backward + kept[0] - there[0] + most(first.highest, first.uses) - first.begins)
    late += waiting + context
    exchanged = round(traced.work.sent + sum(each.times * (each.forward.sent * (1 + again) + each.backward.sent) for each in blocks))
    saved, peak = traced.saved + more[-1] + context, max(*peaks, late - context) + context
    if choice.budget is not None and traced.outputs_kept:
        every = sum(each.times * own for each, own in zip(blocks, traced.outputs_kept, strict=True))
        kept_within = min(choice.budget, every)
        saved += kept_within
        peak += min(kept_within, every - min(traced.outputs_kept))  # the block that computes uses its own
    if not (again and choice.offloading):
        return Activations(saved, peak, traced.inputs, 0, late, exchanged)
    count = sum(each.times for each in blocks)
    host, here = count * traced.entered, min(AT_ONCE, count) * traced.entered
    late += here - traced.entered
    return Activations(saved - host, max(peak - host + here, late), traced.inputs, host, late, exchanged)


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


def _loss(backbone: LTXBackbone, choice: Choice, strategy: Strategy, inputs: Mapping[str, ModelInput]) -> Tensor:
    with torch.autocast("cpu", dtype=choice.autocast, enabled=choice.autocast is not None):
        predicted = {name: velocity.float() for name, velocity in backbone(inputs.get("video"), inputs.get("audio")).items()}
    return _total(strategy, predicted, inputs)


def _total(strategy: Strategy, predicted: Mapping[str, Tensor], inputs: Mapping[str, ModelInput]) -> Tensor:
    """Return the strategy's loss or, if it depends on values, which do not exist here, a loss that reads the same velocities."""
    with contextlib.suppress(RuntimeError, NotImplementedError, TypeError):
        return total_loss(strategy.loss(predicted, inputs))
    return torch.stack([velocity.square().mean() for name, velocity in predicted.items() if inputs[name].is_generated]).sum()


def _quantize(backbone: LTXBackbone, quantizer: QuantizerType) -> None:
    transformer = backbone.transformer
    for path, module in list(transformer.named_modules()):
        if isinstance(module, nn.Linear) and is_quantizable(f"{path}.weight"):
            parent, _, child = path.rpartition(".")
            setattr(transformer.get_submodule(parent), child, quantized(module, quantizer, path))


def traced(quantizer: QuantizerType | None) -> QuantizerType | Restoring | None:
    """Return the quantizer with which the activations of a step are counted."""
    if quantizer is None or getattr(quantizer, "low_precision", False):
        return quantizer
    return Restoring(getattr(quantizer, "restoring_bytes", RESTORING))
