"""Functions that load micro-batches: they read files, check them against their entries, and join the tensors as they are stored."""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import attrs
import torch
from torch import Tensor

from ltxcore.connector_marks import connectors_in
from ltxcore.encoded.rows import Wanted, in_rows, joined_rows
from ltxcore.encoded.sample_names import find_sample
from ltxcore.encoded.store import damage, read_listed
from ltxcore.encoded.stored import Stored, each_caption
from ltxcore.encoded.streams import absent_of, placeholders
from ltxcore.errors import DataError, Problem
from ltxcore.members import place_of
from ltxcore.modalities.audio import AudioModality
from ltxcore.modalities.video import VideoModality
from ltxcore.pictures import StoredPictures
from ltxcore.protocols import Batch, Entry, Manifest, Source, StoredLatents, StoredText, Text
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
        Latents `[B, C, F, H, W]` or `[B, C, T, M]`, masks `[B, F, H, W]` or `[B, T]`, pictures `[B, K, C, 1, H, W]`, values, and the stored
        text, all on the CPU and in the stored dtype. Rates are frames per second of video, 24 if it states none, and
        latent steps per second of audio, 25. In place of the latents of a modality that the samples lack, there is a cell of zeros.
        The text is from before the model's connectors, or from after them if `is_connected` is true.

        If a sample has several captions, the text is the first.

    Raises:
        DataError: files are unreadable, changed since they were listed, or of different shapes; the message names all of them.
    """
    return joined([batch for batch, _ in load_samples(root, sources, names, roles, manifest, cells)])


def load_samples(
    root: Path,
    sources: Mapping[str, Source],
    names: Sequence[str],
    roles: Collection[str],
    manifest: Manifest,
    cells: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
    check: Collection[str] = (),
) -> list[tuple[Batch, tuple[StoredText, ...]]]:
    """Read samples as `load_batch` does, but do not join them. Each comes with the text of each of its captions; there are no texts if no
    text is read. Several samples share memory, as far as they can, so that `joined` need not copy them (`rows`).

    Of the samples that `check` names, all bytes are compared with the checksums in the manifest (`store.read_listed`).

    Raises:
        DataError: as in `load_batch`; or files are damaged.
    """
    absent = [absent_of(manifest, name) for name in names]
    places = [place_of(manifest.members, name, root) for name in names]
    found: list[dict[str, Stored]] = [{} for _ in names]
    problems: list[list[Problem]] = [[] for _ in names]
    for role, source in sources.items():
        if role not in roles:
            continue
        having = [index for index, lacks in enumerate(absent) if source.modality not in lacks]
        wanted = []
        for index in having:
            path = find_sample(places[index][0], source.folder, places[index][1])
            wanted.append(Wanted(path, places[index][1], manifest.entries[role][names[index]], names[index] in check))
        for index, sample in zip(having, in_rows(source, wanted), strict=True):
            if isinstance(sample, DataError):
                problems[index].extend(sample.problems)
            else:
                found[index][role] = sample
    if any(problems):
        raise DataError.of([problem for each in problems for problem in each])
    return [
        _of_sample(name, own, lacks, {**cells, **placeholders(manifest)} if lacks else {})
        for name, own, lacks in zip(names, found, absent, strict=True)
    ]


def _of_sample(
    name: str, found: Mapping[str, Stored], absent: frozenset[str], cells: Mapping[str, tuple[int, ...]]
) -> tuple[Batch, tuple[StoredText, ...]]:
    texts = next((tuple(map(_text, each_caption(sample))) for sample in found.values() if sample.kind == "text"), ())
    latents = {role: _latents(sample) for role, sample in found.items() if sample.kind == "latents"}
    batch = Batch(
        names=(name,),
        latents={**latents, **{each: _placeholder(cells[each], each) for each in absent}},
        masks={role: sample.tensors["mask"].unsqueeze(0) for role, sample in found.items() if sample.kind == "mask"},
        text=Text({}, torch.zeros(1, 0)),
        tensors={role: sample.tensors["values"].unsqueeze(0) for role, sample in found.items() if sample.kind == "values"},
        pictures={role: _pictures(sample) for role, sample in found.items() if sample.kind == "pictures"},
        absent=absent,
        stored_text=texts[0] if texts else None,
    )
    return batch, texts


def joined(batches: Sequence[Batch]) -> Batch:
    """Join several batches of the same shapes into one.

    Raises:
        DataError: the shapes differ; the message names the role and a sample of each shape.
    """
    if len(batches) == 1:
        return batches[0]
    first = batches[0]

    def stacked(role: str, tensors: list[Tensor]) -> Tensor:
        shapes = {tuple(tensor.shape[1:]): batch.names[0] for tensor, batch in zip(tensors, batches, strict=True)}
        if len(shapes) > 1:
            raise _different(role, shapes)
        return joined_rows(tensors)

    def latents(role: str) -> StoredLatents:
        own = [batch.latents[role] for batch in batches]
        return StoredLatents(stacked(role, [each.latents for each in own]), torch.cat([each.rate for each in own]))

    def pictures(role: str) -> StoredPictures:
        own = [batch.pictures[role] for batch in batches]
        return StoredPictures(stacked(role, [each.latents for each in own]), stacked(role, [each.frames for each in own]))

    return Batch(
        names=tuple(name for batch in batches for name in batch.names),
        latents={role: latents(role) for role in first.latents},
        masks={role: stacked(role, [batch.masks[role] for batch in batches]) for role in first.masks},
        text=Text({}, torch.zeros(sum(len(batch.names) for batch in batches), 0)),
        tensors={role: stacked(role, [batch.tensors[role] for batch in batches]) for role in first.tensors},
        pictures={role: pictures(role) for role in first.pictures},
        absent=first.absent,
        stored_text=_joined_text([(batch.names[0], batch.stored_text) for batch in batches if batch.stored_text is not None]),
    )


def _joined_text(named: Sequence[tuple[str, StoredText]]) -> StoredText | None:
    """Join the texts of samples, each with the sample's name; a sample may come several times. Modalities that any sample lacks are left
    out.
    """
    if not named:
        return None
    texts = [text for _, text in named]
    shared = [each for each in texts[0].features if all(each in text.features for text in texts)]
    for modality in shared:
        shapes: dict[tuple[int, ...], str] = {(text.length, text.features[modality].shape[1]): name for name, text in named}
        if len(shapes) > 1:
            raise _different("text", shapes)
    return StoredText(
        {modality: joined_rows([text.features[modality] for text in texts]) for modality in shared},
        tuple(words for text in texts for words in text.words),
        texts[0].length,
        all(text.is_connected for text in texts),
    )


def _different(role: str, shapes: Mapping[tuple[int, ...], str]) -> DataError:
    described = ", ".join(f"{list(shape)} ({name})" for shape, name in shapes.items())
    return DataError(f'a micro-batch has samples of different shapes in the role "{role}": {described}')


def padded_text(batch: Batch, device: torch.device | str = "cpu") -> Text:
    """Return the text features of a micro-batch, padded on a device."""
    return batch.text if batch.stored_text is None else batch.stored_text.padded(device)


def as_taken(batch: Batch, text: Text | None = None) -> Batch:
    """Return a micro-batch as strategies take it: the same numbers in float32, with text that has passed through the connectors. By default,
    the text is the stored text, padded.
    """
    return attrs.evolve(
        batch,
        latents={role: StoredLatents(each.latents.float(), each.rate) for role, each in batch.latents.items()},
        masks={role: each.float() for role, each in batch.masks.items()},
        text=padded_text(batch) if text is None else text,
        tensors={role: each.float() for role, each in batch.tensors.items()},
        pictures={role: StoredPictures(each.latents.float(), each.frames.float()) for role, each in batch.pictures.items()},
        stored_text=None,
    )


def to_verify(names: Sequence[str], share: float, seed: int) -> tuple[str, ...]:
    """Choose the samples that a run reads in full before it begins.

    Their number is the requested share of all samples, but at least one unless the share is 0. The choice depends on the seed and
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
                _read(*place_of(manifest.members, name, root), source, entry, check=True)
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


def _read(root: Path, name: str, source: Source, entry: Entry, check: bool) -> Stored:
    return read_listed(find_sample(root, source.folder, name), name, source, entry, check)


def _latents(sample: Stored) -> StoredLatents:
    rate = RATES[sample.modality] if sample.rate is None else sample.rate
    return StoredLatents(sample.tensors["latents"].unsqueeze(0), torch.full((1,), rate, dtype=torch.float32))


def _pictures(sample: Stored) -> StoredPictures:
    return StoredPictures(sample.tensors["pictures"].unsqueeze(0), sample.tensors["frames"].unsqueeze(0))


def _placeholder(shape: tuple[int, ...], modality: str) -> StoredLatents:
    return StoredLatents(torch.zeros(1, *shape), torch.full((1,), float(RATES[modality])))


def _text(sample: Stored) -> StoredText:
    words = next(iter(sample.tensors.values())).shape[0]
    return StoredText(dict(sorted(sample.tensors.items())), (words,), sample.length, bool(connectors_in(sample.encoder)))


def padded(features: Mapping[str, Tensor], length: int) -> Text:
    """Pad a text's features `[l, E]` for each modality with zeros on the left to `[1, length, E]` float32, and make the mask that marks
    words.

    Source: docs/explanation/arithmetic.md#padding-of-text
    """
    return StoredText(features, (len(next(iter(features.values()))),), length).padded()
