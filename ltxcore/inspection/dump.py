"""What the model sees, as tensors in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from ltxcore.errors import DataError
from ltxcore.files import write_whole
from ltxcore.inspection.seen import Seen
from ltxcore.protocols import ModelInput

FIELDS = {
    "clean": "clean",
    "noise": "noise",
    "sigma": "sigma",
    "denoise_mask": "denoise_mask",
    "timesteps": "timesteps",
    "noisy": "tokens",
    "velocity": "velocity",
    "loss_mask": "loss_mask",
    "marked": "marked",
    "positions": "positions",
    "context": "context",
    "context_mask": "context_mask",
}
"""Names in the file, and what `ModelInput` calls them."""


def write_dump(path: Path, seen: Sequence[Seen], run_file: str) -> None:
    """Write all tensors of some micro-batches.

    Keys are `STEP/MODALITY/NAME`, with STEP as in `Seen.name`: the names of `FIELDS` as far as the modality has them, `predicted` `[B, T + R, D]`, and `loss`
    `[B]`; `STEP/applied/CONDITION` `[B]` bool; and `STEP/draws/NAME` `[B]`, or `[1]` for one drawn for all. The header's `steps` says, as JSON, which samples
    each STEP has; its `run_file` is the resolved run file.

    Raises:
        DataError: the file cannot be written.
    """
    tensors = {key: tensor.detach().cpu().clone().contiguous() for each in seen for key, tensor in tensors_of(each)}
    steps = {
        each.name: {"epoch": each.micro_batch.epoch, "id": each.micro_batch.id, "samples": list(each.micro_batch.names)} for each in seen
    }
    data = safetensors.torch.save(tensors, metadata={"steps": json.dumps(steps), "run_file": run_file})
    try:
        write_whole(path, data)
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror}", where=str(path), remedy="Make room, or name another file.") from error


def tensors_of(seen: Seen) -> Iterator[tuple[str, Tensor]]:
    """Keys and tensors of one micro-batch."""
    for modality, inputs in seen.inputs.items():
        for name, tensor in _of_input(inputs):
            yield f"{seen.name}/{modality}/{name}", tensor
        for key, applied in inputs.applied.items():
            yield f"{seen.name}/applied/{key}", applied
    for name, found in (("predicted", seen.predicted), ("loss", seen.losses)):
        for modality, tensor in found.items():
            yield f"{seen.name}/{modality}/{name}", tensor
    for key, drawn in seen.draws.items():
        yield f"{seen.name}/draws/{key}", drawn


def _of_input(inputs: ModelInput) -> Iterator[tuple[str, Tensor]]:
    for name, field in FIELDS.items():
        tensor = getattr(inputs, field)
        if tensor is None and name == "context_mask":
            tensor = torch.ones(inputs.context.shape[:2])
        if tensor is not None:
            yield name, tensor
