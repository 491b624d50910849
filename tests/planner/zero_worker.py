"""One process of a launch that trains two steps and says what it holds: `zero_worker.py RUN_FILE RESULTS`."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import torch
from torch import Tensor

from planner.measured import Activations, Measured, bytes_of, rss

STEPS = 2


def weights(engine: Any) -> Iterator[Tensor]:
    """This process's part of each weight, and weights that stay whole."""
    for parameter in engine.backbone.parameters():
        if not hasattr(parameter, "ds_tensor"):
            yield parameter.data
            continue
        yield parameter.ds_tensor.data
        if parameter.ds_persist:
            yield parameter.data


def optimizer(engine: Any) -> Iterator[Tensor]:
    """Masters and moments."""
    for flat in engine.divided.flats:
        yield flat.data
        yield from (value for value in engine.divided.optimizer.optimizer.state[flat].values() if value.numel() > 1)


def gradients(engine: Any) -> Iterator[Tensor]:
    """As they wait for the step."""
    if engine.divided.is_stage_3:
        yield engine.divided.optimizer.grad_partitions_flat_buffer
    else:
        for each in engine.divided.optimizer.averaged_gradients.values():
            yield from each


def everything(engine: Any) -> Iterator[Tensor]:
    """What is no activation: with weights that are gathered to compute with, and buffers of DeepSpeed."""
    yield from weights(engine)
    yield from (parameter.data for parameter in engine.backbone.parameters())
    yield from optimizer(engine)
    for bucket in engine.divided.optimizer.ipg_buckets.values():
        yield from [bucket.buffer] if torch.is_tensor(bucket.buffer) else bucket.buffer or []


def main(run_file: Path, results: Path) -> None:

    from ltxcore.config.load import load_run
    from ltxcore.engines.zero import ZeroEngine
    from ltxcore.train.start_run import run

    said, activations, real, done = Measured(), Activations(), ZeroEngine, [0]
    forward, backward, step = real.forward, real.backward, real.step

    def looked_forward(self: Any, *args: Any, **options: Any) -> Any:
        activations.begin()
        return forward(self, *args, **options)

    def looked_backward(self: Any, loss: Tensor, **options: Any) -> None:
        said.saved = max(said.saved, activations.end(everything(self)))
        backward(self, loss, **options)

    def looked_step(self: Any, *args: Any) -> float:
        said.gradients = max(said.gradients, bytes_of(gradients(self)))
        norm = step(self, *args)
        said.weights, said.optimizer, said.rss = bytes_of(weights(self)), bytes_of(optimizer(self)), rss()
        done[0] += 1
        if done[0] == STEPS:
            results.with_suffix(f".{self.rank}").write_text(json.dumps(attrs.asdict(said)))
            torch.distributed.barrier()
            os._exit(0)
        return norm

    real.forward, real.backward, real.step = looked_forward, looked_backward, looked_step  # type: ignore[method-assign]
    run(load_run(run_file))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
