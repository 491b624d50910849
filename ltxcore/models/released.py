"""The configurations of released models, and the configuration that follows from the shapes of a file's tensors if the file states none."""

from __future__ import annotations

from collections.abc import Mapping

from ltxcore.errors import CheckpointError
from ltxcore.models.transformer_settings import Config, generation_of_tensors

_COMMON: Config = {
    "num_layers": 48,
    "rope_type": "split",
    "frequencies_precision": "float64",
    "av_ca_timestep_scale_multiplier": 1000,
    "connector_num_attention_heads": 30,
    "connector_attention_head_dim": 128,
    "connector_num_layers": 2,
}
_GATED: Config = {
    **_COMMON,
    "apply_gated_attention": True,
    "cross_attention_adaln": True,
    "caption_proj_before_connector": True,
    "connector_num_attention_heads": 32,
    "connector_num_layers": 8,
    "audio_connector_attention_head_dim": 64,
    "connector_apply_gated_attention": True,
}

RELEASED: Mapping[str, Config] = {
    "ltx-2-19b": _COMMON,
    "ltx-2.3-22b": _GATED,
    "ltx-2.5-22b": {**_GATED, "ff_bias": False, "use_keyframes_abs_pos_embedding": True},
}
"""The configurations of released models, in official names. For an absent key, the original implementation's default applies."""

_BY_GENERATION = {"2.0": "ltx-2-19b", "2.3": "ltx-2.3-22b", "2.5": "ltx-2.5-22b"}
_HEADS, _CONNECTOR_HEADS = 32, 30
"""The numbers of attention heads of models without gates; the shapes of such models do not reveal them."""

Shapes = Mapping[str, tuple[int, ...]]


def config_of_shapes(shapes: Shapes, where: str) -> Config:
    """Return a transformer's configuration, in official names, for a file that states none. Settings that do not follow from shapes, such
    as the angles of positions, are those of the released model of the same generation.

    Args:
        shapes: the shapes of the tensors of the transformer and of the connectors, by original names without prefix.
        where: the file, for messages.

    Raises:
        CheckpointError: the shapes are not those of a whole transformer.

    Source: docs/explanation/model-files.md#files-without-a-configuration
    """
    generation = generation_of_tensors(shapes)
    try:
        found = {**RELEASED[_BY_GENERATION[generation]], **_transformer(shapes, gated=generation != "2.0")}
        for modality in ("video", "audio"):
            found |= _connector(shapes, modality)
    except (KeyError, IndexError, ValueError, ZeroDivisionError):
        raise CheckpointError(
            "states no configuration, and none follows from its tensors, since they are not those of a whole transformer",
            where=where,
            remedy='Use a file whose metadata has "config", such as the official one.',
        ) from None
    return found


def _transformer(shapes: Shapes, gated: bool) -> Config:
    blocks = {name.split(".")[1] for name in shapes if name.startswith("transformer_blocks.")}
    block = "transformer_blocks.0."
    video, channels = shapes["patchify_proj.weight"]
    audio, audio_channels = shapes["audio_patchify_proj.weight"]
    gates = (shapes[f"{block}attn1.to_gate_logits.weight"][0], shapes[f"{block}audio_attn1.to_gate_logits.weight"][0]) if gated else ()
    heads, audio_heads = gates or (_HEADS, _HEADS)
    found: dict[str, object] = {
        "num_layers": len(blocks),
        "in_channels": channels,
        "out_channels": shapes["proj_out.weight"][0],
        "audio_in_channels": audio_channels,
        "audio_out_channels": shapes["audio_proj_out.weight"][0],
        "num_attention_heads": heads,
        "attention_head_dim": video // heads,
        "audio_num_attention_heads": audio_heads,
        "audio_attention_head_dim": audio // audio_heads,
        "cross_attention_dim": shapes[f"{block}attn2.to_k.weight"][1],
        "audio_cross_attention_dim": shapes[f"{block}audio_attn2.to_k.weight"][1],
        "ff_bias": f"{block}ff.net.2.bias" in shapes,
        "audio_ff_bias": f"{block}audio_ff.net.2.bias" in shapes,
    }
    if gated:
        found["use_prompt_adaln_single"] = any(name.startswith("prompt_adaln_single.") for name in shapes)
    else:
        found["caption_channels"] = shapes["caption_projection.linear_1.weight"][1]
    return found


def _connector(shapes: Shapes, modality: str) -> Config:
    """Return the settings of a connector; nothing if the file has none."""
    own, stem = f"{modality}_embeddings_connector.", "connector" if modality == "video" else "audio_connector"
    registers = shapes.get(f"{own}learnable_registers")
    if registers is None:
        return {}
    gate = shapes.get(f"{own}transformer_1d_blocks.0.attn1.to_gate_logits.weight")
    heads = gate[0] if gate else _CONNECTOR_HEADS
    return {
        f"{stem}_num_learnable_registers": registers[0],
        f"{stem}_num_attention_heads": heads,
        f"{stem}_attention_head_dim": registers[1] // heads,
        f"{stem}_num_layers": len({name.split(".")[2] for name in shapes if name.startswith(f"{own}transformer_1d_blocks.")}),
        f"{stem}_apply_gated_attention": gate is not None,
    }
