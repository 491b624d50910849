"""Blocks that are computed again in the backward pass, and whether that is what is going on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

_THREAD = threading.local()
"""On a GPU the backward pass has a thread of its own."""


def computed_again(block: nn.Module, *inputs: Any) -> Any:
    """What `block` makes of its inputs; of what lies between, nothing is kept, and the backward pass computes it once more."""
    return checkpoint(block, *inputs, use_reentrant=False, context_fn=_contexts)


def is_again() -> bool:
    """Whether a block is being computed for the second time: these come from the last to the first."""
    return bool(getattr(_THREAD, "again", False))


def _contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _again()


@contextmanager
def _again() -> Iterator[None]:
    _THREAD.again = True
    try:
        yield
    finally:
        _THREAD.again = False
