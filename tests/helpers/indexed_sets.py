"""Large encoded sets that exist only as manifests or as their index: no sample is ever read."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from ltxcore.encoded.columns import ORIGIN_HASH, Columns, hashes_in, origin_hash
from ltxcore.encoded.index import LARGE, SUMMARY, VERSION
from ltxcore.encoded.sample_names import INDEX_FOLDER
from ltxcore.protocols import Entry, Source

ROLES = {
    "video": Source("latents", "latents", "video", where="latents_dir"),
    "audio": Source("audio_latents", "latents", "audio"),
    "text": Source("conditions", "text"),
}

FACTS: Mapping[str, list[Entry]] = {
    "latents": [
        Entry((128, 3, *cells), 24.0, kind="latents", modality="video")  # four buckets
        for cells in ((2, 4), (4, 2), (3, 3), (2, 2))
    ],
    "audio_latents": [Entry((8, 26, 16), kind="latents", modality="audio")],
    "conditions": [Entry((1024,), kind="text", modality="video+audio", widths=(128, 128))],
}


def name_of(number: int) -> str:
    """The name of a sample; names and numbers have the same order."""
    return f"clip_{number:07}"


def entry_of(folder: str, number: int) -> Entry:
    """The entry of a sample in a folder. Two samples come from one file."""
    hashed = hashlib.md5(f"{folder} {number}".encode()).hexdigest()
    facts = FACTS[folder][number % len(FACTS[folder])]
    return attrs.evolve(facts, bytes=8, fingerprint=hashed, checksum=hashed[::-1], origin=f"clip_{number // 2:07}.mp4")


def put_manifests(root: Path, count: int, manifests: int = 1, folders: Iterable[str] = FACTS) -> None:
    """Write the manifests of a set, with a file of 8 bytes for every sample, that have not changed for a while."""
    for folder in folders:
        (root / folder).mkdir(parents=True)
        for process in range(manifests):
            told = (
                {"name": name_of(number), **attrs.asdict(entry_of(folder, number)), "time": 1.7e9}
                for number in range(process, count, manifests)
            )
            (root / folder / f"manifest-{process}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in told))
        for number in range(count):
            (root / folder / f"{name_of(number)}.safetensors").write_bytes(b"8 bytes.")
    settle(root, folders=folders)


def settle(root: Path, seconds: float = 100.0, folders: Iterable[str] = FACTS) -> None:
    """Date the folders of a set and their manifests back, as if nobody had changed them for a while."""
    long_ago = time.time() - seconds
    for folder in folders:
        for path in (*(root / folder).glob("manifest*"), root / folder):
            os.utime(path, (long_ago, long_ago))


def put_index(root: Path, count: int) -> None:
    """Write the index of a set of so many samples that is nowhere else: its manifests are empty, and there are no files."""
    for folder in FACTS:
        place = root / folder / INDEX_FOLDER
        place.mkdir(parents=True)
        manifest = root / folder / "manifest-0.jsonl"
        manifest.touch()
        os.truncate(manifest, LARGE)
        _columns(folder, count).save(place / "samples.columns", {"id": "made"})
        status = manifest.stat()
        told: dict[str, Any] = {"version": VERSION, "columns": "samples.columns", "id": "made", "latest": 1.7e9}
        told |= {"manifests": {manifest.name: (status.st_size, status.st_mtime_ns)}}
        told |= {"folders": {"": (root / folder).stat().st_mtime_ns}}
        (place / SUMMARY).write_text(json.dumps(told))


def _columns(folder: str, count: int) -> Columns:
    numbers = range(count)
    texts = {
        "name": [f"clip_{number:07}" for number in numbers],
        "fingerprint": [f"{folder:>13}{number:019}" for number in numbers],
        "checksum": [f"{number:032}" for number in numbers],
        "origin": [f"clip_{number // 2:07}.mp4" for number in numbers],
    }
    arrays: dict[str, Any] = {
        "facts": np.arange(count, dtype=np.int32) % len(FACTS[folder]),
        "bytes": np.full(count, 3_000_000),
        "time": np.full(count, 1.7e9),
        "changed": np.zeros(count, np.int64),
        "removed": np.zeros(count, np.uint8),
        ORIGIN_HASH: hashes_in(b"".join(map(origin_hash, texts["origin"]))),
    }
    for column, own in texts.items():
        arrays[column] = np.frombuffer("".join(own).encode(), np.uint8)
        arrays[f"{column}.ends"] = np.arange(1, count + 1) * len(own[0])
    return Columns(arrays, tuple(FACTS[folder]))
