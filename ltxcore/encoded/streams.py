"""Functions about samples that lack a modality: stills and silent clips have no audio, and sounds alone have no video.

In the encoded data, such a sample is in none of the folders of the modality that it lacks. In training, a placeholder of one cell takes the
place of that modality.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from ltxcore.errors import many
from ltxcore.protocols import MODALITIES, Manifest, Source


def may_lack(sources: Mapping[str, Source]) -> frozenset[frozenset[str]]:
    """Return, for each modality that samples may lack, all its folders."""
    folders: dict[str, set[str]] = {}
    for source in sources.values():
        if source.may_be_absent:
            folders.setdefault(source.modality, set()).add(source.folder)
    return frozenset(map(frozenset, folders.values()))


def lacked(name: str, held: Mapping[str, Collection[str]]) -> frozenset[str]:
    """Return the folders that a sample is not in; `held` are the samples of each folder."""
    return frozenset(folder for folder, names in held.items() if name not in names)


def absent_of(manifest: Manifest, name: str) -> frozenset[str]:
    """Return the modalities of a run that a sample lacks."""
    return frozenset(each for each in MODALITIES if each in manifest.entries and name not in manifest.entries[each])


def placeholders(manifest: Manifest) -> dict[str, tuple[int, ...]]:
    """Return the shape of one cell of each modality's latents, `(C, 1, 1, 1)` or `(C, 1, M)`, for the modalities that any sample has."""
    shapes = {each: next(iter(held.values())).shape for each in MODALITIES if (held := manifest.entries.get(each))}
    return {each: one_cell(each, shape[0], shape[-1]) for each, shape in shapes.items()}


def one_cell(modality: str, channels: int, bins: int) -> tuple[int, ...]:
    """Return the shape of latents of one cell."""
    return (channels, 1, 1, 1) if modality == "video" else (channels, 1, bins)


def streams_told(samples: Iterable[tuple[Collection[str], int]]) -> str:
    """Say how many samples have which modalities, given the modalities and their number of samples; "" if all have both."""
    counted = Counter[tuple[str, ...]]()
    for own, number in samples:
        counted[tuple(each for each in MODALITIES if each in own)] += number
    if counted.keys() <= {MODALITIES}:
        return ""
    both, *alone = (counted[own] for own in (MODALITIES, *((each,) for each in MODALITIES)))
    parts = [f"{number} {name} alone" for number, name in zip(alone, MODALITIES, strict=True) if number]
    return f"{many(both, 'sample has', 'samples have')} {' and '.join(MODALITIES)}, {' and '.join(parts)}"


def streams_in(manifest: Manifest) -> str:
    """Say how many samples of a run have which modalities; "" if all have those of the run."""
    if not manifest.entries.keys() >= {*MODALITIES}:
        return ""
    return streams_told((group.keys() & {*MODALITIES}, len(names)) for group, names in manifest.alike)
