"""An allocator that refuses: what runs out of memory, where a test says."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

MESSAGE = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.69 GiB of which 1.00 GiB is free."


class Refusing(TorchDispatchMode):
    """The first operations that some functions are in refuse; afterwards there is memory again.

    Args:
        functions: their names, as `_micro_step`: all are to be on the stack.
        where: values of local variables of the first of them; others are let through.
        times: operations that refuse.
        error: what they raise.
    """

    def __init__(
        self, *functions: str, where: Mapping[str, Any] | None = None, times: int = 1, error: Callable[[], Exception] | None = None
    ) -> None:
        super().__init__()
        self.functions, self.where, self.left = functions, where or {}, times
        self.error = error or (lambda: torch.OutOfMemoryError(MESSAGE))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.left and self._is_asked():
            self.left -= 1
            raise self.error()
        return func(*args, **(kwargs or {}))

    def _is_asked(self) -> bool:
        missing = set(self.functions)
        frame: FrameType | None = sys._getframe(2)
        while frame is not None and missing:
            name = frame.f_code.co_name
            if name != self.functions[0] or all(frame.f_locals.get(key) == value for key, value in self.where.items()):
                missing.discard(name)
            frame = frame.f_back
        return not missing


def in_threads(refusing: Refusing, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse in threads that are begun from now on, too: a mode is of the thread that enters it."""
    own = threading.Thread.run

    def running(self: threading.Thread) -> None:
        with refusing:
            own(self)

    monkeypatch.setattr(threading.Thread, "run", running)


def without_sizes(text: str) -> str:
    """A message without what this machine has."""
    return re.sub(r"took up to [^;)]*", "took up to SOME", text)
