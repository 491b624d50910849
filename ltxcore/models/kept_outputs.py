"""Selective checkpointing: within a budget of bytes, the outputs of attention and matrix products are kept, and the backward pass recomputes
only what lies between them.

Attention with at least as many keys as queries comes first, in all blocks: for a long clip, its outputs are the most expensive to compute
for each byte that they take. What is left of the budget goes to matrix products and other attention, such as that to the text, beginning
with the first blocks.

PyTorch's own selective checkpointing expects the same operations in both passes. Block swap copies other matrices in the backward than in
the forward pass, so this module counts only the operations whose outputs it keeps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

_aten = torch.ops.aten

ATTENTION = frozenset(
    {
        _aten._scaled_dot_product_flash_attention.default,
        _aten._scaled_dot_product_flash_attention_for_cpu.default,
        _aten._scaled_dot_product_efficient_attention.default,
        _aten._scaled_dot_product_cudnn_attention.default,
    }
)
"""The operations of torch's own attention."""

PRODUCTS = {_aten.mm.default: 0, _aten.addmm.default: 1, _aten._int_mm.default: 0, _aten._scaled_mm.default: 0}
"""The operations that multiply by a matrix, each with the place of the factor on the left among its arguments."""

NARROW = 8
"""A product is not kept if its output has more than this number of times the width of its input: like that of the matrix B of a LoRA, it
takes little time to compute and much memory.
"""


@attrs.define(eq=False)
class KeptOutputs:
    """The rest of the budget in one forward pass.

    Attributes:
        budget: the largest number of bytes that one forward pass keeps.
    """

    budget: int
    _left: int = attrs.field(default=0, init=False)
    _blocks: int = attrs.field(default=0, init=False)
    _of_first: int | None = attrs.field(default=None, init=False)
    """The bytes of what comes first in one block; None until the first block has computed."""
    _in_block: int = attrs.field(default=0, init=False)

    def begin(self, blocks: int) -> None:
        """Begin a forward pass of a model with this number of blocks."""
        self._left, self._blocks, self._of_first, self._in_block = self.budget, blocks, None, 0

    def of_block(self) -> tuple[TorchDispatchMode, TorchDispatchMode]:
        """Return the contexts in which the next block computes and is recomputed."""
        if self._in_block:
            self._of_first, self._in_block = self._in_block, 0
        self._blocks -= 1
        kept: deque[Any] = deque()
        return _Keeping(self, kept), _Giving(kept)

    def takes(self, operation: Any, arguments: tuple[Any, ...], size: int) -> bool:
        """Return whether the budget has room for the output of an operation, and take it from the budget if so."""
        reserved = 0
        if operation in ATTENTION and arguments[1].shape[-2] >= arguments[0].shape[-2]:
            self._in_block += size
        else:
            place = PRODUCTS.get(operation)
            is_cheap = place is not None and arguments[place + 1].shape[-1] > NARROW * arguments[place].shape[-1]
            if self._of_first is None or is_cheap:
                return False
            reserved = self._of_first * (self._blocks + 1) - self._in_block
        if size > self._left - reserved:
            return False
        self._left -= size
        return True


class _Keeping(TorchDispatchMode):
    """The mode of the forward pass, which keeps outputs. An output that is not kept is None."""

    def __init__(self, outputs: KeptOutputs, kept: deque[Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.outputs, self.kept = outputs, kept

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        if func in ATTENTION or func in PRODUCTS:
            size = sum(each.numel() * each.element_size() for each in tree_leaves(found) if isinstance(each, Tensor))
            is_kept = self.outputs.takes(func, args, size)
            # Without `detach`, the output would keep the graph of the forward pass, which keeps the output.
            self.kept.append(tree_map(lambda each: each.detach() if isinstance(each, Tensor) else each, found) if is_kept else None)
        elif func._schema.is_mutable:  # type: ignore[attr-defined]
            self._forget(func, args, kwargs or {})
        return found

    def _forget(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Keep no output that an operation writes to, as the linear layers of DeepSpeed and some adapters do to add to a product."""
        given = {argument.name: value for argument, value in zip(func._schema.arguments, args, strict=False)} | dict(kwargs)
        written = {argument.name for argument in func._schema.arguments if argument.alias_info is not None and argument.alias_info.is_write}
        changed = _storages([given.get(name) for name in written])
        for place, value in enumerate(self.kept):
            if changed & _storages(value):
                self.kept[place] = None


class _Giving(TorchDispatchMode):
    """The mode in which a block is recomputed: an operation returns the output that was kept, once, or computes it."""

    def __init__(self, kept: deque[Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kept = kept

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kept = self.kept.popleft() if self.kept and (func in ATTENTION or func in PRODUCTS) else None
        return func(*args, **(kwargs or {})) if kept is None else kept


def _storages(values: Any) -> set[int]:
    return {each.untyped_storage()._cdata for each in tree_leaves(values) if isinstance(each, Tensor)}
