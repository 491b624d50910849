"""The names of parameters in original checkpoints and in diffusers, which correspond one to one by path segments, and the streams of
parameters and modules.

Checkpoints and LoRA files use the original names behind a prefix; the model in memory has diffusers' names. Names that are not in the
tables are the same in both.

The stream of a parameter is video, audio, or the attention between them. A run with a single modality holds only the weights of that
stream; this module decides by name which weights these are.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

CHECKPOINT_PREFIXES = ("model.diffusion_model.", "diffusion_model.")
"""The prefixes that the transformer's names can have in a checkpoint."""

LORA_PREFIX = "diffusion_model."
"""The prefix of the names in an exported LoRA."""

_FIRST = {
    "patchify_proj": "proj_in",
    "audio_patchify_proj": "audio_proj_in",
    "adaln_single": "time_embed",
    "audio_adaln_single": "audio_time_embed",
    "prompt_adaln_single": "prompt_adaln",
    "audio_prompt_adaln_single": "audio_prompt_adaln",
    "av_ca_video_scale_shift_adaln_single": "av_cross_attn_video_scale_shift",
    "av_ca_audio_scale_shift_adaln_single": "av_cross_attn_audio_scale_shift",
    "av_ca_a2v_gate_adaln_single": "av_cross_attn_video_a2v_gate",
    "av_ca_v2a_gate_adaln_single": "av_cross_attn_audio_v2a_gate",
}
_UNRENAMED = frozenset({"proj_out", "audio_proj_out", "caption_projection", "audio_caption_projection"})
"""The modules outside the blocks that have the same name in checkpoints and in diffusers."""

_IN_BLOCK = {
    "scale_shift_table_a2v_ca_video": "video_a2v_cross_attn_scale_shift_table",
    "scale_shift_table_a2v_ca_audio": "audio_a2v_cross_attn_scale_shift_table",
}
_IN_ATTENTION = {"q_norm": "norm_q", "k_norm": "norm_k"}
_BLOCKS = "transformer_blocks"

_CONNECTORS = {
    "video_embeddings_connector.transformer_1d_blocks.": "video_connector.transformer_blocks.",
    "audio_embeddings_connector.transformer_1d_blocks.": "audio_connector.transformer_blocks.",
}
"""The beginnings of the paths of modules in text connectors, in checkpoints and in diffusers. Only LoRAs have such names."""

Stream = Literal["video", "audio", "cross"]

PREFIX: dict[str, str] = {"video": "", "audio": "audio_"}
"""The prefix of the names of a modality's own modules, in the model and in each block."""

_CROSS_MODULES = frozenset({"audio_to_video_norm", "audio_to_video_attn", "video_to_audio_norm", "video_to_audio_attn"})
_CROSS_BEGINNINGS = ("av_cross_attn_", "cross_attn_", "video_a2v_cross_attn_", "audio_a2v_cross_attn_")


def prefix_of(names: Collection[str]) -> str | None:
    """Return the prefix of the transformer's names in a file; None if the file holds no transformer."""
    found = next((prefix for prefix in CHECKPOINT_PREFIXES if any(name.startswith(prefix) for name in names)), None)
    return "" if found is None and any(name.startswith("transformer_blocks.") for name in names) else found


def _renamed(name: str, first: dict[str, str], in_block: dict[str, str], in_attention: dict[str, str]) -> str:
    segments = name.split(".")
    if segments[0] != _BLOCKS:
        segments[0] = first.get(segments[0], segments[0])
    elif len(segments) > 2:
        segments[2] = in_block.get(segments[2], segments[2])
        if len(segments) > 3:
            segments[3] = in_attention.get(segments[3], segments[3])
    return ".".join(segments)


def _inverse(table: dict[str, str]) -> dict[str, str]:
    return {new: old for old, new in table.items()}


_FIRST_BACK, _IN_BLOCK_BACK, _IN_ATTENTION_BACK = _inverse(_FIRST), _inverse(_IN_BLOCK), _inverse(_IN_ATTENTION)


def to_diffusers(original: str) -> str:
    """Return the name that a checkpoint's parameter or module has in memory. The checkpoint's name is given without prefix."""
    for theirs, own in _CONNECTORS.items():
        if original.startswith(theirs):
            return own + original.removeprefix(theirs)
    return _renamed(original, _FIRST, _IN_BLOCK, _IN_ATTENTION)


def to_original(name: str) -> str:
    """Return the name that a parameter or module in memory has in a checkpoint, without prefix."""
    for theirs, own in _CONNECTORS.items():
        if name.startswith(own):
            return theirs + name.removeprefix(own)
    return _renamed(name, _FIRST_BACK, _IN_BLOCK_BACK, _IN_ATTENTION_BACK)


def has_module(path: str) -> bool:
    """Return whether a path, with original or diffusers' names, begins like the path of a linear module in the transformer or the text
    connectors.
    """
    first = to_original(path).partition(".")[0]
    return first == _BLOCKS or first in _FIRST or first in _UNRENAMED or is_of_connectors(to_diffusers(path))


def is_of_connectors(module: str) -> bool:
    """Return whether a path (in diffusers' names) is that of a module or parameter of the text connectors, such as
    `video_connector.transformer_blocks.0.attn1.to_q`.
    """
    return module.startswith(tuple(_CONNECTORS.values()))


def stream_of(name: str) -> Stream:
    """Return the stream of a parameter or module at this path in the model (in diffusers' names).

    The first segment of the path decides this; inside `transformer_blocks.N`, the segment that follows the block's number does.
    """
    segments = name.split(".")
    part = segments[2] if segments[0] == "transformer_blocks" and len(segments) > 2 else segments[0]
    if part in _CROSS_MODULES or part.startswith(_CROSS_BEGINNINGS):
        return "cross"
    return "audio" if part.startswith(PREFIX["audio"]) else "video"


def is_needed(name: str, modalities: Collection[str]) -> bool:
    """Return whether a run with these modalities reads a parameter or module. It reads the streams of its modalities and, with two
    modalities, the attention between them.
    """
    stream = stream_of(name)
    return len(modalities) > 1 if stream == "cross" else stream in modalities


def block_of(name: str) -> int | None:
    """Return the number of the block that contains a parameter or module; None if there is no such block."""
    segments = name.split(".")
    return int(segments[1]) if segments[0] == "transformer_blocks" and len(segments) > 1 else None


def within_block(module: str) -> str:
    """Return a module's path without the number of its block."""
    segments = module.split(".")
    if is_of_connectors(to_diffusers(module)):
        return ".".join([segments[0], *segments[3:]])
    return ".".join(segments[2:] if segments[0] == "transformer_blocks" else segments)
