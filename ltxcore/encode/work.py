"""The work of encoding: captions first, then every sample's media, several samples at a time.

Several processes may share the work.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, closing
from functools import partial
from typing import TypeVar

import attrs
import torch

from ltxcore.dataset.rows import Sample
from ltxcore.encode.ledger import Ledger
from ltxcore.encode.outdated import as_made
from ltxcore.encode.products import RECIPES, Made, Product, Tools
from ltxcore.encode.sample_sizes import Planned, Rules
from ltxcore.engines.process import Place
from ltxcore.errors import DataError, LtxError, Problem
from ltxcore.protocols import Entry, TextEncoder
from ltxcore.workers import as_done

TEXT = "conditions"


@attrs.frozen
class Silence:
    """The seconds of silence in a sample's audio that its file does not hold."""

    where: str
    seconds: float


@attrs.frozen
class Outcome:
    """The outcome of encoding a sample.

    Attributes:
        problems: the reasons why it is refused; empty if it is complete.
        silence: the silence added at the end of its audio.
        holes: the silence in holes of its audio.
        since: the corrections in reading its files since it was encoded, for which it was encoded anew.
    """

    problems: tuple[Problem, ...] = ()
    silence: tuple[Silence, ...] = ()
    holes: tuple[Silence, ...] = ()
    since: tuple[str, ...] = ()


def encode_captions(
    samples: Sequence[Sample], ledger: Ledger, encoder: TextEncoder, batch_size: int, step: Callable[[], None]
) -> dict[str, Outcome]:
    """Encode all captions that are not up to date into text features, without padding.

    Args:
        samples: the samples of this process.
        ledger: the record of the folders.
        encoder: the model's text encoder.
        batch_size: the number of captions to encode at a time.
        step: a function that is called after each sample.

    Returns:
        The outcome of each sample, by name.
    """
    outcomes: dict[str, Outcome] = {}
    stale: list[tuple[Sample, Product]] = []
    for sample in samples:
        product = text_product(sample.caption, encoder.length, encoder.fingerprint)
        if ledger.is_fresh(product, sample.name):
            ledger.reuse(TEXT)
            outcomes[sample.name] = Outcome()
            step()
        else:
            stale.append((sample, product))
    for start in range(0, len(stale), batch_size):
        part = stale[start : start + batch_size]
        for (sample, product), features in zip(part, encoder.encode([sample.caption for sample, _ in part]), strict=True):
            outcomes[sample.name] = _write(ledger, sample, product, Made(features), encoder.length)
            step()
    return outcomes


def text_product(caption: str, length: int, encoder: str) -> Product:
    """Return the text features of a caption as a product, for its ingredients: padded to `length` when loaded, and made
    by the encoder with this fingerprint. The features themselves are made by `encode_captions`.
    """

    def refuse() -> Made:
        raise ValueError("captions are encoded several at a time")

    return Product(TEXT, {"caption": caption, "length": length}, encoder, refuse)


def encode_media(
    planned: Sequence[Planned],
    ledger: Ledger,
    rules: Rules,
    tools: Tools,
    workers: int,
    step: Callable[[], None],
    guard: Callable[[str], AbstractContextManager[None]],
) -> dict[str, Outcome]:
    """Encode all that is to be made from the samples' media and is not up to date.

    Args:
        planned: the samples of this process.
        ledger: the record of the folders.
        rules: the rules that they were planned by.
        tools: the codecs and the raw files.
        workers: the number of samples to decode at a time.
        step: a function that is called after each sample.
        guard: returns a context manager for the work on a sample; it turns errors that are not the sample's fault into
            explanatory ones.

    Returns:
        The outcome of each sample, by name.

    Raises:
        DataError: the folders cannot be written. What was done by then is kept.
    """
    outcomes: dict[str, Outcome] = {}
    # One thread per sample: on a CPU, several samples at a time are faster than several threads in each.
    work = partial(_encode_sample, ledger, rules, tools, guard)
    with closing(as_done(work, planned, workers, partial(torch.set_num_threads, 1))) as done:
        for each, found in done:
            if isinstance(found, LtxError):
                raise found
            outcomes[each.sample.name] = found
            step()
    return {each.sample.name: outcomes[each.sample.name] for each in planned}


def _encode_sample(
    ledger: Ledger, rules: Rules, tools: Tools, guard: Callable[[str], AbstractContextManager[None]], planned: Planned
) -> Outcome:
    folders = [folder for folder in RECIPES if folder in planned.folders]
    sample, current, silence, holes = planned.sample, dict[str, Entry](), list[Silence](), list[Silence]()
    if planned.without:
        for folder in folders:
            ledger.reuse(folder)
        return Outcome()
    before = as_made(sample, ledger.entries_of(sample.name), rules, tools)
    for folder in folders:
        try:
            product = RECIPES[folder](planned, tools, current)
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
            path = sample.media["reference_audio"] if folder == "reference_audio_latents" else sample.sound
            silence += [Silence(sample.at(path), made.silence)] if made.silence else []
            holes += [Silence(sample.at(path), made.holes)] if made.holes else []
    return Outcome(silence=tuple(silence), holes=tuple(holes), since=before.since if before else ())


def _write(ledger: Ledger, sample: Sample, product: Product, made: Made, length: int = 0) -> Outcome:
    """Write what was made, unless it is not finite. It is an error if the disk refuses it, since it would refuse the next sample too."""
    if not all(bool(tensor.isfinite().all()) for tensor in made.tensors.values()):
        what = f'its values in "{product.folder}" would not be finite'
        return Outcome((Problem(what, sample.where, "Check its files, and the weights of the VAE."),))
    ledger.write(product, sample.name, sample.origin, made, length)
    return Outcome()


def drop(ledger: Ledger, sample: Sample, folders: Collection[str]) -> None:
    """Remove what is left of a refused sample from some folders."""
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
        """Read the share from RANK and WORLD_SIZE, as a launcher such as torchrun sets them; without them this process
        does all.

        Raises:
            ConfigError: they are not numbers, or the rank is not below the size.
        """
        place = Place.of_environment()
        return cls(place.rank, place.world_size)

    def of(self, items: Sequence[T]) -> Sequence[T]:
        """Take every `world_size`-th item, from number `rank` on."""
        return items[self.rank :: self.world_size]
