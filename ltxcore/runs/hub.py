"""Whether this machine may publish, which is better known before a run than after it."""

from __future__ import annotations

NO_TOKEN = "publishing needs a token of the Hugging Face Hub, and this machine has none"


def has_token() -> bool:
    """Whether there is a token, from a login or HF_TOKEN; whether it is a good one shows when it is used."""
    from huggingface_hub import get_token

    return get_token() is not None
