"""Gemma, whose hidden states are the input of text features, from a folder in the layout of transformers, or packed in
one file with its tokenizer and LTX's projections.

Only the language model is read; the towers for images and audio, and the head, are not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from ltxcore.codecs.official.modules import Part, empty
from ltxcore.errors import CheckpointError
from ltxcore.headers import Slots, read_file, read_folder, read_json
from ltxcore.model_config import check_sizes, json_object

_FAMILIES = ("gemma3", "gemma4", "gemma4_unified")
_EMBEDDING = "embed_tokens.weight"
_PREFIXES = ("", "model.", "language_model.", "model.language_model.", "language_model.model.")
_OTHER_PARTS = re.compile(
    r"(model\.)?(language_model\.)?lm_head\.|(model\.)?(vision_|audio_|multi_modal_|embed_vision\.|embed_audio\.)|text_embedding_projection\."
    r"|tokenizer_json$|hf_asset__|.*\.rotary_emb\.inv_freq$"
)
_PACKED_TOKENIZER = "tokenizer_json"


@attrs.frozen(eq=False)
class Gemma:
    """The files of a text encoder.

    Attributes:
        where: the text encoder's file or folder.
        weights: its tensors, and in a packed file those of LTX's projections.
        told: the text encoder's configuration.
        tokenizer: the content of its tokenizer.json.
    """

    where: Path
    weights: Slots
    told: Mapping[str, Any]
    tokenizer: bytes

    @property
    def family(self) -> str:
        """The family of the text encoder: "gemma3", "gemma4" or "gemma4_unified"."""
        return str(self.told.get("model_type", "")).removesuffix("_text")


def open_gemma(path: Path) -> Gemma:
    """Open the files of a text encoder.

    Args:
        path: a folder in the layout of transformers, one with the folders `text_encoder` and `tokenizer`, or a packed
            file.

    Raises:
        CheckpointError: it is none of these, is incomplete, or is not Gemma 3 or 4.
    """
    found = _packed(path) if not path.is_dir() else _folder(path)
    check_sizes(found.told, str(path))
    if found.family not in _FAMILIES:
        raise CheckpointError(
            f"this text encoder is {found.family or 'of an unknown kind'}; LTX-2 and 2.3 use Gemma 3, and 2.5 uses its own Gemma 4",
            where=str(path),
        )
    return found


def _folder(path: Path) -> Gemma:
    inner = path / "text_encoder"
    folder = inner if inner.is_dir() else path
    places = [place / "tokenizer.json" for place in (path / "tokenizer", folder, path.parent / "tokenizer")]
    tokenizer = next((place for place in places if place.is_file()), None)
    if tokenizer is None:
        raise CheckpointError("this text encoder has no tokenizer.json", where=str(path), remedy="Download the complete folder.")
    return Gemma(path, read_folder(folder), read_json(folder / "config.json"), tokenizer.read_bytes())


def _packed(path: Path) -> Gemma:
    weights = read_file(path)
    told = json_object(weights.metadata.get("gemma_config", ""))
    if told is None or _PACKED_TOKENIZER not in weights.slots:
        raise CheckpointError(
            'this file is not a packed text encoder: it lacks "gemma_config" in its metadata, or the tensor "tokenizer_json"',
            where=str(path),
            remedy="Name the folder of Gemma 3 (LTX-2 and 2.3), or the text encoder's file (2.5), as text_encoder_path under [model].",
        )
    return Gemma(path, weights, told, weights.slots[_PACKED_TOKENIZER].content())


def language_model(gemma: Gemma) -> Part:
    """Build the language model, without its weights yet.

    Raises:
        CheckpointError: the installed transformers does not have it, or its tensors are not those of its configuration.
    """
    from transformers import AutoModel

    config = _config(gemma)
    module = empty(lambda: AutoModel.from_config(config))
    prefix = next((prefix for prefix in _PREFIXES if prefix + _EMBEDDING in gemma.weights.slots), "model.")
    # Layers that use the keys and values of another layer may still have tensors of their own.
    shared = [re.compile(pattern) for pattern in getattr(module, "_keys_to_ignore_on_load_unexpected", None) or ()]

    def belongs(name: str) -> bool:
        return not _OTHER_PARTS.match(name) and not any(pattern.search(name) for pattern in shared)

    return Part.of("text encoder", module, gemma.weights, lambda name: prefix + name, belongs)


def _config(gemma: Gemma) -> Any:
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    inner = gemma.told.get("text_config")
    told = dict(inner) if isinstance(inner, Mapping) else dict(gemma.told)
    told["model_type"] = f"{gemma.family}_text"
    for leave_to_us in ("torch_dtype", "dtype", "quantization_config"):
        told.pop(leave_to_us, None)
    if told["model_type"] not in CONFIG_MAPPING:
        raise CheckpointError(
            f"this text encoder is a {gemma.family}, which the installed transformers {transformers.__version__} does not have",
            where=str(gemma.where),
            remedy="Install a newer version: pip install --upgrade transformers",
        )
    try:
        return transformers.AutoConfig.for_model(**told)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"its configuration cannot be read: {error}", where=str(gemma.where)) from None
