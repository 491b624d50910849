"""The content and the samples of encoded sets, which `ltx preprocess` writes and a strategy reads. Provisional until 1.0."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ltxcore.encoded.folders import EncodedSet, list_encoded
from ltxcore.errors import DataError
from ltxcore.later import later

if TYPE_CHECKING:
    from torch import Tensor

    from ltxcore.encoded.strategy_data import StrategyData, whole_set

__all__ = ["EncodedSet", "StrategyData", "list_encoded", "read_sample", "whole_set"]

__getattr__ = later(__name__, {"StrategyData": "ltxcore.encoded.strategy_data", "whole_set": "ltxcore.encoded.strategy_data"})


def read_sample(path: Path | str, kind: Literal["latents", "mask", "pictures", "text"]) -> Mapping[str, Tensor]:
    """Read the tensors of a sample's file: one tensor, named after its kind, or the text features of each modality. For pictures there is
    also a tensor "frames" `[K]`, the numbers of the frames that the pictures show.

    Latents are `[C, F, H, W]` or `[C, T, M]`; masks are `[F, H, W]` or `[T]`, from 0 (generated) to 1 (given); pictures are
    `[K, C, 1, H, W]`; text features are `[l, E]`, without padding.

    Raises:
        DataError: the file does not exist, is truncated or damaged, is not a sample, or has latents with NaN or infinite values.
    """
    from ltxcore.encoded.store import expect, read_stored, redo

    path = Path(path)
    tensors = expect(path, read_stored(path)[0], kind).tensors
    if kind == "latents" and not bool(tensors[kind].float().isfinite().all()):
        raise DataError("has NaN or infinite values", where=str(path), remedy=redo(path))
    return tensors
