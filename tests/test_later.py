"""A module gives names of others when they are asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ltxcore.api import dataset
from ltxcore.later import later


def test_a_name_is_that_of_the_module_it_comes_from() -> None:
    import json

    assert later("mine", {"dumps": "json"})("dumps") is json.dumps


def test_a_name_that_no_module_has_is_refused_as_python_does() -> None:
    with pytest.raises(AttributeError, match="module 'mine' has no attribute 'loads'"):
        later("mine", {"dumps": "json"})("loads")
    assert not hasattr(dataset, "nothing_of_this_name")


def test_what_is_heavy_is_imported_when_it_is_asked_for_and_not_before() -> None:
    code = (
        "import sys\nfrom ltxcore.api import dataset\nprint('torch' in sys.modules)\n"
        "from ltxcore.api.dataset import Survey\nprint('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\nTrue\n"
