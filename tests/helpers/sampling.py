"""Proofs that are many by nature: every run of the tests takes a sample of them, drawn by a seed that pytest prints, and `pytest -m whole` takes all.

    @pytest.mark.parametrize("mode", sampled(MODES, 3))

`LTX_SAMPLE=7 pytest` draws with another seed.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Collection, Hashable, Iterable
from typing import Any, TypeVar

import pytest

T = TypeVar("T")

SEED = int(os.environ.get("LTX_SAMPLE", "0"))


def _nothing(_: Any) -> Iterable[Hashable]:
    return ()


def drawn(cases: Iterable[T], count: int, shows: Callable[[T], Iterable[Hashable]] = _nothing, seed: int = SEED) -> list[T]:
    """So many of the cases, or more where it takes more for everything to be shown that any of them shows; in their own order."""
    whole = list(cases)
    left = random.Random(seed).sample(range(len(whole)), len(whole))
    shown = [set(shows(case)) for case in whole]
    missing, chosen = set().union(*shown), []
    while left and (missing or len(chosen) < count):
        best = max(left, key=lambda index: len(shown[index] & missing))  # the first of the best, and so by the seed
        left.remove(best)
        chosen.append(best)
        missing -= shown[best]
    return [whole[index] for index in sorted(chosen)]


def sampled(
    cases: Iterable[T], count: int, shows: Callable[[T], Iterable[Hashable]] = _nothing, *, slow: bool = False, in_ci: Collection[T] = ()
) -> list[Any]:
    """The cases for `parametrize`, marked so that `drawn` ones are in every run; a tuple is several parameters.

    Args:
        cases, count, shows: those of `drawn`.
        slow: CI has the others too.
        in_ci: cases that CI has beside the drawn ones.
    """
    whole = list(cases)
    chosen = drawn(whole, count, shows)
    usual, rest = ([], [pytest.mark.slow]) if slow else ([pytest.mark.whole, pytest.mark.sample], [pytest.mark.whole])
    more = [pytest.mark.slow, *usual]
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=usual if case in chosen else more if case in in_ci else rest)
        for case in whole
    ]


def asked(request: pytest.FixtureRequest, *names: str) -> list[Any]:
    """What this run of the tests asks of a fixture of a module: the values of these parameters in the tests of it that were selected, each once."""
    found: dict[Any, None] = {}
    for item in request.session.items:
        if isinstance(item, pytest.Function) and item.path == request.path and hasattr(item, "callspec"):
            values = item.callspec.params
            if values.keys() >= {*names}:
                found[tuple(values[name] for name in names) if len(names) > 1 else values[names[0]]] = None
    return list(found)
