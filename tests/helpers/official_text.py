"""Small text encoders in the layouts of the real ones: a folder of Gemma 3, and the packed file of 2.5 with Gemma 4, its tokenizer and projections."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

WORDS = ("<pad>", "<eos>", "<bos>", "<unk>", "a", "red", "blue", "disc", "rises", "falls", "and", "hums", "low", "high")
HIDDEN, LAYERS = 24, 3
WIDTHS = {"video": 64, "audio": 32}
PREFIX = "text_embedding_projection."

SIZES: dict[str, Any] = {
    "vocab_size": 16,
    "hidden_size": HIDDEN,
    "intermediate_size": 32,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "sliding_window": 16,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
    "max_position_embeddings": 2048,
}
GEMMA3 = {
    "model_type": "gemma3",
    "text_config": {**SIZES, "model_type": "gemma3_text"},
    "vision_config": {"model_type": "siglip_vision_model"},
}
GEMMA4 = {
    "model_type": "gemma4_unified",
    "gemma_version": "gemma4-tiny-ltx-v1",
    "text_config": {
        **SIZES,
        "model_type": "gemma4_unified_text",
        "global_head_dim": 16,
        "attention_k_eq_v": True,
        "num_global_key_value_heads": 1,
    },
}


def tokenizer_bytes() -> bytes:
    """A tokenizer of whole words that begins and ends its texts, as some do."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(["<pad>", "<eos>", "<bos>"])
    made.post_processor = processors.TemplateProcessing(single="<bos> $A <eos>", special_tokens=[("<bos>", 2), ("<eos>", 1)])
    made.enable_truncation(4)
    made.enable_padding(length=4)
    return made.to_str().encode()


def language_model(told: dict[str, Any], seed: int = 0) -> Any:
    """The language model with weights from a seed, rounded to bf16."""
    from transformers import AutoConfig, AutoModel

    module = AutoModel.from_config(AutoConfig.for_model(**told["text_config"])).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        values = torch.randn(tensor.shape, generator=generator) * 0.3
        tensor.copy_((torch.ones_like(tensor) if name.endswith("layer_scalar") else values).to(torch.bfloat16))
    return module


def tensors_of(module: Any, prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor.to(torch.bfloat16) for name, tensor in module.state_dict().items()}


def write_gemma3(folder: Path, *, prefix: str = "language_model.model.") -> Path:
    """A folder of transformers: the language model under `prefix` beside a tower for pictures, and the tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    towers = {
        "vision_tower.vision_model.post_layernorm.weight": torch.ones(4),
        "multi_modal_projector.mm_input_projection_weight": torch.ones(2, 2),
    }
    save_file({**tensors_of(language_model(GEMMA3), prefix), **towers}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(GEMMA3))
    (folder / "tokenizer.json").write_bytes(tokenizer_bytes())
    return folder


def projections(version: str, seed: int = 5) -> dict[str, Tensor]:
    """LTX's projections under their official names: one for both modalities ("2.0"), or one for each."""
    generator = torch.Generator().manual_seed(seed)
    wide = HIDDEN * (LAYERS + 1)
    made = {}
    for name, width in (
        {"aggregate_embed": HIDDEN}.items()
        if version == "2.0"
        else {f"{name}_aggregate_embed": width for name, width in WIDTHS.items()}.items()
    ):
        made[f"{PREFIX}{name}.weight"] = (torch.randn(width, wide, generator=generator) / wide**0.5).to(torch.bfloat16)
        if version != "2.0":
            made[f"{PREFIX}{name}.bias"] = torch.randn(width, generator=generator).to(torch.bfloat16)
    return made


TRANSFORMER = {
    "2.0": {"caption_proj_before_connector": False},
    "2.3": {
        "caption_proj_before_connector": True,
        "caption_projection_first_linear": False,
        "caption_projection_second_linear": False,
        "caption_proj_input_norm": False,
        "text_encoder_norm_type": "per_token_rms",
        "connector_num_attention_heads": 4,
        "connector_attention_head_dim": 16,
        "audio_connector_num_attention_heads": 4,
        "audio_connector_attention_head_dim": 8,
    },
}


def write_model(path: Path, version: str, tensors: dict[str, Tensor] | None = None, **metadata: str) -> Path:
    """A checkpoint of which only what concerns the text is there; of 2.0 and 2.3 with the projections."""
    given = {"model.diffusion_model.patchify_proj.weight": torch.zeros(2, 2), **(projections(version) if tensors is None else tensors)}
    config = {"transformer": TRANSFORMER["2.0" if version == "2.0" else "2.3"]}
    told = {"config": json.dumps(config), "model_version": f"{version}.0", **metadata}
    save_file(given, path, metadata={key: value for key, value in told.items() if value})
    return path


def write_packed(path: Path, **told: Any) -> Path:
    """The packed text encoder of 2.5."""
    towers = {
        "vision_model.patch_dense.weight": torch.ones(2, 2),
        "audio_projector.embedding_projection.weight": torch.ones(2, 2),
        "multi_modal_projector.embedding_projection.weight": torch.ones(2, 2),
    }
    assets = {name: torch.frombuffer(bytearray(content), dtype=torch.uint8) for name, content in
              {"tokenizer_json": tokenizer_bytes(), "hf_asset__tokenizer_config.json": b"{}"}.items()}  # fmt: skip
    tensors = {**tensors_of(language_model(GEMMA4), "model."), **projections("2.5"), **towers, **assets}
    save_file(tensors, path, metadata={"format": "pt", "gemma_config": json.dumps(GEMMA4 | told)})
    return path


def gemma_of(version: str) -> str:
    """What a transformer's metadata says of the text encoder that it was trained with."""
    return json.dumps({"ltx_version": "2.5.0", "gemma_version": version})
