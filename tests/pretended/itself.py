"""What the pretended device does, small enough to be seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from helpers.device_record import QUEUE, READ, RECORD, UP


def all_of_it() -> dict[str, Any]:
    plain = torch.tensor([1.0, 2.0])
    there = plain.to("cuda").requires_grad_()
    (there * 2).sum().backward()
    return {
        "device": str(there.device),
        "result": (there * 2).tolist(),
        "gradient": there.grad.tolist(),
        "mixed": _refused(lambda: there + plain),
        "indexed": _refused(lambda: plain[torch.zeros(1, dtype=torch.long, device="cuda")]),
        "generator": _refused(lambda: torch.randn(2, device="cuda", generator=torch.Generator())),
        "numpy": _refused(lambda: there.detach().numpy()),
        "unwaited copy": _refused(lambda: there.to("cpu", non_blocking=True)),
        "single number": (there + torch.tensor(2.0)).tolist(),
        "reads": {
            "item": _waits(READ, lambda: there[0].item()),
            "tolist": _waits(READ, there.tolist),
            "bool": _waits(READ, lambda: bool((there > 0).all())),
            "nonzero": _waits(READ, lambda: there.nonzero()),
            "by mask": _waits(READ, lambda: there[there > 1]),
            "cpu": _waits(READ, there.cpu),
        },
        "copies up that wait": {
            "plain": _waits(UP, lambda: plain.to("cuda", non_blocking=True)),
            "pinned": _waits(UP, lambda: plain.pin_memory().to("cuda", non_blocking=True)),
            "pinned, but waited for": _waits(UP, lambda: plain.pin_memory().to("cuda")),
        },
        "held": _held(),
    }


def _refused(work: Callable[[], Any]) -> str:
    try:
        work()
    except (RuntimeError, TypeError) as error:
        return type(error).__name__
    return ""


def _waits(kind: str, work: Callable[[], Any]) -> int:
    RECORD.clear()
    work()
    return sum(RECORD.of(kind).values())


def _held() -> dict[str, int]:
    """Tensors made on a stream beside the main one, as the memory of a slow device has them."""
    with torch.cuda.stream(torch.cuda.Stream()):
        made = torch.ones(4, device="cuda")
    view = made[:2]
    del made
    found = {"while alive": len(QUEUE.held)}
    del view
    found["let go"] = len(QUEUE.held)
    torch.cuda.current_stream().record_event().synchronize()
    return found | {"waited for": len(QUEUE.held)}
