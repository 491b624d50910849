"""Whatever stands in a run file, the answer is a run or a message."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import pytest
import tomli

from config.run_files import Load, run_file
from ltxcore.config.render import document
from ltxcore.errors import LtxError

ODD: list[Any] = [
    0,
    -1,
    1.5,
    float("nan"),
    float("inf"),
    True,
    "",
    "x",
    "0",
    [],
    [1],
    ["x"],
    [[]],
    {},
    {"type": "mask"},
    {"x": 1},
    [{}],
    [{"type": []}],
    10**30,
]


def nodes(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [*([path] if path else []), *(found for name, below in inner for found in nodes(below, (*path, name)))]


def damaged(rng: random.Random, data: dict[str, Any]) -> dict[str, Any]:
    """The document with up to three values replaced, removed or renamed."""
    for _ in range(rng.randint(1, 3)):
        *above, last = rng.choice(nodes(data))
        inner: Any = data
        for part in above:
            inner = inner[part]
        kind = rng.random()
        if kind < 0.7:
            inner[last] = copy.deepcopy(rng.choice(ODD))
        elif kind < 0.85 or isinstance(inner, list):
            del inner[last]
        else:
            inner[f"{last}_"] = inner.pop(last)
    return data


@pytest.mark.parametrize("seed", range(150))
def test_a_damaged_run_file_is_read_or_refused_in_words(inputs: Path, load: Load, seed: int) -> None:
    rng = random.Random(seed)
    text = document(damaged(rng, tomli.loads(run_file(rng))))
    refused: LtxError | None = None
    try:
        run = load(text)
    except LtxError as error:
        refused = error
    if refused is None:
        assert load(run.resolved()).config == run.config
    else:
        found = [(problem.where, problem.what) for problem in refused.problems]
        assert all(where and what for where, what in found)
        assert len(set(found)) == len(found)
