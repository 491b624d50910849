"""Imports that cost no more than they must: lazy names of a module, which are imported from elsewhere when they are
asked for, and no search for garbage while something large is imported.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any


def later(module: str, names: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a module.

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
def uncollected() -> Iterator[None]:
    """Search for no garbage in the block, which is over before there is much: importing torch and reading many rows would
    start dozens of searches.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
