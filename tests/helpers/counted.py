"""Counts the collectives of a process by step: what each moved, and in how many calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch.distributed as dist

WHOLE = {
    "all_reduce": "tensor",
    "all_gather_into_tensor": "output_tensor",
    "reduce_scatter_tensor": "input",
    "all_gather": "tensor",
    "reduce_scatter": "output",
    "broadcast": "tensor",
    "all_gather_object": "",
    "broadcast_object_list": "",
}
"""Kinds of collectives, and the argument of each that is the whole tensor; of objects there is none."""

AT = {"reduce_scatter_tensor": 1, "all_gather": 1}
"""Where that argument stands, if not first."""

_calls: Counter[str] = Counter()
_bytes: Counter[str] = Counter()
_inside: list[str] = []


def _watched(kind: str, function: Any) -> Any:
    def call(*arguments: Any, **options: Any) -> Any:
        if not _inside:  # a collective of objects is made of others
            at = AT.get(kind, 0)
            whole = arguments[at] if len(arguments) > at else options.get(WHOLE[kind])
            _calls[kind] += 1
            _bytes[kind] += whole.numel() * whole.element_size() if hasattr(whole, "numel") else 0
        _inside.append(kind)
        try:
            return function(*arguments, **options)
        finally:
            _inside.pop()

    call.is_watched = True  # type: ignore[attr-defined]
    return call


@contextmanager
def counted() -> Iterator[list[dict[str, list[int]]]]:
    """Within it, of each step of a run: by kind of collective, the number of calls and the bytes of the whole tensors. The first time, it must begin before
    processes connect: libraries keep the functions that they find then, so they stay watched."""
    from ltxcore.train.loop import Loop

    for kind in WHOLE:
        if not hasattr(getattr(dist, kind), "is_watched"):
            setattr(dist, kind, _watched(kind, getattr(dist, kind)))
    steps: list[dict[str, list[int]]] = []
    plain = Loop.steps

    def in_steps(loop: Any, *arguments: Any) -> Iterator[Any]:
        _calls.clear()
        _bytes.clear()
        for each in plain(loop, *arguments):
            steps.append({kind: [_calls[kind], _bytes[kind]] for kind in sorted(_calls)})
            _calls.clear()
            _bytes.clear()
            yield each

    with patch.object(Loop, "steps", in_steps):
        yield steps
