"""Which text features a model can read, known without opening them."""

from __future__ import annotations

from ltxcore.errors import DataError
from ltxcore.models.backbone import ModelInfo

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


def _spoken(generation: str) -> str:
    return "the tiny model" if generation == _TINY else f"LTX-{generation}"
