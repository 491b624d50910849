"""Facts about the data of a run, stored with its output in case the data are deleted later."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from ltxcore.alike import alike, bytes_of, made_digest
from ltxcore.errors import listed
from ltxcore.members import roots_of
from ltxcore.protocols import Entry, Modality, Source
from ltxcore.redact import redacted
from ltxcore.runs.run_plan import RunPlan

OF_ROLES = "roles:"
"""The beginning of the hash of a run's data. Earlier versions hashed all samples, and their hash has no such beginning."""

SHOWN = 3
"""The number of sizes to name, beginning with the most frequent size."""


def about_data(plan: RunPlan) -> dict[str, Any]:
    """Return, as values for JSON, the number of training samples and of held-out samples, and the size, length and bytes of each source's
    samples, for the run and for the datasets of its objectives; and if the run has several sets, how often their samples are used.
    """
    modalities = plan.outline.setting.modalities
    sources = [
        _about_source(role, source, plan.manifest.entries[role], modalities.get(source.modality))
        for role, source in plan.outline.strategy.sources().items()
    ]
    return {
        "root": redacted(str(plan.outline.root)),
        "train": len(plan.split.train),
        "held_out": len(plan.split.held_out),
        "why_none_held_out": plan.split.why_none,
        "sources": sources,
        "digest": _digest(plan),
        **({"sets": _about_sets(plan)} if plan.manifest.members else {}),
        **({"datasets": {label: about_data(each) for label, each in plan.datasets.items()}} if plan.datasets else {}),
    }


def _about_sets(plan: RunPlan) -> dict[str, Any]:
    """Return for each set its root, its numbers of samples, and how many of them an epoch takes."""
    members = plan.manifest.members
    roots = {each: redacted(str(root)) for each, root in roots_of(members).items()}
    held_out = Counter(members[name].set for name in plan.split.held_out)
    return {
        name: {"root": roots[name], "train": samples, "held_out": held_out[name], "per_epoch": count}
        for name, (samples, count) in plan.order.sets.items()
    }


def changed_data(plan: RunPlan) -> str:
    """Describe what changed in the data of a resumed run since the run recorded them at its beginning; "" if no change is found."""
    before = (plan.outline.folder.status() or {}).get("data", {}) if plan.outline.resumes else {}
    what = _changed(before, _as_told(before, about_data(plan), plan))
    return said_of_changed_data(what) if what else ""


def _as_told(before: Mapping[str, Any], now: dict[str, Any], plan: RunPlan) -> dict[str, Any]:
    """Return facts about the data, with hashes as in the version that recorded the facts `before`."""
    if not before.get("digest", OF_ROLES).startswith(OF_ROLES):
        now = {**now, "digest": _old_digest(plan)}
    datasets = {
        label: _as_told(before.get("datasets", {}).get(label, {}), each, plan.datasets[label])
        for label, each in now.get("datasets", {}).items()
    }
    return {**now, "datasets": datasets} if datasets else now


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    counts = [(before.get("train", now["train"]), now["train"]), (before.get("held_out", now["held_out"]), now["held_out"])]
    if any(one != other for one, other in counts):
        (trained, trains), (held, holds) = counts
        return f"then {trained} sample{'' if trained == 1 else 's'} to train on and {held} held out, now {trains} and {holds}"
    if _roles(before) == _roles(now) and before.get("digest", now["digest"]) != now["digest"]:
        return "some samples were encoded again"
    datasets = {label: (before.get("datasets", {}).get(label, {}), each) for label, each in now.get("datasets", {}).items()}
    return next((f"{label}: {what}" for label, both in datasets.items() if (what := _changed(*both))), "")


def said_of_changed_data(what: str) -> str:
    """Explain what a change of the data means for a resumed run."""
    return f"the data have changed since this run began ({what}): the run continues with the current data, so the result will differ from that of an uninterrupted run"


def _roles(data: Mapping[str, Any]) -> list[str]:
    return [source["role"] for source in data.get("sources", [])]


def _digest(plan: RunPlan) -> str:
    """Return a hash of everything that the samples in use were made from."""
    digests = {role: made_digest(entries) for role, entries in plan.manifest.entries.items()}
    return f"{OF_ROLES}{hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()}"


def _old_digest(plan: RunPlan) -> str:
    """Return the hash that earlier versions stored, for which every fingerprint is read."""
    entries = plan.manifest.entries
    made = {role: {name: entry.fingerprint for name, entry in entries[role].items()} for role in entries}
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()


def _about_source(role: str, source: Source, entries: Mapping[str, Entry], modality: Modality | None) -> dict[str, Any]:
    groups = [(entry, len(names)) for entry, names in alike(entries)]
    timed = modality if source.kind == "latents" else None
    lengths = None if timed is None else [Fraction(seconds(entry, timed)) * number for entry, number in groups]
    sizes = Counter[str]()
    for entry, number in groups:
        sizes[size_of(entry, source, modality)] += number
    return {
        "role": role,
        "folder": source.folder,
        "samples": len(entries),
        "sizes": _sizes(sizes),
        # A sum of fractions is rounded once, as if all lengths were added.
        "seconds": None if lengths is None else float(sum(lengths)),
        "bytes": bytes_of(entries),
    }


def _sizes(sizes: Counter[str]) -> str:
    counted = sizes.most_common()
    return counted[0][0] if len(counted) == 1 else listed((f"{size} ({count})" for size, count in counted), SHOWN)


def size_of(entry: Entry, source: Source, modality: Modality | None) -> str:
    """Describe the size of a sample: in pixels, frames and seconds; for masks and pictures in cells, for values in numbers, for texts in tokens."""
    if source.kind == "text":
        return f"{entry.shape[0]} tokens"
    if source.kind == "values":
        return f"{' x '.join(map(str, entry.shape)) or '1'} values"
    if source.kind == "pictures":
        return f"{entry.shape[0]} pictures of {entry.shape[3]} x {entry.shape[4]} cells"
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
