"""Functions that read Gemma, from whose hidden states text features are computed.

Gemma is read from a folder in the layout of transformers, from one file that packs it with its tokenizer and LTX's projections, or from a
single file of Gemma 3 as ComfyUI reads it. Only the language model is read; the head and the towers for images and audio are not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from ltxcore.codecs.official.modules import Part, empty
from ltxcore.codecs.official.single_gemma import PIECES, config_of, tokenizer_of
from ltxcore.errors import CheckpointError
from ltxcore.headers import Slots, read_file, read_folder, read_json
from ltxcore.model_config import check_sizes, json_object

_FAMILIES = ("gemma3", "gemma4", "gemma4_unified")
_EMBEDDING = "embed_tokens.weight"
_PREFIXES = ("", "model.", "language_model.", "model.language_model.", "language_model.model.")
_OTHER_PARTS = re.compile(
    r"(model\.)?(language_model\.)?lm_head\.|(model\.)?(vision_|audio_|multi_modal_|embed_vision\.|embed_audio\.)|text_embedding_projection\."
    rf"|tokenizer_json$|{PIECES}$|hf_asset__|.*\.rotary_emb\.inv_freq$"
)
_PACKED_TOKENIZER = "tokenizer_json"


@attrs.frozen(eq=False)
class Gemma:
    """The files of a text encoder.

    Attributes:
        where: the text encoder's file or folder.
        weights: its tensors; in a packed file, also the tensors of LTX's projections.
        told: the text encoder's configuration.
        tokenizer: the content of the tokenizer.json.
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
        path: a folder in the layout of transformers, a folder with sub-folders `text_encoder` and `tokenizer`, a packed file, or a single
            file of Gemma 3.

    Raises:
        CheckpointError: the path has none of these forms, or the text encoder is incomplete or is not Gemma 3 or 4.
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
    if PIECES in weights.slots:
        return Gemma(path, weights, config_of(weights), tokenizer_of(weights.slots[PIECES]))
    told = json_object(weights.metadata.get("gemma_config", ""))
    if told is None or _PACKED_TOKENIZER not in weights.slots:
        raise CheckpointError(
            'this file is not a packed text encoder: it has neither "spiece_model" nor "gemma_config" with "tokenizer_json"',
            where=str(path),
            remedy="Set text_encoder_path under [model] to the folder of Gemma 3 (LTX-2 and 2.3) or to the text encoder's file (2.5).",
        )
    return Gemma(path, weights, told, weights.slots[_PACKED_TOKENIZER].content())


def language_model(gemma: Gemma) -> Part:
    """Build the language model without reading its weights yet.

    Raises:
        CheckpointError: the installed version of transformers does not have the model, or the model's tensors do not match its
            configuration.
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
            f"this text encoder is {gemma.family}, which the installed transformers {transformers.__version__} does not support",
            where=str(gemma.where),
            remedy="Install a newer version: pip install --upgrade transformers",
        )
    try:
        return transformers.AutoConfig.for_model(**told)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the configuration of the text encoder cannot be read: {error}", where=str(gemma.where)) from None
