"""The names of the tensors in a LoRA file, in all layouts in use, read without torch.

Names either begin with "diffusion_model." and continue with the original checkpoint's name (as ltx-trainer and ComfyUI
write them, with or without alpha), or begin with "transformer." and continue with diffusers' name. A DoRA also has
magnitudes besides A and B; they are read if they are called `lora_magnitude_vector`, as in diffusers.
`ltxcore.models.lora_save` and `ltxcore.models.lora_export` decide which names are written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from ltxcore.models.parameter_names import to_diffusers

PREFIX_OF_DIFFUSERS = "transformer."
A, B, ALPHA, MAGNITUDE = "lora_A", "lora_B", "alpha", "lora_magnitude_vector"
"""The roles that a tensor of a LoRA file can have."""

OF_DIFFUSERS = "lora_adapter_metadata"
"""The metadata key under which diffusers keeps alpha and other settings."""

SCALE_OF_OTHERS = ".dora_scale"
"""The suffix of magnitudes in the files of some programs, which disagree on what it scales."""

_PREFIXES = ("diffusion_model.", "model.diffusion_model.", PREFIX_OF_DIFFUSERS)
_BARE = "transformer_blocks."
"""The beginnings of names that have no prefix."""

_SUFFIXES = {
    ".lora_A.weight": A,
    ".lora_B.weight": B,
    ".lora_A.default.weight": A,
    ".lora_B.default.weight": B,
    ".lora_down.weight": A,
    ".lora_up.weight": B,
    ".alpha": ALPHA,
    f".{MAGNITUDE}": MAGNITUDE,
    f".{MAGNITUDE}.weight": MAGNITUDE,
}


def parsed(name: str) -> tuple[str, str]:
    """Return the module (in diffusers' names) that a tensor of a LoRA file belongs to, and the tensor's role there; the
    role is "" for an unknown name.
    """
    prefix = next((p for p in _PREFIXES if name.startswith(p)), None)
    if prefix is None and name.startswith(_BARE):
        prefix = ""
    suffix = next((s for s in _SUFFIXES if name.endswith(s)), "")
    if prefix is None or not suffix:
        return name, ""
    return to_diffusers(name.removeprefix(prefix).removesuffix(suffix)), _SUFFIXES[suffix]


def said_targets(metadata: Mapping[str, str]) -> list[str]:
    """Return the target modules that a LoRA's metadata names; an empty list if it names none or cannot be read."""
    try:
        found = json.loads(metadata.get("target_modules", "[]"))
    except (ValueError, RecursionError):
        return []
    return [str(name) for name in found] if isinstance(found, list) else []


def layout_of(name: str) -> str:
    """Describe the layout that a tensor's name belongs to."""
    if name.startswith(PREFIX_OF_DIFFUSERS):
        return "diffusers"
    if ".lora_down." in name or ".lora_up." in name or name.endswith(".alpha"):
        return "ComfyUI"
    return "original names" if name.startswith(_PREFIXES) else "original names without a prefix"
