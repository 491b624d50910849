"""The API is all that a plugin needs: complete, documented, and light."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import get_type_hints

import pytest

from ltxcore import api, hookspecs
from ltxcore.api import LtxError
from ltxcore.api.dataset import open_dataset, read_table
from ltxcore.api.encoded import list_encoded, read_sample, whole_set
from ltxcore.api.models import inspect_model
from ltxcore.api.runs import data_of_run, read_run
from ltxcore.api.sources import find_media
from ltxcore.registry import HOOKS

TOPICS = [importlib.import_module(f"ltxcore.api.{found.name}") for found in pkgutil.iter_modules(api.__path__)]
LIST = Path(__file__).with_name("public_names.txt")
MOST = 178
"""120, and what a door of its own has brought: two for optimizers, one for schedules, two for quantizers, nine for sources, three for
objectives, four for adapters, five for exporters, three for columns, seven for captions, two for excluded clips, three for
configurations of other trainers,
one for errors in other people's code, one for numbers of options, two for keys of conditions, eight for
LoRAs that are made from others, one for models of transformers, and four for runs that are watched.
"""


def test_the_api_offers_what_it_lists_and_nothing_else() -> None:
    offered = {name for name, value in vars(api).items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert offered | {"__version__"} == set(api.__all__)


def test_what_is_public_is_what_the_list_says() -> None:
    """A name that is added or removed is a decision, and is written into the list by hand."""
    names = [f"{module.__name__}.{name}" for module in (api, *TOPICS) for name in module.__all__]
    assert LIST.read_text().split() == names
    assert len(names) <= MOST


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.__name__)
def test_a_topic_says_what_it_is_for_and_that_it_may_still_change(topic: ModuleType) -> None:
    assert (topic.__doc__ or "").splitlines()[0].endswith("Provisional until 1.0.")


@pytest.mark.parametrize(
    ("module", "name"),
    [(module, name) for module in (api, *TOPICS) for name in module.__all__ if name != "hookimpl"],
    ids=lambda each: getattr(each, "__name__", each),
)
def test_everything_that_is_offered_says_what_it_is(module: ModuleType, name: str) -> None:
    assert inspect.getdoc(getattr(module, name))


@pytest.mark.parametrize("hook", HOOKS.values())
def test_the_protocol_behind_every_hook_is_offered(hook: str) -> None:
    annotation = str(inspect.signature(getattr(hookspecs, hook)).return_annotation)
    named = {word for word in annotation.replace("[", " ").replace("]", " ").replace(",", " ").split() if word[0].isupper()}
    assert named - {"Mapping", "Any"} <= {name for module in (api, *TOPICS) for name in module.__all__}


@pytest.mark.parametrize(
    "read",
    [
        list_encoded,
        partial(read_sample, kind="latents"),
        whole_set,
        inspect_model,
        data_of_run,
        read_run,
        open_dataset,
        read_table,
        find_media,
    ],
    ids=lambda read: str(getattr(read, "__name__", "read_sample")),
)
def test_what_reads_a_path_takes_it_as_text_too(read: Callable[[Path | str], object], tmp_path: Path) -> None:
    with pytest.raises(LtxError) as of_text:
        read(str(tmp_path / "nothing"))
    with pytest.raises(LtxError) as of_path:
        read(tmp_path / "nothing")
    assert of_text.value.problems == of_path.value.problems


def test_the_api_loads_neither_torch_nor_anything_else_that_is_heavy() -> None:
    modules = ", ".join(module.__name__ for module in (api, *TOPICS))
    code = f"import sys, {modules}; print([name for name in ('torch', 'numpy', 'diffusers', 'transformers', 'av', 'deepspeed') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_condition_fits_its_protocol_field_by_field() -> None:
    assert set(get_type_hints(api.Role)) == {"name", "source_key", "kind", "media_key", "modality", "shape", "column"}
    assert set(inspect.signature(api.Condition.apply).parameters) == {"self", "state", "inputs"}
