"""Check an encoded set: check its manifests by the rules of a run, and apply the run's conditions to the samples."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ltxcore.api import DataError, Entry, Manifest
from ltxplugins.tools.doctor.findings import Checkup, Finding, Phase, errors, warning
from ltxplugins.tools.doctor.masks import one_value
from ltxplugins.tools.doctor.pictures import RATES_REMEDY, rates_told

if TYPE_CHECKING:
    from ltxcore.api.encoded import StrategyData


def examine_encoded(encoded: StrategyData, checkup: Checkup, phase: Phase, deep: bool, most: int | None = None) -> Manifest | None:
    """Examine an encoded set, and return its manifest; None if a run would refuse the set before it applies conditions.

    Args:
        encoded: the set.
        checkup: the checkup that collects the findings.
        phase: the function that shows progress.
        deep: whether to look at every value of the files that are read.
        most: the maximum number of samples of which files are read; None for all.
    """
    sources = encoded.sources
    manifest, problems = encoded.manifest()
    checkup.refuse("encoded", problems)
    folders = sorted({source.folder for source in sources.values()})
    entries = {sources[role].folder: own for role, own in manifest.entries.items()}
    chosen = _spread(manifest.samples, most)
    files = {folder: own if chosen is None else _among(own, chosen) for folder, own in entries.items()}
    total, without = sum(map(len, files.values())), sum(not entry.checksum for own in files.values() for entry in own.values())
    how = "every value was read (--deep)" if deep else "known from their manifests, masks were read (--deep reads every value)"
    every = sum(map(len, entries.values()))
    many = f"{every} encoded file{'' if every == 1 else 's'} in {', '.join(folders)}"
    part = "" if chosen is None else f"only the {total} files of {len(chosen)} of {len(manifest.samples)} samples were read (--samples): "
    checkup.say(f"{encoded.root}: {many}; {how}; {part}{_compared(total, without)}.")
    if told := encoded.streams(manifest):
        checkup.say(f"{encoded.root}: {told}.")
    checkup.add(_masks(encoded, manifest, deep, phase, chosen))
    looked = (((folder, name), entry) for folder, own in files.items() for name, entry in own.items() if deep or entry.checksum)
    step = phase("encoded", total if deep else total - without)
    checkup.add(errors("encoded", encoded.wrong(looked, step) if deep else encoded.damaged(looked, step)))
    checkup.add(_rates(encoded, manifest))
    checkup.add(_lengths(encoded, manifest))
    if problems:
        checkup.say(f"{encoded.root}: the conditions were not tried, because a run would refuse this set.")
        return None
    checkup.refuse("conditions", encoded.refusals(manifest))
    return manifest


def _spread(names: Sequence[str], most: int | None) -> frozenset[str] | None:
    """Choose at most so many names, always the same ones, at equal distances; None if that is all of them."""
    return None if most is None or most >= len(names) else frozenset(names[number * len(names) // most] for number in range(most))


def _among(entries: Mapping[str, Entry], names: Collection[str]) -> dict[str, Entry]:
    return {name: entries[name] for name in sorted(names) if name in entries}


def _masks(encoded: StrategyData, manifest: Manifest, deep: bool, phase: Phase, chosen: Collection[str] | None) -> Iterator[Finding]:
    masks = {
        (source.folder, name): entry
        for role, source in encoded.sources.items()
        if source.kind == "mask"
        for name, entry in (manifest.entries.get(role, {}) if chosen is None else _among(manifest.entries.get(role, {}), chosen)).items()
        if entry.kind in ("", "mask") and entry.finite
    }
    step = phase("masks", len(masks))
    for (folder, name), entry in masks.items():
        try:
            yield from one_value(str(encoded.path(folder, name)), encoded.mask(folder, name))
        except DataError as error:  # the file has changed since it was recorded
            if not deep and not entry.checksum:  # otherwise it is reported when all files are read
                yield from errors("encoded", error.problems)
        step()


def _compared(total: int, without: int) -> str:
    """Say which files were compared with their checksums, given the number of all files and of those without one."""
    if without == total:
        return "none has a checksum, as is the case for files encoded by 0.1.0"
    rest = f"; the other {without}, encoded by 0.1.0, have none" if without else ""
    return f"the bytes of {'all' if not without else total - without} were compared with their checksums{rest}"


def _rates(encoded: StrategyData, manifest: Manifest) -> Iterator[Finding]:
    clips = manifest.entries.get("video", {})
    told = rates_told([(name, entry.rate) for name, entry in clips.items() if entry.rate is not None], "samples")
    if told:
        yield warning("different-rates", str(encoded.root / encoded.sources["video"].folder), told, RATES_REMEDY)


def _lengths(encoded: StrategyData, manifest: Manifest) -> Iterator[Finding]:
    """Find audio that is longer or shorter than its video."""
    from ltxcore.api.dataset import SOUND_MARGIN

    sounds, pictures = manifest.entries.get("audio", {}), manifest.entries.get("video", {})
    for name in (name for name in sounds if name in pictures):
        heard, seen = encoded.seconds(sounds[name]), encoded.seconds(pictures[name])
        if heard is not None and seen is not None and abs(heard - seen) > SOUND_MARGIN:
            yield warning(
                "sound-length",
                f"{encoded.root / encoded.sources['audio'].folder}: {name}",
                f"lasts {heard:.3f} s, but its video lasts {seen:.3f} s",
                "Encode both from the same clip, or name a sound that is as long as the clip.",
            )
