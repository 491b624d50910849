"""The largest micro-batch of a run, found from its manifests or from the size that its clips will have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import attrs
import torch

from ltxcore.alike import bytes_of
from ltxcore.codecs.official.text import LENGTH
from ltxcore.codecs.tiny_text import LENGTH as TINY_LENGTH
from ltxcore.columns import resolved
from ltxcore.config.run_file import RunFile
from ltxcore.dataset.columns import columns_of
from ltxcore.encode.buckets import Bucket, ReferenceFactors, parse_buckets
from ltxcore.encode.candidates import candidate_count
from ltxcore.encode.encoding import encoding_of
from ltxcore.encode.survey import Survey, glance
from ltxcore.encoded.batches import order_of
from ltxcore.encoded.manifest import read_manifest
from ltxcore.encoded.streams import absent_of, one_cell
from ltxcore.errors import ConfigError, LtxError, many
from ltxcore.media.info import MediaInfo
from ltxcore.models.base import Base
from ltxcore.objectives import without_objectives
from ltxcore.pictures import StoredPictures
from ltxcore.protocols import MODALITIES, Batch, Manifest, ModelInput, Source, StoredLatents, Text
from ltxcore.runs.checks import rows_of
from ltxcore.runs.data_sets import joined, sets_of
from ltxcore.runs.foreseen import MELS
from ltxcore.runs.objective_datasets import objective_datasets
from ltxcore.runs.passes import LargestDraws, load_of, stored_tokens, tokens_of
from ltxcore.runs.run_plan import Outline, encoded_so_far
from ltxcore.runs.setup import setting_of
from ltxcore.sample.cuts import samples_in, steps_of

RATE = 24.0
"""The assumed frames per second of clips that are not encoded yet, from which the length of their audio follows."""

SECONDS = 10.0
"""The assumed duration of a sound without video whose length is not known."""


@attrs.frozen
class Shapes:
    """The shapes of a micro-batch's samples.

    Attributes:
        roles: the shape of a stored sample, by role: `(C, F, H, W)` or `(C, T, M)` for latents, the grid of the target for masks, `(L,)`
            for text, any shape for values.
        rates: the frames per second of stored clips, by role.
        described: a description of the shapes in words: their origin and their size.
        tokens: the number of tokens of a sample.
        size: the size of the clips, if it is that of a bucket; None if the size is that of encoded data, or if there are no clips.
        rate: the frames per second of clips that are not encoded yet, from which the length of their audio follows.
        absent: the modalities that the samples lack. Their latents have a single cell, and their other roles have no shape.
    """

    roles: Mapping[str, tuple[int, ...]]
    rates: Mapping[str, float]
    described: str
    tokens: int
    size: Bucket | None = None
    rate: float = RATE
    absent: frozenset[str] = frozenset()

    def at_once(self, config: RunFile) -> int:
        """Return the number of samples of these shapes in a full micro-batch."""
        table = config.optimization
        return table.batch_size or max(1, (table.tokens_per_batch or 1) // self.tokens)

    def tokens_at_once(self, config: RunFile) -> int:
        """Return the number of tokens of a full micro-batch of these shapes."""
        return self.tokens * self.at_once(config)


def sets_here(found: Outline) -> dict[str, tuple[Outline, Manifest]]:
    """Return the samples of the run's data that are completely encoded on this machine, by the name of their set, together with the run
    as far as that set is concerned. A run without `[[data.sets]]` has one set, which is called "". Sets without such samples are left out.

    Raises:
        DataError: the data have faults; the error names all of them.
    """
    sets = sets_of(found) if found.config.data.is_said else ()
    manifests = ((each, encoded_of(each, each.config.data.dataset)) for each in sets)
    return {each.set: (each, manifest) for each, manifest in manifests if manifest is not None}


def all_samples(sets: Mapping[str, tuple[Outline, Manifest]]) -> Manifest | None:
    """Return all samples that `sets_here` finds; None if there are none."""
    return joined({name: (each.root, manifest) for name, (each, manifest) in sets.items()}) if sets else None


def encoded_of(found: Outline, dataset: Path | None) -> Manifest | None:
    """Return the samples of a dataset that are completely encoded in the run's root; None if there are none.

    Args:
        found: the outline of the run, or that of an objective's dataset.
        dataset: the dataset; None if all samples in the root count.

    Raises:
        DataError: the samples have faults; the error names all of them.
    """
    if not any((found.root / each.folder).is_dir() for each in found.strategy.sources().values()):
        return None
    only = encoded_so_far(found, dataset)
    manifest = read_manifest(found.root, found.strategy.sources(), only=only) if only != () else None
    return manifest if manifest is not None and manifest.samples else None


def glance_at_datasets(found: Outline, tell: Callable[[str], None], *, is_needed: bool) -> tuple[Survey, ...]:
    """Look at the headers of some media in each dataset of the run, and return what was found; the result is empty unless all datasets are
    on this machine and the run has video.

    Args:
        found: the run without its data.
        tell: a function that is called with a message before files are read.
        is_needed: whether faults of a dataset are raised, because the size of the clips is not known from elsewhere.

    Raises:
        DataError: a dataset cannot be used, or its clips have several sizes.
        ConfigError: options contradict each other.
    """
    sets = sets_of(found) if found.config.data.is_said and "video" in found.modalities else ()
    here = [(each, path) for each in sets if (path := each.config.data.dataset) is not None and path.exists()]
    if len(here) < len(sets):
        return ()
    try:
        return tuple(_glanced(each, path, tell, is_needed) for each, path in here)
    except LtxError:
        if is_needed:
            raise
        return ()


def _glanced(found: Outline, dataset: Path, tell: Callable[[str], None], is_needed: bool) -> Survey:
    tell(f"reading the headers of {dataset}")
    rows, _ = rows_of(found, dataset, found.root)
    encoding = encoding_of(rows, found.root, found.config.preprocessing, None, found.loaded.where)
    seen = glance(encoding, lambda name, steps: lambda: None)
    if is_needed and seen.sizeless is not None:
        raise seen.sizeless
    return seen


def _rate_of(seen: Iterable[Survey]) -> float | None:
    """Return the lowest frame rate among the clips in datasets, since it makes their audio the longest; None if no clip has a frame
    rate.
    """
    infos = [each.looked.infos.get(sample.media["video"]) for each in seen for sample in each.samples if "video" in sample.media]
    return min((float(info.rate) for info in infos if isinstance(info, MediaInfo) and info.rate), default=None)


def shapes_of(
    found: Outline, base: Base, bucket: str | None = None, encoded: Manifest | None = None, seen: Sequence[Survey] = ()
) -> Shapes:
    """Return the shapes of a run's largest micro-batch, for the given size or, without a size, for the data that are encoded on
    this machine, or else for those whose headers were read.

    Args:
        found: the run without its data.
        base: the model.
        bucket: the size of clips as `WxHxF`, instead of the size in the run file.
        encoded: the data that are encoded here; None if there are none.
        seen: the headers of the datasets, as `glance_at_datasets` finds them.

    Raises:
        ConfigError: the size of the clips is not known, or the codec does not support the size.
    """
    config = found.config
    said = bucket if bucket is not None else config.preprocessing.named_buckets
    where = "--bucket" if bucket is not None else found.loaded.where("preprocessing.resolution_buckets")
    if said is None and encoded is not None:
        return of_manifest(encoded, found)
    buckets = [bucket for each in seen for bucket in each.encoding.rules.buckets]
    if said is None and not buckets and "video" in found.modalities:
        raise ConfigError(
            "the size of the clips is unknown: it is not set, and there are neither encoded data nor clips here",
            where=found.loaded.where("preprocessing.resolution_buckets"),
            remedy='Give the size of the largest clip with --bucket 960x544x49 or with this key ("960x544x49"), or encode the data first.',
        )
    if said is not None:
        buckets = _buckets(said, base, where)
    rate = _rate_of(seen)
    sizes: list[Bucket | None] = [*buckets] if buckets else [None]
    return max((of_bucket(found, base, size, rate) for size in sizes), key=lambda each: each.tokens_at_once(config))


def shapes_of_datasets(found: Outline, own: Shapes) -> dict[str, Shapes]:
    """Return the shapes of the largest micro-batch of each objective's dataset, by the objective's name in metrics. If no samples of a
    dataset are encoded on this machine, the shapes are those of the run's own data.

    Raises:
        DataError: encoded samples have faults; the error names all of them.
    """
    shapes = {}
    for each in objective_datasets(found):
        manifest = encoded_of(each.outline, each.dataset)
        described = f"samples that are not encoded here, taken to be as large as {own.described}"
        unseen = attrs.evolve(own, described=described, tokens=tokens_of(own.roles, each.outline.strategy.sources()))
        shapes[each.label] = unseen if manifest is None else of_manifest(manifest, each.outline)
    return shapes


def _buckets(said: str, base: Base, where: str) -> list[Bucket]:
    buckets, problems = parse_buckets(said, base.info.video_scale, where)
    if problems:
        raise ConfigError.of(problems)
    return list(buckets)


def of_bucket(found: Outline, base: Base, size: Bucket | None, rate: float | None = None) -> Shapes:
    """Return the shapes of clips of one size and of their audio; if the size is None, those of audio alone, as long as `audio_durations`
    sets. If the frame rate of the clips is not known, it is taken to be `RATE`.
    """
    known, rate = rate is not None, RATE if rate is None else rate
    options = found.config.preprocessing
    scale, audio_scale = base.info.video_scale, base.info.audio_scale
    seconds = size.frames / Fraction(rate) if size is not None else Fraction(max(options.audio_durations, default=SECONDS))
    steps = steps_of(samples_in(seconds), audio_scale)
    target = {"video": () if size is None else size.cells(scale), "audio": (steps,)}
    columns = columns_of(options).by_folder
    unknown = ReferenceFactors(options.reference_downscale_factor, options.reference_temporal_scale_factor)

    def reference(folder: str) -> tuple[int, ...]:
        factors = ReferenceFactors.of_column(columns[folder]) if folder in columns else unknown
        return () if size is None else factors.of(size).cells(scale)

    length, candidates = text_length(base), 0 if size is None else candidate_count(options, size.frames)
    roles = {
        role: _expected(role, source, target, reference, base, length, candidates) for role, source in found.strategy.sources().items()
    }
    sound = f"{float(seconds):.1f} s of sound" if "audio" in found.modalities else ""
    picture = f"clips of {size}" if size is not None and "video" in found.modalities else ""
    assumed = f" at {rate:.4g} frames per second{', as the clips have' if known else ''}" if sound and picture else ""
    if size is None and not options.audio_durations:
        assumed = ", which is assumed; --bucket or preprocessing.audio_durations can set it"
    described = f"{' with '.join(filter(None, (picture, sound)))}{assumed}"
    tokens = tokens_of(roles, found.strategy.sources())
    return Shapes(roles, {role: rate for role, shape in roles.items() if len(shape) == 4}, described, tokens, size, rate)


def _expected(
    role: str,
    source: Source,
    target: Mapping[str, tuple[int, ...]],
    reference: Callable[[str], tuple[int, ...]],
    base: Base,
    length: int,
    candidates: int,
) -> tuple[int, ...]:
    """Return the shape that a source's samples will have; `reference` returns the cells of reference clips in a folder."""
    if source.kind == "text":
        return (length,)
    cells = target[source.modality]
    if source.kind == "mask":
        return cells
    if source.kind == "values":
        return resolved(source.shape or (), cells)
    if source.kind == "pictures":
        return (candidates, base.token_widths["video"], 1, *cells[1:])
    if source.modality == "audio":
        return (base.token_widths["audio"] // MELS, *cells, MELS)
    return (base.token_widths["video"], *(cells if role in MODALITIES else reference(source.folder)))


def text_length(base: Base) -> int:
    """Return the number of tokens of a prompt."""
    return TINY_LENGTH if base.info.generation == "tiny" else LENGTH


def of_manifest(manifest: Manifest, found: Outline) -> Shapes:
    """Return the shapes of the samples whose full micro-batch has the most tokens."""
    sources = found.strategy.sources()
    firsts = [portions[0].names[0] for portions in order_of(manifest, manifest.samples, 1, 0).shapes]
    shapes = {name: _of_sample(manifest, found, sources, name) for name in firsts}
    return shapes[max(firsts, key=lambda name: shapes[name].at_once(found.config) * load_of(manifest, sources, name))]


def _of_sample(manifest: Manifest, found: Outline, sources: Mapping[str, Source], name: str) -> Shapes:
    entries = {role: manifest.entries[role][name] for role in sources if name in manifest.entries[role]}
    rates = {role: entry.rate for role, entry in entries.items() if entry.rate is not None}
    described = f"{many(len(manifest.samples), 'encoded sample', 'encoded samples')}, the largest such as {name}"
    absent, widths = absent_of(manifest, name), found.base.token_widths
    roles = {role: entry.shape for role, entry in entries.items()}
    roles |= {each: one_cell(each, widths[each] // (MELS if each == "audio" else 1), MELS) for each in absent}
    return Shapes(roles, rates, described, stored_tokens(manifest, sources, name), absent=absent)


def stored_bytes(manifest: Manifest, found: Outline) -> int:
    """Return the size of encoded data on disk."""
    sources = found.strategy.sources()
    return sum({source.folder: bytes_of(manifest.entries[role]) for role, source in sources.items()}.values())


def _product(numbers: Sequence[int]) -> int:
    product = 1
    for number in numbers:
        product *= number
    return product


# ---- from shapes to the model's inputs


def inputs_of(found: Outline, base: Base, shapes: Shapes, batch_size: int) -> dict[str, ModelInput]:
    """Make the model's inputs on the CPU for a micro-batch of these shapes, with every reference that the run may append, and
    with latents and text that have no content.

    Raises:
        DataError: a condition cannot apply to samples of these shapes.
    """
    setting = setting_of(found.loaded, base.info)
    strategy = without_objectives(found.build(setting))
    latents, masks, tensors, pictures, length = {}, {}, {}, {}, text_length(base)
    for role, source in strategy.sources().items():
        if role not in shapes.roles:  # the samples lack the modality
            continue
        shape = shapes.roles[role]
        values = torch.zeros(1).expand(batch_size, *shape)
        if source.kind == "latents":
            rate = shapes.rates.get(role, setting.modalities[source.modality].default_rate)
            latents[role] = StoredLatents(values, torch.full((batch_size,), float(rate)))
        elif source.kind == "mask":  # with 0 and 1, since tokens that all have one value would share memory
            masks[role] = (torch.arange(_product(shape)) % 2).float().view(1, *shape).expand(batch_size, *shape)
        elif source.kind == "values":
            tensors[role] = values
        elif source.kind == "pictures":
            pictures[role] = StoredPictures(values, torch.zeros(batch_size, shape[0]))
        else:
            length = shape[0]
    features = {name: torch.zeros(1).expand(batch_size, length, width) for name, width in base.context_widths.items()}
    names = tuple(f"sample {number}" for number in range(batch_size))
    batch = Batch(names, latents, masks, Text(features, torch.ones(batch_size, length)), tensors, pictures, shapes.absent)
    return dict(strategy.prepare(batch, LargestDraws(batch_size)))
