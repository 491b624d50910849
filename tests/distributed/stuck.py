"""A plugin whose strategy gets stuck, stops, dies or takes long at a moment that the environment says, and with a tracker that takes a second to finish.

`STUCK=loading:stop,3:kill` is for the second process of two: while loading it stops, and in its third step it is killed. `saving:sleep:9` is for the first one.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from ltxcore.api import Batch, Draws, Flexible, Manifest, ModalityTable, ModelInput, Setting, Source, Strategy, hookimpl

if TYPE_CHECKING:
    from torch import Tensor


def at(moment: str, rank: int = 1) -> None:
    """What the environment says is done at this moment."""
    told = dict(each.split(":", 1) for each in os.environ.get("STUCK", "").split(",") if each)
    if os.environ.get("RANK") != str(rank) or moment not in told:
        return
    how, _, seconds = told[moment].partition(":")
    if how == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "exit":
        os._exit(77)
    elif how == "wait":
        threading.Event().wait()
    elif how == "memory":
        import torch

        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    elif how == "sleep":
        time.sleep(float(seconds))
    elif how == "compute":
        until = time.monotonic() + float(seconds)
        while time.monotonic() < until:
            sum(range(1000))


@attrs.frozen
class Stuck:
    """Sound."""

    def build(self, setting: Setting) -> Strategy:
        return StuckStrategy(Flexible(audio=ModalityTable(True, "audio_latents")).build(setting))


@attrs.define(eq=False)
class StuckStrategy:
    """What `Stuck` builds."""

    inner: Strategy
    taken: int = 0
    moment: str = ""

    @property
    def shared_sigma(self) -> bool:
        return self.inner.shared_sigma

    def sources(self) -> Mapping[str, Source]:
        return self.inner.sources()

    def check(self, data: Manifest) -> None:
        at("loading")
        self.inner.check(data)

    def wanted(self, draws: Draws) -> frozenset[str]:
        return self.inner.wanted(draws)

    def prepare(self, batch: Batch, draws: Draws) -> dict[str, ModelInput]:
        if getattr(draws, "epoch", -1) >= 0:  # counted draws alone have one; -1 outside of training
            self.taken += 1
            try:
                at(self.moment or str(self.taken))
            except RuntimeError:  # memory stays out: what could not be made ahead is made in the step
                self.moment = self.moment or str(self.taken)
                raise
        return dict(self.inner.prepare(batch, draws))

    def loss(self, predicted: Mapping[str, Tensor], inputs: Mapping[str, ModelInput]) -> dict[str, Tensor]:
        return dict(self.inner.loss(predicted, inputs))

    def metadata(self, data: Manifest) -> Mapping[str, str]:
        at("saving", rank=0)
        return self.inner.metadata(data)


@attrs.define
class Slow:
    """Takes a second to finish, as one that uploads does."""

    def start(self, output_dir: Path, run: Mapping[str, Any], total_steps: int, first_step: int) -> None:
        pass

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        pass

    def sample(self, step: int, name: str, path: Path) -> None:
        pass

    def finish(self) -> None:
        time.sleep(1)


@hookimpl
def ltx_strategies() -> dict[str, type]:
    return {"stuck": Stuck}


@hookimpl
def ltx_trackers() -> dict[str, type]:
    return {"slow": Slow}
