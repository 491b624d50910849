"""Functions that load micro-batches: they read files, check them against their entries, and pad and stack the tensors."""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from ltxcore.connector_marks import connectors_in
from ltxcore.encoded.sample_names import find_sample
from ltxcore.encoded.store import damage, expect, read_stored, redo
from ltxcore.encoded.stored import Stored, each_caption
from ltxcore.encoded.streams import absent_of, placeholders
from ltxcore.errors import DataError, Problem
from ltxcore.members import place_of
from ltxcore.modalities.audio import AudioModality
from ltxcore.modalities.video import VideoModality
from ltxcore.pictures import StoredPictures
from ltxcore.protocols import Batch, Entry, Manifest, Source, StoredLatents, Text
from ltxcore.workers import READERS, in_order

RATES = {"video": VideoModality().default_rate, "audio": AudioModality().default_rate}
"""The frames per second that are assumed for video without a stated rate, and the latent steps per second of audio."""


def load_batch(
    root: Path,
    sources: Mapping[str, Source],
    names: Sequence[str],
    roles: Collection[str],
    manifest: Manifest,
    cells: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
) -> Batch:
    """Read one micro-batch.

    Args:
        root: the data root.
        sources: the strategy's sources, by role.
        names: the names of samples of one shape in every role in `roles` (see `batches.order_of`). Roles that they lack are not read.
        roles: the roles to read: all roles that are not optional, and the optional roles that this micro-batch wants.
        manifest: the manifest that the run was planned with.
        cells: the shapes of placeholders (`streams.placeholders`) for modalities that no sample of this manifest has.

    Returns:
        Latents `[B, C, F, H, W]` or `[B, C, T, M]`, masks `[B, F, H, W]` or `[B, T]`, pictures `[B, K, C, 1, H, W]`, values, and
        text `[B, L, E]`, padded with zeros on the left, all float32 on the CPU. Rates are frames per second of video, 24 if it states none, and
        latent steps per second of audio, 25. In place of the latents of a modality that the samples lack, there is a cell of zeros.
        The text is as stored: from before the model's connectors, or from after
        them if `is_connected` is true.

        If a sample has several captions, the text is the first.

    Raises:
        DataError: files are unreadable, changed since they were listed, not finite, or of different shapes; the message names all of
            them.
    """
    return _batch(_samples(root, sources, names, roles, manifest), sources, names, manifest, cells)


def load_sample(
    root: Path,
    sources: Mapping[str, Source],
    name: str,
    roles: Collection[str],
    manifest: Manifest,
    cells: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
) -> tuple[Batch, tuple[Text, ...]]:
    """Read one sample as `load_batch` does, and the text of each of its captions; there are no texts if no text is read.

    Raises:
        DataError: as in `load_batch`.
    """
    found = _samples(root, sources, [name], roles, manifest)
    texts = [_text([each], [name]) for role, (sample,) in found.items() if sources[role].kind == "text" for each in each_caption(sample)]
    return _batch(found, sources, [name], manifest, cells), tuple(texts)


def _samples(
    root: Path, sources: Mapping[str, Source], names: Sequence[str], roles: Collection[str], manifest: Manifest
) -> dict[str, list[Stored]]:
    samples: dict[str, list[Stored]] = {}
    problems: list[Problem] = []
    absent = absent_of(manifest, names[0])
    for role in (each for each in sources if each in roles and sources[each].modality not in absent):
        for name in names:
            try:
                samples.setdefault(role, []).append(
                    _read(*place_of(manifest.members, name, root), sources[role], manifest.entries[role][name])
                )
            except DataError as error:
                problems.extend(error.problems)
    if problems:
        raise DataError.of(problems)
    return samples


def _batch(
    samples: Mapping[str, list[Stored]],
    sources: Mapping[str, Source],
    names: Sequence[str],
    manifest: Manifest,
    cells: Mapping[str, tuple[int, ...]],
) -> Batch:
    absent = absent_of(manifest, names[0])
    of_kind = {
        kind: {role: found for role, found in samples.items() if sources[role].kind == kind}
        for kind in ("latents", "mask", "pictures", "values", "text")
    }
    return Batch(
        names=tuple(names),
        latents={
            **{role: _latents(role, sources[role], found, names) for role, found in of_kind["latents"].items()},
            **{name: _placeholder({**cells, **placeholders(manifest)}[name], name, len(names)) for name in absent},
        },
        masks={role: _stack(role, [sample.tensors["mask"] for sample in found], names) for role, found in of_kind["mask"].items()},
        text=_text([each_caption(sample)[0] for sample in next(iter(of_kind["text"].values()), [])], names),
        tensors={role: _stack(role, [sample.tensors["values"] for sample in found], names) for role, found in of_kind["values"].items()},
        pictures={role: _pictures(role, found, names) for role, found in of_kind["pictures"].items()},
        absent=absent,
    )


def to_verify(names: Sequence[str], share: float, seed: int) -> tuple[str, ...]:
    """Choose the samples that a run reads in full before it begins.

    These are the share of all samples that is requested, but at least one sample unless the share is 0. The choice depends on the seed and
    the names alone.

    Args:
        names: the names of all samples.
        share: the share of samples to choose, from 0 to 1.
        seed: the run's seed.
    """
    count = math.ceil(share * len(names) - 1e-9)  # in floating point, 0.07 of 100 is a little more than 7
    return tuple(sorted(heapq.nsmallest(count, names, key=lambda name: hashlib.sha256(repr((seed, name)).encode()).digest())))


def verify(root: Path, sources: Mapping[str, Source], names: Sequence[str], manifest: Manifest) -> int:
    """Read all files of the samples `names`, and compare their bytes with the checksums in the manifest. If there is no checksum, the
    values in the file are compared with the entry.

    Returns:
        The number of files that were compared with a checksum.

    Raises:
        DataError: files are at fault; the message names all of them.
    """

    def fault(source: Source, name: str, entry: Entry) -> tuple[Problem, ...]:
        if not entry.checksum:
            try:
                _read(*place_of(manifest.members, name, root), source, entry)
            except DataError as error:
                return error.problems
            return ()
        place, own = place_of(manifest.members, name, root)
        found = damage(find_sample(place, source.folder, own), entry)
        return () if found is None else (found,)

    files = {
        (source.folder, name): (source, name, manifest.entries[role][name])
        for role, source in sources.items()
        for name in names
        if name in manifest.entries.get(role, {})
    }
    problems = [problem for found in in_order(lambda each: fault(*each), files.values(), READERS) for problem in found]
    if problems:
        raise DataError.of(problems)
    return sum(bool(entry.checksum) for _, _, entry in files.values())


def _read(root: Path, name: str, source: Source, entry: Entry) -> Stored:
    """Read a sample, and check it against its entry."""
    path = find_sample(root, source.folder, name)
    sample, size = read_stored(path)
    expect(path, sample, source.kind, source.modality)
    found = sample.entry(size)
    told = {
        "size": (entry.bytes, size),
        "shape": (entry.shape, found.shape),
        "fingerprint": (entry.fingerprint, found.fingerprint),
        "rate": (entry.rate, found.rate),
    }
    for what, (before, now) in told.items():
        if before != now:
            raise DataError(
                f"has changed since it was listed: its {what} was {before} and is {now}",
                where=str(path),
                remedy="Run `ltx preprocess` again, and do not change the data while a run reads it.",
            )
    if not found.finite:
        raise DataError(f'the sample "{name}" holds NaN or infinite values', where=str(path), remedy=redo(path))
    return sample


def _latents(role: str, source: Source, samples: Sequence[Stored], names: Sequence[str]) -> StoredLatents:
    default = RATES[source.modality]
    rates = [default if sample.rate is None else sample.rate for sample in samples]
    return StoredLatents(_stack(role, [sample.tensors["latents"] for sample in samples], names), torch.tensor(rates, dtype=torch.float32))


def _placeholder(shape: tuple[int, ...], modality: str, size: int) -> StoredLatents:
    return StoredLatents(torch.zeros(size, *shape), torch.full((size,), float(RATES[modality])))


def _pictures(role: str, samples: Sequence[Stored], names: Sequence[str]) -> StoredPictures:
    latents, frames = (_stack(role, [sample.tensors[key] for sample in samples], names) for key in ("pictures", "frames"))
    return StoredPictures(latents, frames)


def _text(samples: Sequence[Stored], names: Sequence[str]) -> Text:
    """Pad text features on the left with zeros and stack them to `[B, L, E]`, and make the mask that marks words, `[B, L]` float32.

    Source: docs/explanation/arithmetic.md#padding-of-text
    """
    if not samples:
        return Text({}, torch.zeros(len(names), 0))
    shared = [key for key in samples[0].tensors if all(key in sample.tensors for sample in samples)]
    features = {key: _left_padded([(sample.tensors[key], sample.length) for sample in samples], names) for key in sorted(shared)}
    words = [(torch.ones(next(iter(sample.tensors.values())).shape[0], 1), sample.length) for sample in samples]
    is_connected = all(connectors_in(sample.encoder) for sample in samples)
    mask = _left_padded(words, names)[:, :, 0]
    return Text(features, mask, is_connected, is_whole=is_connected and bool(mask.all()))


def _left_padded(samples: Sequence[tuple[Tensor, int]], names: Sequence[str]) -> Tensor:
    """Pad features `[l, E]` on the left with zeros to their length L, and stack them to `[B, L, E]`."""
    _refuse_shapes("text", [(length, features.shape[1]) for features, length in samples], names)
    (first, length), *_ = samples
    padded = torch.zeros(len(samples), length, first.shape[1])
    for row, (features, _) in zip(padded, samples, strict=True):
        row[length - features.shape[0] :] = features
    return padded


def _stack(role: str, tensors: Sequence[Tensor], names: Sequence[str]) -> Tensor:
    _refuse_shapes(role, [tuple(tensor.shape) for tensor in tensors], names)
    return torch.stack([tensor.to(torch.float32) for tensor in tensors])


def _refuse_shapes(role: str, shapes: Sequence[tuple[int, ...]], names: Sequence[str]) -> None:
    by_shape = dict(zip(shapes, names, strict=True))
    if len(by_shape) > 1:
        described = ", ".join(f"{list(shape)} ({name})" for shape, name in by_shape.items())
        raise DataError(f'a micro-batch has samples of different shapes in the role "{role}": {described}')


def padded(features: Mapping[str, Tensor], length: int) -> Text:
    """Pad a text's features `[l, E]` for each modality with zeros on the left to `[1, length, E]` float32, and make the mask that marks
    words.

    Source: docs/explanation/arithmetic.md#padding-of-text
    """
    words = next(iter(features.values())).shape[0]
    found = {}
    for name, own in features.items():
        found[name] = torch.zeros(1, length, own.shape[1])
        found[name][0, length - words :] = own.to(torch.float32)
    mask = torch.zeros(1, length)
    mask[0, length - words :] = 1.0
    return Text(found, mask)
