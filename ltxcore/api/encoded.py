"""Encoded sets, as `ltx preprocess` writes them and a strategy reads them: their content and their samples. Provisional until 1.0."""

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


def read_sample(path: Path, kind: Literal["latents", "mask", "text"]) -> Mapping[str, Tensor]:
    """Read the tensors of a sample's file: one tensor named after its kind, or text features by modality.

    Latents are `[C, F, H, W]` or `[C, T, M]`; masks are `[F, H, W]` or `[T]`, from 0 to 1, where 1 means given; text is
    `[l, E]`, without padding.

    Raises:
        DataError: there is no such file, it is truncated or damaged, it holds something else, or its latents contain NaN or
            infinity.
    """
    from ltxcore.encoded.store import expect, read_stored, redo

    tensors = expect(path, read_stored(path)[0], kind).tensors
    if kind == "latents" and not bool(tensors[kind].float().isfinite().all()):
        raise DataError("has values that are not numbers", where=str(path), remedy=redo(path))
    return tensors
