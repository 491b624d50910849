"""The largest micro-batch of a run: from its manifests, or from the size that its clips will have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import attrs
import torch

from ltxcore.codecs.official.text import LENGTH
from ltxcore.codecs.tiny_text import LENGTH as TINY_LENGTH
from ltxcore.encode.buckets import Bucket, parse_buckets
from ltxcore.encoded.batches import order_of
from ltxcore.encoded.manifest import read_manifest
from ltxcore.errors import ConfigError
from ltxcore.models.base import Base
from ltxcore.protocols import MODALITIES, Batch, Manifest, ModelInput, Source, StoredLatents, Text
from ltxcore.runs.passes import LargestDraws, stored_tokens
from ltxcore.runs.run_plan import Outline, encoded_so_far
from ltxcore.runs.setup import setting_of
from ltxcore.sample.cuts import samples_in, steps_of

RATE = 24.0
"""The assumed frames per second of clips that are not encoded yet, which determine how long their audio is."""

SECONDS = 10.0
"""The assumed duration of a sound without video whose length is not known."""


@attrs.frozen
class Shapes:
    """The shapes of a micro-batch's samples.

    Attributes:
        roles: the shape of a stored sample, by role: `(C, F, H, W)` or `(C, T, M)` for latents, the grid of the target for masks,
            `(L,)` for text.
        rates: the frames per second of stored clips, by role.
        described: a description in words: where the shapes come from, and how large they are.
        size: the size of the clips, if it was given; None if it is known from the data, or if there are no clips.
    """

    roles: Mapping[str, tuple[int, ...]]
    rates: Mapping[str, float]
    described: str
    size: Bucket | None = None


def encoded_here(found: Outline) -> Manifest | None:
    """Return the samples of the run's data that are completely encoded on this machine; None if there are none.

    Raises:
        DataError: for everything that is wrong with the data.
    """
    data = found.config.data
    if not data.is_said or not any((found.root / each.folder).is_dir() for each in found.strategy.sources().values()):
        return None
    only = encoded_so_far(found)
    manifest = read_manifest(found.root, found.strategy.sources(), only=only) if only != () else None
    return manifest if manifest is not None and manifest.samples else None


def shapes_of(found: Outline, base: Base, bucket: str | None = None, encoded: Manifest | None = None) -> Shapes:
    """Return the shapes of a run's largest micro-batch: for the size that is given, else for the data that are encoded
    on this machine.

    Args:
        found: the run without its data.
        base: the model.
        bucket: the size of clips as `WxHxF`, in place of that in the run file.
        encoded: the data, as `encoded_here` finds them.

    Raises:
        ConfigError: the size of the clips is not known, or the codec does not support the size.
    """
    config = found.config
    said = bucket if bucket is not None else config.preprocessing.resolution_buckets
    where = "--bucket" if bucket is not None else found.loaded.where("preprocessing.resolution_buckets")
    if said is None and encoded is not None:
        return of_manifest(encoded, found)
    if said is None and "video" in found.modalities:
        raise ConfigError(
            "the size of the clips is unknown: it is not set, and there are no encoded data here",
            where=found.loaded.where("preprocessing.resolution_buckets"),
            remedy='Give the size of the largest clip: --bucket 960x544x49; or set this key, such as to "960x544x49"; or encode the data first.',
        )
    size = None if said is None else _largest(said, base, where)
    return of_bucket(found, base, size)


def _largest(said: str, base: Base, where: str) -> Bucket:
    buckets, problems = parse_buckets(said, base.info.video_scale, where)
    if problems:
        raise ConfigError.of(problems)
    return max(buckets, key=lambda each: _product(each.cells(base.info.video_scale)))


def of_bucket(found: Outline, base: Base, size: Bucket | None) -> Shapes:
    """Return the shapes of clips of one size and of their audio; with None, of audio alone, as long as `audio_durations` says."""
    options = found.config.preprocessing
    scale, audio_scale = base.info.video_scale, base.info.audio_scale
    seconds = size.frames / Fraction(RATE) if size is not None else Fraction(max(options.audio_durations, default=SECONDS))
    steps = steps_of(samples_in(seconds), audio_scale)
    target = {"video": () if size is None else size.cells(scale), "audio": (steps,)}
    smaller: tuple[int, ...] = ()
    if size is not None:
        down, slower = options.reference_downscale_factor, options.reference_temporal_scale_factor
        smaller = Bucket(size.width // down, size.height // down, (size.frames - 1) // slower + 1).cells(scale)
    roles = {role: _expected(role, source, target, smaller, base, _text_length(base)) for role, source in found.strategy.sources().items()}
    sound = f"{float(seconds):.1f} s of sound" if "audio" in found.modalities else ""
    picture = f"clips of {size}" if size is not None and "video" in found.modalities else ""
    assumed = f" at {RATE:g} frames per second" if sound and picture else ""
    if size is None and not options.audio_durations:
        assumed = ", which is assumed; --bucket or preprocessing.audio_durations can set it"
    described = f"{' with '.join(filter(None, (picture, sound)))}{assumed}"
    return Shapes(roles, {role: RATE for role, shape in roles.items() if len(shape) == 4}, described, size)


def _expected(
    role: str, source: Source, target: Mapping[str, tuple[int, ...]], smaller: tuple[int, ...], base: Base, length: int
) -> tuple[int, ...]:
    """Return the shape that a source's samples will have."""
    if source.kind == "text":
        return (length,)
    cells = target[source.modality]
    if source.kind == "mask":
        return cells
    if source.modality == "audio":
        bins = 16
        return (base.token_widths["audio"] // bins, *cells, bins)
    return (base.token_widths["video"], *(cells if role in MODALITIES else smaller))


def _text_length(base: Base) -> int:
    return TINY_LENGTH if base.info.generation == "tiny" else LENGTH


def of_manifest(manifest: Manifest, found: Outline) -> Shapes:
    """Return the shapes of the sample with the most tokens."""
    names = manifest.samples
    groups = order_of(manifest, names, 1, 0).shapes
    sources = found.strategy.sources()
    name = max((group[0] for group in groups), key=lambda each: stored_tokens(manifest, sources, each))
    entries = {role: manifest.entries[role][name] for role in sources}
    rates = {role: entry.rate for role, entry in entries.items() if entry.rate is not None}
    described = f"{len(names)} encoded samples, the largest such as {name}"
    return Shapes({role: entry.shape for role, entry in entries.items()}, rates, described)


def stored_bytes(manifest: Manifest, found: Outline) -> int:
    """Return the size of encoded data on disk."""
    sources = found.strategy.sources()
    return sum({source.folder: sum(entry.bytes for entry in manifest.entries[role].values()) for role, source in sources.items()}.values())


def _product(numbers: Sequence[int]) -> int:
    product = 1
    for number in numbers:
        product *= number
    return product


# ---- from shapes to the model's inputs


def inputs_of(found: Outline, base: Base, shapes: Shapes, batch_size: int) -> dict[str, ModelInput]:
    """Make the model's inputs for a micro-batch of these shapes, with every reference that the run may append; they are
    on the CPU, and latents and text have no content.

    Raises:
        DataError: a condition cannot apply to samples of these shapes.
    """
    setting = setting_of(found.loaded, base.info)
    strategy = found.build(setting)
    latents, masks, length = {}, {}, _text_length(base)
    for role, source in strategy.sources().items():
        shape = shapes.roles[role]
        values = torch.zeros(1).expand(batch_size, *shape)
        if source.kind == "latents":
            rate = shapes.rates.get(role, setting.modalities[source.modality].default_rate)
            latents[role] = StoredLatents(values, torch.full((batch_size,), float(rate)))
        elif source.kind == "mask":  # of two values, since tokens of one share what they take
            masks[role] = (torch.arange(_product(shape)) % 2).float().view(1, *shape).expand(batch_size, *shape)
        else:
            length = shape[0]
    features = {name: torch.zeros(1).expand(batch_size, length, width) for name, width in base.context_widths.items()}
    names = tuple(f"sample {number}" for number in range(batch_size))
    batch = Batch(names, latents, masks, Text(features, torch.ones(batch_size, length)))
    return dict(strategy.prepare(batch, LargestDraws(batch_size)))
