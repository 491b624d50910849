"""Make imports cheap: import the names of a module only when they are used, and pause garbage collection while
something large is imported.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any


def later(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a `__getattr__` for a module that imports names when they are first used.

    Args:
        module: the module's name.
        names: the module that each name is imported from.
    """

    def get(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        return getattr(importlib.import_module(names[name]), name)

    return get


@contextmanager
def uncollected(*, keep: bool = False) -> Iterator[None]:
    """Return a context without garbage collection, for work that makes little garbage. Importing torch or reading many
    rows would otherwise trigger dozens of collections.

    Args:
        keep: whether all that exists at the end is kept until the process ends. Otherwise the next collection looks through
            everything that was imported.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if keep:
            gc.freeze()
        if was_enabled:
            gc.enable()
