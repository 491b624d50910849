"""Texts that belong to a set rather than to one of its samples, such as the empty caption: each is encoded once, and
kept beside the set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from ltxcore.encoded.micro_batch import padded
from ltxcore.encoded.sample_names import sample_path
from ltxcore.encoded.store import read_stored, write_sample
from ltxcore.errors import DataError
from ltxcore.protocols import Entry, Text, TextEncoder

FOLDER = ".prompts"
"""The folder of these texts in an encoded set; its name begins with a dot, since it is no source of samples."""


def encode_prompts(root: Path, prompts: Iterable[str], encoder: str, load: Callable[[], TextEncoder]) -> int:
    """Encode the texts that are not kept beside a set yet, and return how many there were.

    Args:
        root: the encoded set.
        prompts: the texts.
        encoder: the fingerprint of the text encoder that the set's captions were encoded with.
        load: loads that text encoder, which is asked for only if a text is missing.

    Raises:
        ConfigError: the text encoder is not there.
        DataError: the disk does not take a file.
    """
    missing = [prompt for prompt in dict.fromkeys(prompts) if _read(root, prompt, encoder) is None]
    if missing:
        loaded = load()
        for prompt, features in zip(missing, loaded.encode(missing), strict=True):
            entry = Entry(shape=(loaded.length,), fingerprint=_name(prompt, encoder), origin=prompt, encoder=loaded.fingerprint)
            write_sample(root, FOLDER, _name(prompt, encoder), features, entry)
    return len(missing)


def read_prompts(root: Path, prompts: Iterable[str], encoder: str) -> dict[str, Text]:
    """Return texts that are kept beside a set, each `[1, L, E]`, not yet connected.

    Raises:
        DataError: one of them is not there.
    """
    found = {prompt: _read(root, prompt, encoder) for prompt in dict.fromkeys(prompts)}
    if missing := [prompt for prompt, text in found.items() if text is None]:
        raise DataError(f'the prompt "{missing[0]}" is not encoded', where=str(root / FOLDER), remedy="Start the run again.")
    return {prompt: text for prompt, text in found.items() if text is not None}


def _read(root: Path, prompt: str, encoder: str) -> Text | None:
    """Return a text; None if it is not there, damaged, or of another text encoder."""
    try:
        sample, _ = read_stored(sample_path(root, FOLDER, _name(prompt, encoder)))
    except DataError:
        return None
    return padded(sample.tensors, sample.length) if sample.fingerprint == _name(prompt, encoder) else None


def _name(prompt: str, encoder: str) -> str:
    """Return the name of a text's file, which changes with the text and its encoder. Options of the encoder, such as
    its precision, change nothing that matters.
    """
    return hashlib.blake2b(repr((prompt, encoder.partition("+")[0])).encode(), digest_size=16).hexdigest()
