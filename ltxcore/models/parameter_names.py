"""Names of parameters: those of the original checkpoints, and those of diffusers. A bijection, by path segments.

Checkpoints and LoRA files use the original names behind a prefix; the model in memory has diffusers' names. Names that are not in the
tables are the same in both.
"""

from __future__ import annotations

CHECKPOINT_PREFIXES = ("model.diffusion_model.", "diffusion_model.")
"""What the transformer's names begin with in a checkpoint."""

LORA_PREFIX = "diffusion_model."
"""What the names in an exported LoRA begin with."""

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
_IN_BLOCK = {
    "scale_shift_table_a2v_ca_video": "video_a2v_cross_attn_scale_shift_table",
    "scale_shift_table_a2v_ca_audio": "audio_a2v_cross_attn_scale_shift_table",
}
_IN_ATTENTION = {"q_norm": "norm_q", "k_norm": "norm_k"}
_BLOCKS = "transformer_blocks"


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
    """The name in memory of a parameter or module of a checkpoint (without the checkpoint's prefix)."""
    return _renamed(original, _FIRST, _IN_BLOCK, _IN_ATTENTION)


def to_original(name: str) -> str:
    """The name in a checkpoint (without prefix) of a parameter or module in memory."""
    return _renamed(name, _FIRST_BACK, _IN_BLOCK_BACK, _IN_ATTENTION_BACK)
