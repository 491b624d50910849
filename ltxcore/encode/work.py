"""The work of encoding, which begins with the captions and goes on with the media of several samples at a time.

Several processes may share the work.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from functools import partial
from itertools import groupby
from typing import TypeVar

import attrs
import torch
from torch import Tensor

from ltxcore.dataset.rows import Sample
from ltxcore.encode.ledger import Ledger
from ltxcore.encode.outdated import as_made
from ltxcore.encode.pace import Pace
from ltxcore.encode.products import Made, Product, Tools, media_folders, product_of, sound_of
from ltxcore.encode.sample_sizes import Planned, Rules
from ltxcore.encoded.stored import of_captions
from ltxcore.engines.process import Place
from ltxcore.errors import DataError, LtxError, Problem
from ltxcore.protocols import Entry, TextEncoder
from ltxcore.workers import as_done

TEXT = "conditions"


@attrs.frozen
class Silence:
    """The place of an audio file, and the seconds of silence that were added to its audio."""

    where: str
    seconds: float


@attrs.frozen
class Outcome:
    """The outcome of encoding a sample.

    Attributes:
        problems: the reasons why the sample is refused; empty if it is complete.
        silence: the silence that was added at the end of audio.
        holes: the silence that fills holes in audio.
        since: the corrections in reading files for which the sample was encoded again.
    """

    problems: tuple[Problem, ...] = ()
    silence: tuple[Silence, ...] = ()
    holes: tuple[Silence, ...] = ()
    since: tuple[str, ...] = ()


def encode_captions(
    samples: Sequence[Sample], ledger: Ledger, encoder: TextEncoder, batch_size: int, step: Callable[[], None]
) -> dict[str, Outcome]:
    """Encode all captions that are not up to date, to text features without padding. If several samples have the same captions,
    these are encoded once.

    Args:
        samples: the samples of this process.
        ledger: the record of the folders.
        encoder: the model's text encoder.
        batch_size: the number of captions to encode at a time. A sample is written when all of its captions are encoded.
        step: a function that is called after each sample.

    Returns:
        The outcome of each sample, by name.
    """
    outcomes: dict[str, Outcome] = {}
    stale: dict[tuple[str, ...], list[tuple[Sample, Product]]] = {}
    for sample in samples:
        product = text_product(sample.captions, encoder.length, encoder.fingerprint)
        if ledger.is_fresh(product, sample.name):
            ledger.reuse(TEXT)
            outcomes[sample.name] = Outcome()
            step()
        else:
            stale.setdefault(sample.captions, []).append((sample, product))
    texts = [(captions, caption) for captions in stale for caption in captions]
    features: list[dict[str, Tensor]] = []
    pace = Pace("captions", len(texts), batch_size)
    for start in range(0, len(texts), batch_size):
        part = texts[start : start + batch_size]
        for (captions, _), found in zip(part, encoder.encode([caption for _, caption in part]), strict=True):
            features.append(found)
            if len(features) == len(captions):
                made = Made(of_captions(features))
                for sample, product in stale[captions]:
                    outcomes[sample.name] = _write(ledger, sample, product, made, encoder.length)
                    step()
                features = []
            pace.step()
    return {sample.name: outcomes[sample.name] for sample in samples}


def text_product(captions: Sequence[str], length: int, encoder: str) -> Product:
    """Return the product of a sample's captions, for its ingredients only: the text features themselves are made by `encode_captions`.

    `encoder` is the fingerprint of the text encoder, and the features are padded to `length` when they are loaded.
    """

    def refuse() -> Made:
        raise ValueError("captions are encoded several at a time")

    caption, *others = captions
    return Product(TEXT, {"caption": caption, "length": length, **({"others": others} if others else {})}, encoder, refuse)


def encode_media(
    planned: Sequence[Planned],
    ledger: Ledger,
    rules: Rules,
    tools: Tools,
    workers: int,
    step: Callable[[Planned], object],
    guard: Callable[[str], AbstractContextManager[None]],
) -> dict[str, Outcome]:
    """Encode the latents and masks of samples that are not up to date.

    Args:
        planned: the samples of this process.
        ledger: the record of the folders.
        rules: the rules that the samples were planned by.
        tools: the codecs and the raw files.
        workers: the number of samples to decode at a time.
        step: a function that is called with each sample that is done.
        guard: a function that returns a context manager for the work on a sample, which adds an explanation to errors that are not
            the sample's fault.

    Returns:
        The outcome of each sample, by name.

    Raises:
        DataError: the folders cannot be written; files that were written before are kept.
    """
    outcomes: dict[str, Outcome] = {}
    stopping = threading.Event()

    def work(windows: Sequence[Planned]) -> dict[str, Outcome]:
        made: dict[str, Outcome] = {}
        with tools.rolling() if len(windows) > 1 else nullcontext():
            for each in windows:
                if stopping.is_set():
                    break
                made[each.sample.name] = _encode_sample(ledger, rules, tools, guard, each)
                step(each)
        return made

    # The windows of a clip are made one after the other, so that its frames are decoded once.
    clips = [tuple(windows) for _, windows in groupby(planned, key=lambda each: each.sample.origin)]
    # Each sample gets one thread: on a CPU, several samples at a time are faster than several threads per sample.
    with closing(as_done(work, clips, workers, partial(torch.set_num_threads, 1))) as done:
        try:
            for _, found in done:
                if isinstance(found, LtxError):
                    raise found
                outcomes |= found
        finally:
            stopping.set()
    return {each.sample.name: outcomes[each.sample.name] for each in planned}


def _encode_sample(
    ledger: Ledger, rules: Rules, tools: Tools, guard: Callable[[str], AbstractContextManager[None]], planned: Planned
) -> Outcome:
    folders = [folder for folder in media_folders(tools.columns) if folder in planned.folders]
    sample, current, silence, holes = planned.sample, dict[str, Entry](), list[Silence](), list[Silence]()
    if planned.without:
        for folder in folders:
            ledger.reuse(folder)
        return Outcome()
    before = as_made(sample, ledger.entries_of(sample.name), rules, tools)
    for folder in folders:
        try:
            product = product_of(folder, planned, tools, current)
            if ledger.is_fresh(product, sample.name):
                ledger.reuse(folder)
                current[folder] = ledger.entries_of(sample.name)[folder]
                continue
            with guard(f'encoding "{folder}" of {sample.where}{f", of {planned.bucket}" if planned.bucket else ""}'):
                made = product.make()
        except DataError as error:
            outcome = Outcome(error.at(sample.where).problems)
        else:
            outcome = _write(ledger, sample, product, made)
        if outcome.problems:
            drop(ledger, sample, [other for other in folders if other not in current])
            return outcome
        current[folder] = ledger.entries_of(sample.name)[folder]
        if made.silence or made.holes:
            path = sound_of(tools.columns.by_folder[folder], sample)
            silence += [Silence(sample.at(path), made.silence)] if made.silence else []
            holes += [Silence(sample.at(path), made.holes)] if made.holes else []
    return Outcome(silence=tuple(silence), holes=tuple(holes), since=before.since if before else ())


def _write(ledger: Ledger, sample: Sample, product: Product, made: Made, length: int = 0) -> Outcome:
    """Write what was made if all its values are finite. A file that cannot be written is an error, since the next sample would fail too."""
    if not all(bool(tensor.isfinite().all()) for tensor in made.tensors.values()):
        what = f'the encoded values for "{product.folder}" are not finite'
        return Outcome((Problem(what, sample.where, "Check the files of this sample and the weights of the VAE."),))
    ledger.write(product, sample.name, sample.origin, made, length)
    return Outcome()


def drop(ledger: Ledger, sample: Sample, folders: Collection[str]) -> None:
    """Remove what is left of a refused sample from `folders`."""
    for folder in folders:
        ledger.drop(folder, sample.name)


T = TypeVar("T")


@attrs.frozen
class Share:
    """The part of the work that belongs to this process, number `rank` of `world_size`, counted from 0."""

    rank: int = 0
    world_size: int = 1

    def __str__(self) -> str:
        return f"process {self.rank} of {self.world_size}"

    @classmethod
    def of_environment(cls) -> Share:
        """Read the share from RANK and WORLD_SIZE, which a launcher such as torchrun sets; without them this process does all the work.

        Raises:
            ConfigError: RANK or WORLD_SIZE is not a number, or the rank is not below the size.
        """
        place = Place.of_environment()
        return cls(place.rank, place.world_size)

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """Take every `world_size`-th item, starting with number `rank`."""
        return items[self.rank :: self.world_size]
