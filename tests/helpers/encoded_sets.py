"""Small data sets for the tests, written by the store itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ltxcore.encoded.manifest import append_entry
from ltxcore.encoded.store import expect, read_stored, write_sample
from ltxcore.errors import LtxError
from ltxcore.protocols import Entry, Source

TEXT = Source("conditions", "text")
AUDIO = Source("audio_latents", "latents", "audio", where="training_strategy.audio.latents_dir")
VIDEO = Source("latents", "latents", "video", where="training_strategy.video.latents_dir")
AUDIO_MASK = Source("audio_masks", "mask", "audio", where="training_strategy.audio.conditions.0.mask_dir")
VIDEO_MASK = Source("video_masks", "mask", "video", where="training_strategy.video.conditions.0.mask_dir")
REFERENCE = Source("reference_latents", "latents", "video", optional=True, where="training_strategy.video.conditions.1.latents_dir")

INPAINTING = {"text": TEXT, "audio": AUDIO, "audio.cond0.mask": AUDIO_MASK}


def values(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def text(words: int = 5, seed: int = 0) -> dict[str, Tensor]:
    return {"video": values(words, 8, seed=seed), "audio": values(words, 6, seed=seed + 1)}


def put(root: Path, folder: str, name: str, tensors: Mapping[str, Tensor], rank: int = 0, **told: object) -> Entry:
    """Write a sample and record it, as preprocessing does."""
    entry = write_sample(root, folder, name, tensors, Entry(**{"shape": (), **told}))
    append_entry(root, folder, name, entry, rank)
    return entry


def put_text(root: Path, name: str, words: int = 5, length: int = 8, **told: object) -> Entry:
    return put(root, "conditions", name, text(words), shape=(length,), **{"encoder": "hash-1", **told})


def inpainting_set(root: Path, names: Iterable[str], steps: int = 6) -> dict[str, Source]:
    """Sound with masks and captions."""
    for number, name in enumerate(names):
        put_text(root, name, words=1 + number % 8)
        put(root, "audio_latents", name, {"latents": values(8, steps, 16, seed=number)}, fingerprint=f"sound {name}", origin=f"{name}.wav")
        put(root, "audio_masks", name, {"mask": torch.linspace(0, 1, steps)})
    return INPAINTING


def message(error: LtxError, root: Path) -> str:
    """The whole message, with the temporary root spelled ROOT."""
    return str(error).replace(str(root), "ROOT")


def read_latents(path: Path) -> tuple[Tensor, float | None]:
    """Stored latents, `[C, F, H, W]` or `[C, T, M]`, and frames per second if it is video that says so.

    Raises:
        DataError: as in `read_stored`, or the file holds something else.
    """
    sample = expect(path, read_stored(path)[0], "latents")
    return sample.tensors["latents"], sample.rate


def read_text(path: Path) -> tuple[dict[str, Tensor], int]:
    """Stored text features by modality, `[l, E]` without padding, and the length L that they are padded to.

    Raises:
        DataError: as in `read_stored`, or the file holds something else.
    """
    sample = expect(path, read_stored(path)[0], "text")
    return dict(sample.tensors), sample.length
