"""Loading of micro-batches: files are read, checked against their entries, padded and stacked."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ltxcore.encoded.sample_names import find_sample
from ltxcore.encoded.store import damage, expect, read_stored, redo
from ltxcore.encoded.stored import Stored
from ltxcore.errors import DataError, Problem
from ltxcore.modalities.audio import AudioModality
from ltxcore.modalities.video import VideoModality
from ltxcore.protocols import Batch, Entry, Manifest, Source, StoredLatents, Text, connectors_in
from ltxcore.workers import READERS, in_order

RATES = {"video": VideoModality().default_rate, "audio": AudioModality().default_rate}
"""The frames per second assumed for video that states none, and the latent steps per second of audio."""


def load_batch(root: Path, sources: Mapping[str, Source], names: Sequence[str], roles: Collection[str], manifest: Manifest) -> Batch:
    """Read one micro-batch.

    Args:
        root: the data root.
        sources: the strategy's sources, by role.
        names: the names of samples of one shape in every role in `roles` (see `batches.plan`).
        roles: the roles to read: those that are not optional, and the optional ones that this micro-batch wants.
        manifest: the manifest that the run was planned with.

    Returns:
        Latents `[B, C, F, H, W]` or `[B, C, T, M]`, masks `[B, F, H, W]` or `[B, T]`, and text `[B, L, E]` that is
        padded with zeros on the left, all float32 on the CPU. Rates are in frames per second, 24 for video that states
        none, 25 latent steps per second for audio. The text is as stored: before the model's connectors, or after them,
        as `is_connected` says.

    Raises:
        DataError: files are unreadable, changed since they were listed, not finite, or not of one shape; all of them
            are named.
    """
    samples: dict[str, list[Stored]] = {}
    problems: list[Problem] = []
    for role in (each for each in sources if each in roles):
        for name in names:
            try:
                samples.setdefault(role, []).append(_read(Path(root), sources[role], name, manifest.entries[role][name]))
            except DataError as error:
                problems.extend(error.problems)
    if problems:
        raise DataError.of(problems)
    of_kind = {kind: {role: found for role, found in samples.items() if sources[role].kind == kind} for kind in ("latents", "mask", "text")}
    return Batch(
        names=tuple(names),
        latents={role: _latents(role, sources[role], found, names) for role, found in of_kind["latents"].items()},
        masks={role: _stack(role, [sample.tensors["mask"] for sample in found], names) for role, found in of_kind["mask"].items()},
        text=_text(next(iter(of_kind["text"].values()), []), names),
    )


def to_verify(names: Sequence[str], share: float, seed: int) -> tuple[str, ...]:
    """Choose the samples that a run reads in full before it begins: this share of all, but at least one unless the
    share is 0. The choice follows from seed and names alone.

    Args:
        names: the names of all samples.
        share: the share of them, from 0 to 1.
        seed: the run's seed.
    """
    count = math.ceil(share * len(names) - 1e-9)  # 0.07 of 100 is a little more than 7
    return tuple(sorted(sorted(names, key=lambda name: hashlib.sha256(repr((seed, name)).encode()).digest())[:count]))


def verify(root: Path, sources: Mapping[str, Source], names: Sequence[str], manifest: Manifest) -> int:
    """Read all files of some samples, and compare their bytes with the checksums in the manifest; without a checksum,
    compare their values with the entry.

    Returns:
        The number of files that were compared with a checksum.

    Raises:
        DataError: files are at fault; all of them are named.
    """

    def fault(source: Source, name: str, entry: Entry) -> tuple[Problem, ...]:
        if not entry.checksum:
            try:
                _read(Path(root), source, name, entry)
            except DataError as error:
                return error.problems
            return ()
        found = damage(find_sample(Path(root), source.folder, name), entry)
        return () if found is None else (found,)

    files = {
        (source.folder, name): (source, name, manifest.entries[role][name])
        for role, source in sources.items()
        for name in names
        if role in manifest.entries
    }
    problems = [problem for found in in_order(lambda each: fault(*each), files.values(), READERS) for problem in found]
    if problems:
        raise DataError.of(problems)
    return sum(bool(entry.checksum) for _, _, entry in files.values())


def _read(root: Path, source: Source, name: str, entry: Entry) -> Stored:
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


def _text(samples: Sequence[Stored], names: Sequence[str]) -> Text:
    """Stack text features, padded on the left with zeros, `[B, L, E]`, and make the mask that marks words, `[B, L]`
    float32.

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
    """Stack features `[l, E]`, each with its length L, into `[B, L, E]`, zeros first."""
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
        raise DataError(f'samples of different shapes are in one micro-batch, in the role "{role}": {described}')


def padded(features: Mapping[str, Tensor], length: int) -> Text:
    """Pad the features of a text `[l, E]` by modality to `[1, length, E]`, with zeros on the left, float32, and make
    the mask that marks its words.

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
