"""What is in a LoRA file. Read from its header, without torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import attrs

from ltxcore.errors import CheckpointError, listed
from ltxcore.headers import Slots
from ltxcore.models.lora_names import ALPHA, MAGNITUDE, A, layout_of, parsed
from ltxcore.models.parameter_names import to_original
from ltxcore.models.streams import stream_of


@attrs.frozen
class LoraInventory:
    """What is in a LoRA file.

    Attributes:
        path: the file.
        layout: of its names, in words.
        generation: of the base that it says it was made for, or "".
        modules: how many are adapted.
        ranks: with how many modules have each.
        targets: paths without the block's number (original names), with how many modules have each.
        streams: "video", "audio", "cross": how many modules are of each.
        parameters: how many numbers.
        size: in bytes.
        dtypes: as safetensors names them.
        has_alpha: whether modules have an alpha of their own.
        is_dora: whether it has magnitudes.
        metadata: all that the file says of itself.
    """

    path: Path
    layout: str
    generation: str
    modules: int
    ranks: Mapping[int, int]
    targets: Mapping[str, int]
    streams: Mapping[str, int]
    parameters: int
    size: int
    dtypes: tuple[str, ...]
    has_alpha: bool
    is_dora: bool
    metadata: Mapping[str, str]


def is_lora(found: Slots) -> bool:
    """Whether a file holds adapters rather than whole weights."""
    return any(".lora_" in name for name in found.slots)


def lora_inventory(found: Slots) -> LoraInventory:
    """What is in a LoRA file.

    Raises:
        CheckpointError: for all tensors that are part of no LoRA of this model.
    """
    roles = {name: parsed(name) for name in found.slots}
    unknown = sorted(name for name, (_, role) in roles.items() if not role)
    if unknown:
        raise CheckpointError(
            f"{len(unknown)} tensors are not part of a LoRA of this model: {listed(unknown)}", where=str(found.where), remedy=""
        )
    ranks = {module: found.slots[name].shape[0] for name, (module, role) in roles.items() if role == A}
    return LoraInventory(
        path=found.where,
        layout=_layout(found),
        generation=found.metadata.get("generation", ""),
        modules=len(ranks),
        ranks=dict(sorted(Counter(ranks.values()).items())),
        targets=dict(sorted(Counter(_in_any_block(to_original(module)) for module in ranks).items())),
        streams=dict(Counter(stream_of(module) for module in sorted(ranks))),
        parameters=sum(slot.count for slot in found.slots.values()),
        size=sum(slot.size for slot in found.slots.values()),
        dtypes=tuple(sorted({slot.dtype for slot in found.slots.values()})),
        has_alpha=any(role == ALPHA for _, role in roles.values()),
        is_dora=any(role == MAGNITUDE for _, role in roles.values()),
        metadata=dict(found.metadata),
    )


def _layout(found: Slots) -> str:
    """ComfyUI's where any name is in it: alphas lie beside names that others have too."""
    layouts = {layout_of(name) for name in found.slots}
    return "ComfyUI" if "ComfyUI" in layouts else min(layouts)


def _in_any_block(module: str) -> str:
    segments = module.split(".")
    return ".".join(segments[2:] if segments[0] == "transformer_blocks" else segments)
