"""The API is all that a plugin needs: complete, documented, and light."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import get_type_hints

import pytest

from ltxcore import api, hookspecs
from ltxcore.registry import HOOKS


def test_it_offers_what_it_lists_and_nothing_else() -> None:
    offered = {name for name, value in vars(api).items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert offered == set(api.__all__)
    assert api.__all__ == sorted(api.__all__)


@pytest.mark.parametrize("name", [name for name in api.__all__ if name != "hookimpl"])
def test_everything_it_offers_says_what_it_is(name: str) -> None:
    assert inspect.getdoc(getattr(api, name))


@pytest.mark.parametrize("hook", HOOKS.values())
def test_the_protocol_behind_every_hook_is_offered(hook: str) -> None:
    annotation = str(inspect.signature(getattr(hookspecs, hook)).return_annotation)
    named = {word for word in annotation.replace("[", " ").replace("]", " ").replace(",", " ").split() if word[0].isupper()}
    assert named - {"Mapping", "Any"} <= set(api.__all__)


def test_it_loads_neither_torch_nor_anything_else_that_is_heavy() -> None:
    code = "import sys, ltxcore.api; print([name for name in ('torch', 'numpy', 'diffusers', 'transformers', 'av', 'deepspeed') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_condition_fits_its_protocol_field_by_field() -> None:
    assert set(get_type_hints(api.Role)) == {"name", "source_key", "kind", "media_key"}
    assert set(inspect.signature(api.Condition.apply).parameters) == {"self", "state", "inputs"}
