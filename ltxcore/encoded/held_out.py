"""The held-out samples, which are never trained on, so that their validation loss shows what was learned.

A held-out *dataset* needs no split. The caller preprocesses it to a root of its own and reads its manifest with the same sources, then
trains on all samples of the first manifest and evaluates on all samples of the second.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable

import attrs
import numpy as np

from ltxcore.alike import fingerprints, names_in, positions
from ltxcore.encoded.columns import Array, hashes_in, origin_hash
from ltxcore.errors import ConfigError, DataError, listed
from ltxcore.protocols import MODALITIES, Manifest

DEFAULT_SHARE = 0.05
DEFAULT_MOST = 32
DEFAULT_FROM = 5
"""The smallest number of samples of which some are held out by default; a smaller set needs every sample for training."""


@attrs.frozen
class Split:
    """The division of samples into training samples and held-out samples.

    Attributes:
        train: the names of the samples to train on, sorted.
        held_out: the names of the held-out samples, sorted.
        why_none: the reason why no sample is held out, as the end of a sentence; "" if some are.
    """

    train: tuple[str, ...]
    held_out: tuple[str, ...]
    why_none: str = ""


def split(manifest: Manifest, held_out: int | float | None) -> Split:
    """Choose the held-out samples.

    Samples with the same origin, the raw file that they were cut from, stay together. Origins are taken in the order of their hashes if
    they still fit, so fewer samples may be held out than requested; unless none is requested, at least one origin is taken. The choice
    depends on the names alone, not on the run's seed, so that runs with different seeds compute their validation loss on the same samples.

    Args:
        manifest: the run's manifest.
        held_out: the number of samples to hold out (int), or their share of all samples (float below 1). None holds out 5 %, at least one
            and at most 32 samples, but nothing from fewer than 5.

    Raises:
        ConfigError: `held_out` is negative, or leaves nothing to train on.

    Source: docs/explanation/arithmetic.md#held-out-samples
    """
    samples = manifest.samples
    wanted = _wanted(held_out, len(samples))
    hashes = _origin_hashes(manifest)
    # Sorted by hash; in a group of samples with one origin, by name.
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))
    ordered = hashes[order]
    starts = np.flatnonzero(np.concatenate([[len(order) > 0], (ordered[1:] != ordered[:-1]).any(axis=1)]))
    sizes = np.diff(starts, append=len(order))
    if wanted and len(starts) == 1:
        origin = origin_of(manifest, samples[0])
        if held_out is None:
            return Split(samples, (), f"all of them come from one file, {origin}")
        raise ConfigError(
            f"held_out = {held_out} leaves nothing to train on: all {len(samples)} samples come from one file, {origin}",
            remedy="Set held_out = 0, or name another dataset to hold out.",
        )
    chosen: list[int] = []
    for start, size in zip(starts.tolist(), sizes.tolist(), strict=True):
        if len(chosen) == wanted:
            break
        if len(chosen) + size <= wanted:
            chosen.extend(order[start : start + size].tolist())
    if wanted and not chosen:  # every origin has more samples than requested
        fewest = int(sizes.argmin())
        chosen.extend(order[starts[fewest] : starts[fewest] + sizes[fewest]].tolist())
    few = "is only 1 sample" if len(samples) == 1 else f"are only {len(samples)} samples"
    why = "" if chosen else "held_out = 0 asks for that" if held_out is not None else f"there {few}"
    apart = sorted(chosen)
    train = tuple(itertools.compress(samples, _all_but(apart, len(samples)))) if apart else samples
    return Split(train, tuple(samples[place] for place in apart), why)


def restored(manifest: Manifest, held_out: Collection[str]) -> Split:
    """Restore the split of a resumed run from its list of held-out samples.

    Raises:
        DataError: held-out samples are missing, or nothing is left to train on.
    """
    samples, apart = manifest.samples, set(held_out)
    gone = sorted(apart - set(samples))
    if gone:
        raise DataError(
            f"held-out samples of this run are no longer in its data: {listed(gone)}",
            remedy="Restore the samples, or start a new run in another output_dir.",
        )
    train = tuple(name for name in samples if name not in apart)
    if not train:
        raise DataError("all samples are held out, and none is left to train on", remedy="Restore the other samples.")
    return Split(train, tuple(sorted(held_out)), "" if held_out else "none were held out when this run began")


def origin_of(manifest: Manifest, name: str) -> str:
    """Return the raw file of a sample's video, or else of its audio or another role, or else the sample's own name."""
    roles = [role for role in MODALITIES if role in manifest.entries]
    roles += [role for role in sorted(manifest.entries) if role not in roles]
    return next((entry.origin for role in roles if (entry := manifest.entries[role].get(name)) and entry.origin), name)


def clips_of(manifest: Manifest, names: Iterable[str]) -> set[str]:
    """Return what identifies the videos and sounds of samples in every encoded set: the hashes of what they were made from."""
    entries = [manifest.entries[role] for role in MODALITIES if role in manifest.entries]
    return {each[name].fingerprint for name in names for each in entries if name in each} - {""}


def having_clips(manifest: Manifest, clips: Collection[str]) -> set[str]:
    """Return the names of the samples that have any of these videos and sounds (see `clips_of`)."""
    found: set[str] = set()
    for entries in (manifest.entries[role] for role in MODALITIES if clips and role in manifest.entries):
        found.update(name for name, own in zip(names_in(entries), fingerprints(entries), strict=True) if own in clips)
    return found


def _origin_hashes(manifest: Manifest) -> Array:
    """Return the hash of the origin of each sample (`origin_of`) as two numbers, `[N, 2]`, in the order of the names."""
    roles = [role for role in MODALITIES if role in manifest.entries]
    roles += [role for role in sorted(manifest.entries) if role not in roles]
    found, first = np.zeros((len(manifest.samples), 2), np.uint64), True
    for own in (manifest.entries[role] for role in roles):
        if not first and found.any(axis=1).all():
            break
        names, hashes = names_in(own), getattr(own, "origin_hashes", None)
        if hashes is None:
            hashes = hashes_in(b"".join(origin_hash(own[name].origin) for name in names))
        if len(names) == len(found):
            found = np.array(hashes) if first else np.where(found.any(axis=1, keepdims=True), found, hashes)
        else:
            places = np.fromiter(positions(names, manifest.samples), np.int64, len(found))
            rows = np.flatnonzero((places >= 0) & ~found.any(axis=1))
            found[rows] = hashes[places[rows]]
        first = False
    without = np.flatnonzero(~found.any(axis=1))
    if len(without):  # samples without an origin are their own
        found[without] = hashes_in(b"".join(origin_hash(manifest.samples[place]) for place in without.tolist()))
    return found


def _all_but(places: Iterable[int], size: int) -> Array:
    kept = np.ones(size, np.bool_)
    kept[list(places)] = False
    return kept


def _wanted(held_out: int | float | None, total: int) -> int:
    if held_out is None:
        return min(DEFAULT_MOST, max(1, round(DEFAULT_SHARE * total))) if total >= DEFAULT_FROM else 0
    if not held_out >= 0:
        raise ConfigError(f"held_out = {held_out} is negative", remedy="Use a number of samples, or a share below 1.")
    wanted = held_out if isinstance(held_out, int) else max(1, round(held_out * total)) if held_out else 0
    if wanted >= total or (isinstance(held_out, float) and held_out >= 1):
        raise ConfigError(
            f"held_out = {held_out} leaves nothing to train on: there {'is 1 sample' if total == 1 else f'are {total} samples'}",
            remedy="Hold out fewer, or name another dataset to hold out.",
        )
    return wanted
