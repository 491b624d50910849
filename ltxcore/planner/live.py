"""The bytes of live tensors, counted as operations create them and as Python and autograd release them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """A mode that counts every storage that an operation creates, for as long as autograd or the computation holds it.

    Storages are counted, not tensors, so that views cost nothing. The mode also works with tensors without memory.

    Attributes:
        live: the bytes at present.
        peak: the largest number of bytes since the mode began or `peak` was set.
    """

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        """The tensors in `known` existed before and are not counted."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0
        self.peak = 0
        self._held: dict[int, tuple[int, Any]] = {}
        self._known = {tensor.untyped_storage()._cdata: tensor for tensor in known}

    def count(self, tensors: Iterable[Tensor]) -> None:
        """Count tensors that existed before, too, for as long as they still exist."""
        for tensor in tensors:
            self._count(tensor.untyped_storage())

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._held or key in self._known:
            return
        self._held[key] = storage.nbytes(), weakref.ref(storage, lambda _: self._let_go(key))
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)

    def _let_go(self, key: int) -> None:
        size, _ = self._held.pop(key)
        self.live -= size
