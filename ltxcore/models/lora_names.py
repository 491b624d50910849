"""Functions that parse the names of the tensors in a file of adapters, in all layouts in use, without torch.

A name has one of these forms:

- "diffusion_model." and the original checkpoint's name, as ltx-trainer and ComfyUI write it, with or without alpha
- "transformer." and diffusers' name, or "connectors." for a module of the text connectors
- "lora_unet_" and either name, in which every dot has become an underscore

The type of the adapters decides how names end. `ltxcore.models.lora_save` and `ltxcore.models.lora_export` decide which names are written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from ltxcore.models.parameter_names import LORA_PREFIX, has_module, is_of_connectors, to_diffusers, to_original

PREFIX_OF_DIFFUSERS = "transformer."

CONNECTORS_OF_DIFFUSERS = "connectors."
"""The prefix of text connectors in diffusers' pipelines."""

OF_DIFFUSERS = "lora_adapter_metadata"
"""The metadata key under which diffusers stores alpha and other settings."""

PREFIX_OF_PEFT = "base_model.model."

_PREFIXES = (LORA_PREFIX, "model.diffusion_model.", PREFIX_OF_DIFFUSERS, CONNECTORS_OF_DIFFUSERS, PREFIX_OF_PEFT)
_BARE = "transformer_blocks."
"""The beginning of names that have no prefix."""

_WITHOUT_DOTS = ("lora_unet_diffusion_model_", "lora_unet_model_", "lora_unet_", "lycoris_")
"""The prefixes of names in which the dots of a module's path are underscores, longer ones first."""

_OF_ANY_MODEL = (*_WITHOUT_DOTS, PREFIX_OF_PEFT)
"""The prefixes that LoRAs of other models have too."""

_LAST_SEGMENTS = (
    *("to_q", "to_k", "to_v", "to_out.0", "to_gate_logits", "net.0.proj", "net.2"),
    *("emb.timestep_embedder.linear_1", "emb.timestep_embedder.linear_2", "linear_1", "linear_2", "linear"),
)
"""The endings of the paths of linear modules after a segment that has underscores of its own; each ending precedes the shorter ones that it
ends with."""


_UNREAD = (
    (r"^(lora_te\d?_|text_encoders?\.|lora_llm_|clip_[lg]\.).*(lora|lokr|hada|alpha|diff)", "a LoRA of a text encoder"),
    (
        r"(^|[._])(\w*connectors?[._]\w*text_proj_in|text_embedding_projection)[._].*(lora|lokr|hada|alpha|diff|dora)",
        "a LoRA of the text projection",
    ),
    (r"\.(oft_blocks|oft_diag|oft_R)\b", "OFT adapters"),
    (r"\.boft_[a-z]+", "BOFT adapters"),
    (r"\.(hada_t[12]|lokr_t[12]|lora_mid\.weight)$", "adapters of convolutions (Tucker decomposition)"),
    (r"\.([ab][12])\.weight$", "GLoRA adapters"),
    (r"\.(on_input|ia3_l)$", "IA3 adapters"),
    (r"\.vera_lambda_[bd]$", "VeRA adapters"),
    (r"\.(w_norm|b_norm)$", "differences of normalizations"),
    (r"\.(set_weight|reshape_weight|diff_m)$", "whole weights in place of adapters"),
    (
        r"^lora_unet_(input_blocks|output_blocks|middle_block|(down|up|mid)_block|(double|single)_blocks|blocks_\d|single_transformer_blocks)",
        "a LoRA of another model",
    ),
)
"""The formats that are not read: patterns of names, and the format of files with such names."""


def unread_format(name: str) -> str:
    """Return the format of a file with a tensor of this name, if the format is known and not read; "" for any other name."""
    return next((what for pattern, what in _UNREAD if re.search(pattern, name)), "")


def parsed(name: str, endings: Mapping[str, str]) -> tuple[str, str]:
    """Return the module (in diffusers' names) that a tensor in a file belongs to, and the tensor's short name in this module, which is ""
    for an unknown name.

    Args:
        name: the name in the file.
        endings: the possible endings of names, each with the tensor's short name.
    """
    prefix = next((p for p in (*_PREFIXES, *_WITHOUT_DOTS) if name.startswith(p)), None)
    if prefix is None and name.startswith(_BARE):
        prefix = ""
    ending = max((e for e in endings if name.endswith(f".{e}")), key=len, default="")
    if prefix is None or not ending:
        return name, ""
    path = name.removeprefix(prefix).removesuffix(f".{ending}")
    path = with_dots(path) if prefix in _OF_ANY_MODEL else path
    if not has_module(path) and (prefix in (*_OF_ANY_MODEL, CONNECTORS_OF_DIFFUSERS) or unread_format(name)):
        return name, ""
    return to_diffusers(path), endings[ending]


def with_dots(path: str) -> str:
    """Return the path of a linear module, given the path with every dot replaced by an underscore, such as
    `transformer_blocks_0_attn1_to_out_0`.

    Source: docs/explanation/model-files.md#layouts-that-are-read
    """
    path = re.sub(r"^((?:video|audio)(?:_embeddings)?_connector)_(?=transformer)", r"\1.", path)
    path = re.sub(r"(^|\.)(transformer(?:_1d)?_blocks)_(\d+)_", r"\1\2.\3.", path)
    last = next((each for each in _LAST_SEGMENTS if path.endswith(f"_{each.replace('.', '_')}")), None)
    return path if last is None else f"{path[: -len(last) - 1]}.{last}"


def written(module: str, ending: str, layout: str) -> str:
    """Return the name of a tensor in a file that ltx writes, with modules named as in a layout, "original" or "diffusers"."""
    ours = CONNECTORS_OF_DIFFUSERS if is_of_connectors(module) else PREFIX_OF_DIFFUSERS
    path = f"{ours}{module}" if layout == "diffusers" else f"{LORA_PREFIX}{to_original(module)}"
    return f"{path}.{ending}"


def said_targets(metadata: Mapping[str, str]) -> list[str]:
    """Return the target modules that a LoRA's metadata names; the list is empty if there are none or the metadata cannot be read."""
    try:
        found = json.loads(metadata.get("target_modules", "[]"))
    except (ValueError, RecursionError):
        return []
    return [str(name) for name in found] if isinstance(found, list) else []


def layout_of(name: str) -> str:
    """Describe the layout that a tensor's name belongs to."""
    if name.startswith((PREFIX_OF_DIFFUSERS, CONNECTORS_OF_DIFFUSERS)):
        return "diffusers"
    if name.startswith(_WITHOUT_DOTS):
        return "names without dots, as kohya's programs write them"
    if name.startswith(PREFIX_OF_PEFT):
        return "PEFT"
    if ".lora_down." in name or ".lora_up." in name or name.endswith(".alpha"):
        return "ComfyUI"
    return "original names" if name.startswith(_PREFIXES) else "original names without a prefix"
