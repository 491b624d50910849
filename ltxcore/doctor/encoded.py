"""An encoded set: its manifests by the rules that a run holds them to, and what conditions make of it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

import attrs
import torch

from ltxcore.doctor.findings import Checkup, Finding, errors, warning
from ltxcore.doctor.masks import one_value
from ltxcore.doctor.pictures import RATES_REMEDY, rates_told
from ltxcore.encode.cut_sounds import MARGIN
from ltxcore.encoded.manifest import survey_manifest
from ltxcore.encoded.sample_names import find_sample
from ltxcore.encoded.store import DAMAGED, damage, read_mask, read_recorded, redo
from ltxcore.errors import DataError, LtxError, Problem
from ltxcore.modalities.audio import AudioModality
from ltxcore.modalities.video import VideoModality
from ltxcore.progress import Phase
from ltxcore.protocols import Entry, Manifest, Source, Strategy
from ltxcore.workers import READERS, in_order

Placed = Callable[[Problem], Problem]
"""Puts a problem where the user knows it: a key of the strategy into the run file, or to the folder that it names."""


@attrs.frozen(eq=False)
class EncodedSet:
    """Samples that a strategy reads.

    Attributes:
        root: the data root.
        strategy: whose sources are read.
        placed: puts problems in their place.
        only: names of samples to look at; none: all.
    """

    root: Path
    strategy: Strategy
    placed: Placed
    only: Collection[str] | None = None


def at_folders(root: Path, sources: Mapping[str, Source]) -> Placed:
    """Problems of a set without a run file: at the folder that a key of the strategy names."""
    places: dict[str, str] = {}
    for source in sources.values():
        if source.where:
            places[source.where] = places[source.where.rpartition(".")[0]] = str(root / source.folder)

    def placed(problem: Problem) -> Problem:
        key = next((key for key in sorted(places, key=len, reverse=True) if problem.where.startswith(key)), None)
        return problem if key is None else attrs.evolve(problem, where=places[key] + problem.where.removeprefix(key))

    return placed


def examine_encoded(encoded: EncodedSet, checkup: Checkup, phase: Phase, deep: bool) -> Manifest | None:
    """Examine a set; none if a run would refuse it before it looks at what conditions make of it."""
    sources = encoded.strategy.sources()
    manifest, problems = survey_manifest(encoded.root, sources, only=encoded.only, remember=False)
    checkup.refuse("encoded", [encoded.placed(problem) for problem in problems])
    folders = sorted({source.folder for source in sources.values()})
    files = {(sources[role].folder, name): entry for role, entries in manifest.entries.items() for name, entry in entries.items()}
    how = "every value was read (--deep)" if deep else "known from their manifests, masks were read (--deep reads every value)"
    many = f"{len(files)} encoded file{'' if len(files) == 1 else 's'} in {', '.join(folders)}"
    checkup.say(f"{encoded.root}: {many}; {how}; {_compared(files)}.")
    checkup.add(_masks(encoded.root, sources, manifest, deep, phase))
    if deep:
        checkup.add(_read(encoded.root, files, phase))
    else:
        checkup.add(_damaged(encoded.root, files, phase))
    checkup.add(_rates(encoded.root, sources, manifest))
    checkup.add(_lengths(encoded.root, sources, manifest))
    if problems:
        checkup.say(f"{encoded.root}: what the conditions make of it was not tried, since a run would refuse it as it is.")
        return None
    try:
        encoded.strategy.check(manifest)
    except LtxError as error:
        checkup.refuse("conditions", [encoded.placed(problem) for problem in error.problems])
    return manifest


def _masks(root: Path, sources: Mapping[str, Source], manifest: Manifest, deep: bool, phase: Phase) -> Iterator[Finding]:
    masks = {
        (source.folder, name): entry
        for role, source in sources.items()
        if source.kind == "mask"
        for name, entry in manifest.entries.get(role, {}).items()
        if entry.kind in ("", "mask") and entry.finite
    }
    step = phase("masks", len(masks))
    for (folder, name), entry in masks.items():
        path = find_sample(root, folder, name)
        try:
            yield from one_value(str(path), read_mask(path))
        except DataError as error:  # changed since it was recorded
            if not deep and not entry.checksum:  # else it is told where all are read
                yield from errors("encoded", error.problems)
        step()


def _compared(files: Mapping[tuple[str, str], Entry]) -> str:
    """Which files' bytes are compared with their checksums, in words."""
    without = sum(not entry.checksum for entry in files.values())
    if without == len(files):
        return "none has a checksum, as files that were encoded by 0.1.0"
    rest = f"; the other {without}, encoded by 0.1.0, have none" if without else ""
    return f"the bytes of {'all' if not without else len(files) - without} were compared with their checksums{rest}"


def _damaged(root: Path, files: Mapping[tuple[str, str], Entry], phase: Phase) -> Iterator[Finding]:
    """Files whose bytes are not those that were written, of those that have a checksum."""
    known = [(find_sample(root, folder, name), entry) for (folder, name), entry in files.items() if entry.checksum]
    step = phase("encoded", len(known))
    for problem in in_order(lambda each: damage(*each), known, READERS):
        yield from errors("encoded", [] if problem is None else [problem])
        step()


def _read(root: Path, files: Mapping[tuple[str, str], Entry], phase: Phase) -> Iterator[Finding]:
    """Files that are not what their manifest says, though they have the size that it says."""
    step = phase("encoded", len(files))
    for (folder, name), entry in files.items():
        path = find_sample(root, folder, name)
        try:
            _, held = read_recorded(path)
        except DataError as error:
            yield from errors("encoded", error.problems)
        else:
            what = (
                "holds NaN or infinite values, and its manifest says that it does not"
                if entry.finite and not held.finite
                else f"has the shape {list(held.shape)}, and its manifest says {list(entry.shape)}"
                if held.shape != entry.shape
                else DAMAGED
                if entry.checksum and entry.checksum != held.checksum
                else ""
            )
            if what:
                yield from errors("encoded", [Problem(what, str(path), redo(path))])
        step()


def _rates(root: Path, sources: Mapping[str, Source], manifest: Manifest) -> Iterator[Finding]:
    by_rate: dict[float, list[str]] = {}
    for name, entry in manifest.entries.get("video", {}).items():
        if entry.rate is not None:
            near = next((rate for rate in by_rate if abs(entry.rate / rate - 1) <= 1e-3), entry.rate)
            by_rate.setdefault(near, []).append(name)
    found = rates_told(by_rate, "samples")
    if found:
        yield warning("different-rates", str(root / sources["video"].folder), found, RATES_REMEDY)


def _lengths(root: Path, sources: Mapping[str, Source], manifest: Manifest) -> Iterator[Finding]:
    """Sounds that are not as long as their pictures."""
    sounds, pictures = manifest.entries.get("audio", {}), manifest.entries.get("video", {})
    for name in (name for name in sounds if name in pictures):
        sound, picture = sounds[name], pictures[name]
        if (sound.kind, picture.kind) != ("latents", "latents") or picture.rate is None or len(picture.shape) != 4 or len(sound.shape) != 3:
            continue
        heard, seen = _seconds("audio", sound.shape, 1.0), _seconds("video", picture.shape, picture.rate)
        if abs(heard - seen) > MARGIN:
            yield warning(
                "sound-length",
                f"{root / sources['audio'].folder}: {name}",
                f"lasts {heard:.3f} s, its pictures {seen:.3f} s",
                "Encode both from one clip, or name a sound that is as long as the clip.",
            )


@functools.lru_cache(maxsize=1024)
def _seconds(modality: str, shape: tuple[int, ...], rate: float) -> float:
    """When the last cell of latents of this shape ends."""
    kind = VideoModality() if modality == "video" else AudioModality()
    return float(kind.positions(kind.grid_of(shape), torch.tensor([rate]))[0, 0].max())
