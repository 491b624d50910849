"""A check that this machine may publish, which is better made before a run than after it."""

from __future__ import annotations

NO_TOKEN = "publishing needs a token of the Hugging Face Hub, and this machine has none"


def has_token() -> bool:
    """Return whether there is a token, from a login or HF_TOKEN; only its use shows whether it is valid."""
    from huggingface_hub import get_token

    return get_token() is not None
