"""Which text features a model can read, known without opening them."""

from __future__ import annotations

from typing import Any

from ltxcore.errors import DataError
from ltxcore.models.backbone import ModelInfo
from ltxcore.models.checkpoint_files import open_checkpoint
from ltxcore.models.connectors import connectors_fingerprint
from ltxcore.models.shipped import UNTRAINED
from ltxcore.models.tiny_model import TINY
from ltxcore.models.transformer_settings import Config, diffusers_arguments
from ltxcore.protocols import connectors_in

_LTX = "ltx-"
_TINY = "tiny"


def check_text_features(info: ModelInfo, encoder: str, where: str) -> None:
    """Refuse stored text features that were made for another generation of models.

    Args:
        info: the base model.
        encoder: fingerprint of the text encoder that made them (`Entry.encoder`); that of a real one begins with the generation, "ltx-2.3/". "": not known.
        where: the folder they are in.

    Raises:
        DataError: they were made for another generation.
    """
    made_for = encoder.partition("/")[0].removeprefix(_LTX) if encoder.startswith(_LTX) else _TINY if encoder.startswith(_TINY) else ""
    if made_for and made_for != info.generation:
        raise DataError(
            f"these text features were made for {_spoken(made_for)}, and the model {info.name} is {_spoken(info.generation)}",
            where=where,
            remedy="Run `ltx preprocess` again with this model, into another folder or in place of these.",
        )


def check_connectors(info: ModelInfo, model_path: str, encoder: str, where: str) -> None:
    """Refuse text that was stored after the connectors of another model.

    Args:
        info: the base model.
        model_path: of it.
        encoder: fingerprint of what made the text (`Entry.encoder`).
        where: the folder it is in.

    Raises:
        DataError: its connectors have other weights than those of the model, or the model has none.
        CheckpointError: the model's connectors cannot be read.
    """
    used = connectors_in(encoder)
    if used and (not info.has_connectors or used != connectors_fingerprint(open_checkpoint(model_path))):
        raise DataError(
            f"this text went through connectors that are not those of the model {info.name} before it was stored",
            where=where,
            remedy="Run `ltx preprocess` again with this model, into another folder or in place of it.",
        )


def text_widths(model_path: str) -> dict[str, int]:
    """Numbers a token of the stored text features that a model takes, by modality; before connectors, which do not change it.

    Source: reference-behaviour A.5: models that project the text inside the transformer take the text encoder's own width, the others that of the stream.
    """
    arguments = _arguments(model_path)
    if arguments["use_prompt_embeddings"]:
        return {"video": arguments["caption_channels"], "audio": arguments["caption_channels"]}
    return {"video": arguments["cross_attention_dim"], "audio": arguments["audio_cross_attention_dim"]}


def token_width(model_path: str, modality: str) -> int:
    """Numbers a token of the latents that a model takes."""
    return int(_arguments(model_path)["in_channels" if modality == "video" else "audio_in_channels"])


def _arguments(model_path: str) -> dict[str, Any]:
    official: Config = TINY if model_path == UNTRAINED else open_checkpoint(model_path).transformer
    return diffusers_arguments(official, model_path)


def _spoken(generation: str) -> str:
    return "the tiny model" if generation == _TINY else f"LTX-{generation}"
