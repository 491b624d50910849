"""Quantizers by the names that a run file has for them."""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import pytest

from ltxcore.registry import Registry, load


@functools.cache
def _registry() -> Registry:
    return load()


def quantizer(name: str | None, **keys: Any) -> Any:
    """The quantizer of a name; None for none. A test of one whose package is missing is skipped."""
    if name is None:
        return None
    made = _registry().get("quantizer", name).value(**keys)
    for package in getattr(made, "needs", {}):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    return made
