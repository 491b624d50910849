"""Texts that belong to a set rather than to a sample, such as the empty caption. Each is encoded once, and kept beside the samples."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from ltxcore.encoded.micro_batch import padded
from ltxcore.encoded.sample_names import sample_path
from ltxcore.encoded.store import read_stored, write_sample
from ltxcore.errors import DataError, listed
from ltxcore.protocols import Entry, Text, TextEncoder

FOLDER = ".prompts"
"""The folder for prompts in an encoded set. Its name begins with a dot, since it is not a source of samples."""


def in_words(prompts: Iterable[str]) -> str:
    """Describe texts in words, for a message."""
    return listed("the empty caption" if prompt == "" else f'the prompt "{prompt}"' for prompt in prompts)


def missing_prompts(root: Path, prompts: Iterable[str], encoder: str) -> list[str]:
    """Return the texts that an encoded set does not hold yet, each once."""
    return [prompt for prompt in dict.fromkeys(prompts) if _read(root, prompt, encoder) is None]


def encode_prompts(root: Path, prompts: Iterable[str], encoder: str, load: Callable[[], TextEncoder]) -> list[str]:
    """Encode the texts that an encoded set does not hold yet, and return them.

    Args:
        root: the encoded set.
        prompts: the texts.
        encoder: the fingerprint of the text encoder that the set's captions were encoded with.
        load: a function that loads this text encoder; it is called only if a text is missing.

    Raises:
        ConfigError: the text encoder is not available.
        DataError: a file cannot be written.
    """
    missing = missing_prompts(root, prompts, encoder)
    if missing:
        loaded = load()
        for prompt in missing:
            (features,) = loaded.encode([prompt])
            entry = Entry(shape=(loaded.length,), fingerprint=_name(prompt, encoder), origin=prompt, encoder=loaded.fingerprint)
            write_sample(root, FOLDER, _name(prompt, encoder), features, entry)
    return missing


def read_prompts(root: Path, prompts: Iterable[str], encoder: str) -> dict[str, Text]:
    """Return texts that an encoded set holds, each as text features `[1, L, E]` from before the connectors.

    Raises:
        DataError: the set does not hold one of the texts.
    """
    found = {prompt: _read(root, prompt, encoder) for prompt in dict.fromkeys(prompts)}
    if missing := [prompt for prompt, text in found.items() if text is None]:
        raise DataError(f'the prompt "{missing[0]}" is not encoded', where=str(root / FOLDER), remedy="Start the run again.")
    return {prompt: text for prompt, text in found.items() if text is not None}


def _read(root: Path, prompt: str, encoder: str) -> Text | None:
    """Read a text; None if it is missing, damaged, or encoded with a different text encoder."""
    try:
        sample, _ = read_stored(sample_path(root, FOLDER, _name(prompt, encoder)))
    except DataError:
        return None
    return padded(sample.tensors, sample.length) if sample.fingerprint == _name(prompt, encoder) else None


def _name(prompt: str, encoder: str) -> str:
    """Return the name of a text's file. The name changes with the text and its encoder, but not with the encoder's options, such as
    precision, which make no difference that matters.
    """
    return hashlib.blake2b(repr((prompt, encoder.partition("+")[0])).encode(), digest_size=16).hexdigest()
