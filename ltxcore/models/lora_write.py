"""Functions that write a LoRA that was computed from other files. The file is written completely and read back, or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from ltxcore.files import replacing
from ltxcore.models.adapter_types import PARAMS, TYPE, Adapter, Types, adapter_of
from ltxcore.models.lora_change import A, B, check_range, check_values
from ltxcore.models.lora_file import read_lora
from ltxcore.models.lora_names import OF_DIFFUSERS, written
from ltxcore.models.parameter_names import to_original, within_block
from ltxcore.safetensors_files import Stored, dtype_of, read_header, write_tensors

OF_ADAPTERS = frozenset({TYPE, PARAMS, OF_DIFFUSERS, "format", "rank", "alpha", "alpha_is_folded", "use_rslora", "use_dora", "start"})
"""The metadata keys that describe adapters. They change when a LoRA is computed from other files."""

OF_TYPES = frozenset({TYPE, PARAMS, "use_dora"})
"""The keys among these that describe the type of the adapters. They stay unchanged if the type does."""


def write_lora(
    path: Path,
    modules: Mapping[str, Mapping[str, Tensor]],
    metadata: Mapping[str, str],
    dtype: torch.dtype,
    *,
    kind: Adapter | None = None,
    types: Types | None = None,
) -> tuple[int, ...]:
    """Write adapters with original names, and return their ranks.

    Args:
        path: the file.
        modules: the tensors of each module (in diffusers' names), by the endings of their names, with alpha folded in.
        metadata: the metadata of the file. Those that describe adapters are replaced, except for the type of these adapters if `kind` is given.
        dtype: the dtype of the tensors.
        kind: the type of the adapters; None for plain LoRAs.
        types: the known classes of adapters, by name; by default, those of the installed plugins.

    Raises:
        CheckpointError: values are not finite or too large for the dtype, or the disk is full.
    """
    layout = getattr((kind or adapter_of()).adapter, "layout", "original")
    tensors = {
        written(module, ending, layout): Stored(dtype, tuple(tensor.shape), partial(_self, tensor))
        for module, own in modules.items()
        for ending, tensor in own.items()
    }
    check_range(tensors, str(path))
    ranks = {own[A].shape[0] for own in modules.values() if A in own}
    changed = OF_ADAPTERS if kind is None else OF_ADAPTERS - OF_TYPES
    said = {key: value for key, value in metadata.items() if key not in changed}
    said["target_modules"] = json.dumps(sorted({within_block(to_original(name)) for name in modules}))
    if ranks:
        said |= {"rank": str(max(ranks)), "alpha": str(max(ranks)), "alpha_is_folded": "true"}
    with replacing(path) as part:
        write_tensors(part, tensors, {"format": "pt", **said})
        found = read_lora(part, str(path), types, connectors=True)
        check_values(found, str(path))
    return tuple(sorted({found.shape(name).rank for name in found.everywhere}))


def _self(tensor: Tensor) -> Tensor:
    return tensor


def pair_of(b: Tensor, a: Tensor) -> dict[str, Tensor]:
    """Return the tensors of a plain LoRA, by the endings of their names."""
    return {A: a, B: b}


def common(metadata: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return the metadata that all files share."""
    first, *others = metadata
    return {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}


def dtype_of_lora(path: Path) -> torch.dtype:
    """Return the dtype of the tensors in a file of adapters."""
    return next(dtype_of(slot) for name, slot in read_header(path).slots.items() if not name.endswith(".alpha"))
