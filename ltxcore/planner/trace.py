"""A step of a model of a few blocks, run on tensors without memory: what each block holds, computes and moves.

One trace gives the bytes and the work of a step with any number of such blocks, with and without gradient checkpointing, with and without
quantized weights, and with inputs of blocks in host memory. What selective checkpointing keeps is traced on its own.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, pairwise
from typing import Any

import attrs
import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.utils.hooks import RemovableHandle

from ltxcore.levels import SharedLevels
from ltxcore.models.attention import Norm
from ltxcore.models.backbone import LTXBackbone
from ltxcore.models.kept_outputs import KeptOutputs
from ltxcore.models.quantized import is_quantizable
from ltxcore.models.reach import unreached_parameters
from ltxcore.models.sequence_parallel import SequenceGroup, divide_tokens
from ltxcore.planner.hollow import Hollow, Work, tensors_in
from ltxcore.protocols import ModelInput

Uses = Mapping[int, tuple[int, int]]
"""The most bytes that exist before and after a product with a matrix, by the number of weights in the matrix."""


@attrs.frozen
class BlockTrace:
    """A block in a step in which every activation is kept. Bytes are without weights, their gradients and the inputs of the model.

    Attributes:
        times: the number of blocks of the model that the block stands for.
        begins: the bytes when its forward begins.
        kept: the bytes that remain of its forward, with its outputs and without its inputs.
        gone: the bytes of `kept` that no longer exist when the backward begins.
        outputs: the bytes of the block's outputs, which are the inputs of the next block; for the last block, only those that are kept for
            the backward.
        highest: the most bytes in its forward.
        casts: the bytes of copies of weights in the dtype of autocast that remain until the forward of the model ends.
        begins_backward: the bytes when its backward begins.
        highest_backward: the most bytes in its backward.
        uses: the uses of matrices that can be quantized in its forward.
        uses_backward: the same in its backward.
        forward: the work of its forward.
        backward: the work of its backward.
    """

    times: int
    begins: int
    kept: int
    gone: int
    outputs: int
    highest: int
    casts: int
    begins_backward: int
    highest_backward: int
    uses: Uses
    uses_backward: Uses
    forward: Work
    backward: Work


@attrs.frozen
class Trace:
    """A step of a model of a few blocks.

    Attributes:
        blocks: the blocks, in order.
        inputs: the bytes of the inputs of the model.
        entered: the bytes of the inputs of the first block that depend on the block, its tokens.
        saved: the bytes when the backward begins.
        forgotten: the bytes of inputs of the first block that no longer exist when the backward begins. Gradient checkpointing keeps them.
        highest_between: the most bytes between the forward and the backward of the last block.
        work: the work outside the blocks.
        outputs_kept: the bytes that selective checkpointing keeps of each block in an unlimited budget; empty if it was not traced.
    """

    blocks: tuple[BlockTrace, ...]
    inputs: int
    entered: int
    saved: int
    forgotten: int
    highest_between: int
    work: Work
    outputs_kept: tuple[int, ...] = ()


@attrs.define(eq=False)
class _Watched:
    """The record of a block, which is written while the block runs."""

    begins: int = 0
    ends: int = 0
    number: int = 0
    kept: Mapping[Any, int] = attrs.field(factory=dict)
    outputs: Mapping[Any, int] = attrs.field(factory=dict)
    highest: int = 0
    casts: int = 0
    gone: int = 0
    begins_backward: int | None = None
    highest_backward: int = 0
    uses: dict[int, tuple[int, int]] = attrs.field(factory=dict)
    uses_backward: dict[int, tuple[int, int]] = attrs.field(factory=dict)
    forward: Work = attrs.field(factory=Work)
    backward: Work = attrs.field(factory=Work)


@attrs.define(eq=False)
class _Watch:
    """The hooks that note where blocks begin and end.

    Attributes:
        mode: the mode that counts.
        blocks: what is noted of each block.
        work: the work outside the blocks.
        between: the most bytes between the last block's forward and its backward.
        forgotten: the bytes of `inputs` that no longer exist when the backward begins.
        entered: the bytes of the tokens that the first block gets.
        inputs: the storages that the first block gets.
    """

    mode: Hollow
    blocks: list[_Watched]
    work: Work = attrs.field(factory=Work)
    between: int = 0
    forgotten: int = 0
    entered: int = 0
    inputs: Mapping[Any, int] = attrs.field(factory=dict)
    _now: _Watched | None = None
    _is_backward: bool = False

    def hooks(self, number: int, block: nn.Module) -> Iterator[RemovableHandle]:
        """Add the hooks to a block, and yield their handles."""
        own = self.blocks[number]

        def begin(module: nn.Module, inputs: Any) -> None:
            self._outside()
            if own is self.blocks[0]:
                self.inputs = self.mode.marked(tensors_in(inputs))
                self.entered = sum(_size(each) for each in inputs if isinstance(each, Tensor))
            own.number = self.mode.made
            own.begins, self.mode.peak, self._now = self.mode.live, self.mode.live, own
            own.casts = -self.mode.casts

        def end(module: nn.Module, inputs: Any, outputs: Any) -> None:
            tensors = [each for each in outputs if isinstance(each, Tensor)]
            own.ends, own.highest, own.forward, self._now = self.mode.live, self.mode.peak, self.mode.work(), None
            own.casts += self.mode.casts
            own.kept, own.outputs = self.mode.held(own.number), self.mode.marked(tensors)
            self.mode.peak = self.mode.live
            for each in tensors:
                if each.requires_grad:
                    each.register_hook(lambda gradient: self._backward(own))

        yield block.register_forward_pre_hook(begin)
        yield block.register_forward_hook(end)

    def _outside(self) -> None:
        self.work += self.mode.work()

    def _backward(self, own: _Watched) -> None:
        """A gradient has arrived at an output of a block; the first one begins its backward."""
        if own.begins_backward is not None:
            return
        self._leave()
        own.begins_backward, self._now, self._is_backward = self.mode.live, own, True
        self.mode.peak = self.mode.live

    def _leave(self) -> None:
        """Record the end of the phase that came before."""
        if self._now is None:
            self._outside()
            self.between = self.mode.peak
        else:
            self._now.highest_backward, self._now.backward = self.mode.peak, self.mode.work()

    def used(self, numbers: int, before: int, after: int) -> None:
        """Note the bytes around a product with a matrix that can be quantized."""
        if self._now is not None:
            uses = self._now.uses_backward if self._is_backward else self._now.uses
            most_before, most_after = uses.get(numbers, (0, 0))
            uses[numbers] = max(before, most_before), max(after, most_after)

    def saved(self) -> None:
        """Note what no longer exists when the backward begins."""
        for each in self.blocks:
            each.gone = self.mode.gone(each.kept)
        outputs = self.blocks[-1].outputs
        self.blocks[-1].outputs = {mark: size for mark, size in outputs.items() if mark() is not None}
        self.forgotten = self.mode.gone(self.inputs)

    def traced(self, times: Sequence[int]) -> tuple[BlockTrace, ...]:
        self._leave()
        ends = [*(each.begins for each in self.blocks[1:]), self.blocks[-1].ends]  # between two blocks, inputs of the first may be let go
        return tuple(
            BlockTrace(
                times=count,
                begins=each.begins,
                kept=end - each.begins,
                gone=each.gone,
                outputs=sum(each.outputs.values()),
                highest=each.highest,
                casts=each.casts,
                begins_backward=each.begins_backward or 0,
                highest_backward=each.highest_backward,
                uses=each.uses,
                uses_backward=each.uses_backward,
                forward=each.forward,
                backward=each.backward,
            )
            for count, each, end in zip(times, self.blocks, ends, strict=True)
        )


@attrs.define(eq=False)
class _Alone(SequenceGroup):
    """A group of processes in which only one process runs, on tensors without memory.

    Attributes:
        mode: the mode that counts what the process sends to the others.
    """

    mode: Hollow

    def all_to_all(self, parts: Tensor) -> Tensor:
        self.mode.send(parts.numel() * parts.element_size() * (self.size - 1) // self.size)
        return torch.empty_like(parts.contiguous())

    def all_gather(self, x: Tensor) -> Tensor:
        self.mode.send(x.numel() * x.element_size() * (self.size - 1))
        return x.new_empty(self.size, *x.shape)


def trace(
    backbone: LTXBackbone,
    inputs: Mapping[str, ModelInput],
    loss: Callable[[Mapping[str, ModelInput]], Tensor],
    *,
    dtype: Callable[[str], torch.dtype],
    times: Sequence[int],
    batch_size: int = 1,
    sequence_parallel: int = 1,
    seen: dict[Any, Any] | None = None,
) -> Trace:
    """Run a forward and a backward of a model on the meta device, which gets parameters without memory. The same model may be run again,
    with other dtypes and other numbers of samples.

    Args:
        backbone: the model.
        inputs: the inputs for one sample.
        loss: runs the model on inputs and returns the loss.
        dtype: the dtype of each parameter, by name.
        times: the number of blocks that each block of the model stands for.
        batch_size: the number of samples.
        sequence_parallel: the number of devices that divide the tokens among them.
        seen: the shapes that `Hollow` keeps from one trace to the next.
    """
    with contextlib.ExitStack() as hooks, without_memory(backbone, inputs, dtype, batch_size, sequence_parallel, seen) as (mode, given):
        watch = _Watch(mode, [_Watched() for _ in times])
        of_blocks = (watch.hooks(number, block) for number, block in enumerate(backbone.transformer.transformer_blocks))
        of_norms = (_as_on_gpu(module, mode) for module in backbone.modules() if isinstance(module, Norm))
        for handle in chain.from_iterable((*of_blocks, *of_norms)):
            hooks.callback(handle.remove)
        blocks = backbone.transformer.named_parameters()
        mode.watch((each for name, each in blocks if is_quantizable(name) and not each.requires_grad), watch.used)
        result = loss(given)
        saved = mode.live
        watch.saved()
        if result.requires_grad:
            result.backward()
        traced = watch.traced(times)
        return Trace(traced, size_of(given.values()), watch.entered, saved, watch.forgotten, watch.between, watch.work)


def outputs_kept(
    backbone: LTXBackbone,
    inputs: Mapping[str, ModelInput],
    loss: Callable[[Mapping[str, ModelInput]], Tensor],
    *,
    dtype: Callable[[str], torch.dtype],
    batch_size: int = 1,
    sequence_parallel: int = 1,
    seen: dict[Any, Any] | None = None,
) -> tuple[int, ...]:
    """Return the bytes that selective checkpointing keeps of each block in an unlimited budget.

    The arguments are those of `trace`. The forward runs twice, without a budget and without a limit; the difference is what is kept.
    """
    with without_memory(backbone, inputs, dtype, batch_size, sequence_parallel, seen) as (mode, given):
        backbone.transformer.gradient_checkpointing = True
        blocks = backbone.transformer.transformer_blocks
        held: list[int] = []
        for block in blocks:
            block.register_forward_pre_hook(lambda *_: held.append(mode.live))
        blocks[-1].register_forward_hook(lambda *_: held.append(mode.live))
        grown = []
        for budget in (0, sys.maxsize):
            held.clear()
            backbone.transformer.kept_outputs = KeptOutputs(budget)
            loss(given)
            grown.append([after - before for before, after in pairwise(held)])
        return tuple(most - least for least, most in zip(*grown, strict=True))


def unreached(
    backbone: LTXBackbone,
    inputs: Mapping[str, ModelInput],
    loss: Callable[[Mapping[str, ModelInput]], Tensor],
    *,
    dtype: torch.dtype,
    seen: dict[Any, Any] | None = None,
) -> frozenset[str]:
    """Return the names of the parameters that no gradient of the loss reaches, as `models.reach` finds them.

    The arguments are those of `trace`, with one dtype for all parameters.
    """
    with without_memory(backbone, inputs, lambda name: dtype, 1, 1, seen) as (_, given):
        return unreached_parameters(backbone, lambda: loss(given))


@contextlib.contextmanager
def without_memory(
    backbone: LTXBackbone,
    inputs: Mapping[str, ModelInput],
    dtype: Callable[[str], torch.dtype],
    batch_size: int,
    sequence_parallel: int,
    seen: dict[Any, Any] | None,
) -> Iterator[tuple[Hollow, dict[str, ModelInput]]]:
    """Give a model parameters without memory, and yield the mode that counts and the inputs."""
    known = {name: each.to("cpu") for name, each in inputs.items()}  # finds the shared levels, while there are values
    with Hollow(seen) as mode, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if sequence_parallel > 1:
            divide_tokens(backbone.transformer, _Alone(0, sequence_parallel, None, mode))
        given = {name: hollow(each, batch_size) for name, each in known.items()}
        fill(backbone, dtype)
        for parameter in backbone.parameters():
            if parameter.requires_grad:  # gradients are counted elsewhere: here each is dropped once it is complete
                parameter.register_post_accumulate_grad_hook(_drop)
        mode.ignore([*backbone.parameters(), *backbone.buffers(), *(tensor for each in given.values() for tensor in _tensors(each))])
        yield mode, given


def _as_on_gpu(norm: Norm, mode: Hollow) -> Iterator[RemovableHandle]:
    """Count the work of a norm as that of the single kernel that GPUs have for it, although the CPU uses several operations. Yield
    the handles of the hooks that do so.
    """

    def begin(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        mode.mute(2 * _size(inputs[0]))

    def end(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        mode.unmute()
        node, size = output.grad_fn, 3 * _size(inputs[0])
        if node is not None and "RmsNorm" in type(node).__name__:
            node.register_prehook(lambda gradients: mode.mute(size))
            node.register_hook(lambda gradients, others: mode.unmute())

    yield norm.register_forward_pre_hook(begin)
    yield norm.register_forward_hook(end)


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def size_of(inputs: Iterable[ModelInput]) -> int:
    """Return the bytes of the tensors of some inputs."""
    return sum(_size(tensor) for each in inputs for tensor in _tensors(each))


def _drop(parameter: Tensor) -> None:
    parameter.grad = None


def _tensors(given: ModelInput) -> list[Tensor]:
    fields = [*attrs.asdict(given, recurse=False).values(), *(given.shared or ())]
    return [each for each in fields if isinstance(each, Tensor)]


def hollow(given: ModelInput, batch_size: int) -> ModelInput:
    """Return inputs of the same shapes, for `batch_size` samples instead of one, but without memory; each tensor has its own storage."""

    def empty(value: Any) -> Any:
        return torch.empty((batch_size, *value.shape[1:]), dtype=value.dtype) if isinstance(value, Tensor) else value

    fields = {field.name: empty(getattr(given, field.name)) for field in attrs.fields(ModelInput)}
    if given.strengths is not None:  # one for each group, not for each sample
        fields["strengths"] = torch.empty(given.strengths.shape, dtype=given.strengths.dtype)
    shared = None if given.shared is None else SharedLevels(*map(empty, given.shared))
    return ModelInput(**fields | {"applied": {key: empty(value) for key, value in given.applied.items()}, "shared": shared})


def fill(backbone: LTXBackbone, dtype: Callable[[str], torch.dtype]) -> None:
    """Move every parameter from the meta device to tensors without memory."""
    for path, module in list(backbone.named_modules()):
        for own, parameter in list(module.named_parameters(recurse=False)):
            new = dtype(f"{path}.{own}") if parameter.is_floating_point() else parameter.dtype
            module.register_parameter(own, Parameter(torch.empty(parameter.shape, dtype=new), requires_grad=parameter.requires_grad))
        for own, buffer in list(module.named_buffers(recurse=False)):
            module.register_buffer(own, torch.empty(buffer.shape, dtype=buffer.dtype))
