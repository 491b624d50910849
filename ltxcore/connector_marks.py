"""The mark that text features carry in the fingerprint of their encoder if they have passed through a model's connectors."""

from __future__ import annotations

_CONNECTORS = "+connectors="


def with_connectors(encoder: str, connectors: str) -> str:
    """Return a fingerprint of a text encoder and of the connectors that its features pass through before they are
    stored.
    """
    return f"{encoder}{_CONNECTORS}{connectors}"


def connectors_in(encoder: str) -> str:
    """Return the connectors' part of a fingerprint made by `with_connectors`; "" for the fingerprint of a text encoder
    alone.
    """
    return encoder.partition(_CONNECTORS)[2]
