"""The keys `image_crf`, which say how strongly images that are conditions are compressed before they are encoded."""

from __future__ import annotations

from typing import Any

from ltxcore.config.tables import key

STRONGEST = 51
"""The strongest compression of H.264."""

_USUAL = {"tiny": 0, "2.0": 33, "2.3": 33}
_LATER = 18


def image_crf_key(what: str) -> Any:
    """Declare the key `image_crf`; `what` names the images that are compressed."""
    return key(
        None,
        help=f"how strongly {what} are compressed, each as a frame of H.264, before they are encoded, because models were trained on "
        f"compressed clips: 0 not at all, {STRONGEST} most; by default {_USUAL['2.3']} for LTX-2 and 2.3, {_LATER} for 2.5, and 0 for the tiny model",
        unit="CRF",
        at_least=0,
        at_most=STRONGEST,
    )


def image_crf(asked: int | None, generation: str) -> int:
    """Return the CRF with which images are compressed: the value of the key, or the usual one of a model's generation."""
    return _USUAL.get(generation, _LATER) if asked is None else asked
