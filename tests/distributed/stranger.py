"""A plugin of somebody else's: a condition, a sigma sampler that writes down what it drew for whom, and a tracker that ends processes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from ltxcore.api import Draws, Inputs, LatentState, hookimpl


@attrs.frozen
class EveryOther:
    """Every other token is given."""

    modalities = frozenset({"video", "audio"})
    content = "whole"

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        import torch

        return state.given((torch.arange(state.grid.num_tokens) % 2 == 0).float())


@attrs.frozen
class Recorded:
    """Noise levels between 0.1 and 0.9, written to the file `to`, one of each process."""

    to: str

    def sample(self, draws: Draws, key: str, tokens: int):
        sigma = 0.1 + 0.8 * draws.uniform(f"{key}.sigma")
        noise = draws.normal(f"{key}.proof", (1,))[:, 0]
        with Path(f"{self.to}.{os.environ.get('RANK', '0')}").open("a") as file:
            for name, level, other in zip(draws.names, sigma.tolist(), noise.tolist(), strict=True):
                file.write(json.dumps([draws.epoch, name, key, level, other]) + "\n")
        return sigma


@attrs.define
class Ender:
    """After the step that the environment says, sends its process the signal that the environment says: `STOP_AT=3:15`."""

    def start(self, output_dir: Path, run: Mapping[str, Any], total_steps: int, first_step: int) -> None:
        pass

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        at, _, number = os.environ.get("STOP_AT", "0:0").partition(":")
        if step == int(at) and "loss" in metrics:
            os.kill(os.getpid(), int(number))

    def sample(self, step: int, name: str, path: Path) -> None:
        pass

    def finish(self) -> None:
        pass


@hookimpl
def ltx_trackers() -> dict[str, type]:
    return {"ender": Ender}


@hookimpl
def ltx_conditions() -> dict[str, type]:
    return {"every_other": EveryOther}


@hookimpl
def ltx_sigma_samplers() -> dict[str, type]:
    return {"recorded": Recorded}
