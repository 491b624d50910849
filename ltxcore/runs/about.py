"""Facts about a run's data that are stored with its output, for when the data are gone."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ltxcore.errors import listed
from ltxcore.protocols import Entry, Modality, Source
from ltxcore.runs.run_plan import RunPlan

SHOWN = 3
"""The number of sizes to name, the most frequent first."""


def about_data(plan: RunPlan) -> dict[str, Any]:
    """Count the samples that are trained on and held out, and describe the size, length and bytes of each source's
    samples, as values that go into JSON.
    """
    modalities = plan.outline.setting.modalities
    sources = [
        _about_source(role, source, plan.manifest.entries[role], modalities.get(source.modality))
        for role, source in plan.outline.strategy.sources().items()
    ]
    return {
        "root": str(plan.outline.root),
        "train": len(plan.split.train),
        "held_out": len(plan.split.held_out),
        "why_none_held_out": plan.split.why_none,
        "sources": sources,
        "digest": _digest(plan),
    }


def changed_data(plan: RunPlan) -> str:
    """Say what changed in the data of a resumed run; "" if nothing did, as far as can be told from what the run recorded when it began."""
    before = (plan.outline.folder.status() or {}).get("data", {}) if plan.outline.resumes else {}
    now = about_data(plan)
    counts = [(before.get("train", now["train"]), now["train"]), (before.get("held_out", now["held_out"]), now["held_out"])]
    if any(one != other for one, other in counts):
        (trained, trains), (held, holds) = counts
        what = f"then {trained} samples to train on and {held} held out, now {trains} and {holds}"
    elif _roles(before) == _roles(now) and before.get("digest", now["digest"]) != now["digest"]:
        what = "some samples were encoded again"
    else:
        return ""
    return said_of_changed_data(what)


def said_of_changed_data(what: str) -> str:
    """Say what a change of the data means for a run that is resumed."""
    return f"the data are not those that this run began with ({what}): it continues with the current data, so its result will differ from that of an uninterrupted run"


def _roles(data: Mapping[str, Any]) -> list[str]:
    return [source["role"] for source in data.get("sources", [])]


def _digest(plan: RunPlan) -> str:
    """Return a hash of everything that the samples in use were made from."""
    entries = plan.manifest.entries
    made = {role: {name: entry.fingerprint for name, entry in entries[role].items()} for role in entries}
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()


def _about_source(role: str, source: Source, entries: Mapping[str, Entry], modality: Modality | None) -> dict[str, Any]:
    lengths = [seconds(entry, modality) for entry in entries.values()] if source.kind == "latents" and modality is not None else None
    return {
        "role": role,
        "folder": source.folder,
        "samples": len(entries),
        "sizes": _sizes(size_of(entry, source, modality) for entry in entries.values()),
        "seconds": None if lengths is None else math.fsum(lengths),
        "bytes": sum(entry.bytes for entry in entries.values()),
    }


def _sizes(sizes: Iterable[str]) -> str:
    counted = Counter(sizes).most_common()
    return counted[0][0] if len(counted) == 1 else listed((f"{size} ({count})" for size, count in counted), SHOWN)


def size_of(entry: Entry, source: Source, modality: Modality | None) -> str:
    """Describe the size of a sample: in pixels, frames and seconds; for masks in cells, for texts in tokens."""
    if source.kind == "text":
        return f"{entry.shape[0]} tokens"
    if source.kind == "mask" or modality is None:
        return f"{' x '.join(map(str, entry.shape))} cells"
    if modality.name != "video":
        return f"{seconds(entry, modality):.2f} seconds"
    grid = modality.grid_of(entry.shape)
    frames = (grid.frames - 1) * grid.scale[0] + 1
    rate = modality.default_rate if entry.rate is None else entry.rate
    return f"{grid.width * grid.scale[2]} x {grid.height * grid.scale[1]} pixels, {frames} frames at {rate:.4g} a second"


def seconds(entry: Entry, modality: Modality) -> float:
    """Return the duration of a sample. Source: docs/explanation/arithmetic.md#seconds-of-a-sample"""
    grid = modality.grid_of(entry.shape)
    frames = (grid.frames - 1) * grid.scale[0] + 1
    if modality.name == "video":
        return frames / (modality.default_rate if entry.rate is None else entry.rate)
    return frames / (modality.default_rate * grid.scale[0])
