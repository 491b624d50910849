"""The work of encoding, which begins with the captions and goes on with the media of several samples at a time.

Several processes may share the work.
"""

from __future__ import annotations

import json
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
from ltxcore.encode.leases import Leases
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


@attrs.frozen(eq=False)
class CaptionWork:
    """The work on the captions of a dataset, which become text features without padding.

    Captions are encoded in batches, each leased as a whole. Which captions are in a batch depends on the dataset alone, not on what is up to
    date or on which process does the work, since the features of captions that are encoded together depend on each other by rounding.

    Attributes:
        ledger: the record of the folders.
        encoder: the model's text encoder.
        batch_size: the number of captions to encode at a time.
        step: a function that is called with the name of each sample that is done, sometimes more than once.
        leases: this process as one of those that encode these samples.
    """

    ledger: Ledger
    encoder: TextEncoder
    batch_size: int
    step: Callable[[str], object]
    leases: Leases

    def encode(
        self, samples: Sequence[Sample], order: Callable[[Sequence[Batch]], Sequence[Batch]] = list, done: Collection[str] = ()
    ) -> dict[str, Outcome]:
        """Encode the captions that are not up to date. If several samples have the same captions, these are encoded once.

        Args:
            samples: all samples of the dataset.
            order: a function that returns batches in the order in which this process works on them.
            done: the names of samples that have been encoded already.

        Returns:
            The outcome of each sample, by name, without those in `done` and those that another process encodes at present.
        """
        outcomes: dict[str, Outcome] = {}
        left: dict[tuple[str, ...], list[tuple[Sample, Product]]] = {}
        for sample in samples:
            pair = (sample, text_product(sample.captions, self.encoder.length, self.encoder.fingerprint))
            left.setdefault(sample.captions, []).extend([] if sample.name in done else self._stale([pair], outcomes))
        names = {sample.name for pairs in left.values() for sample, _ in pairs}
        batches = [batch for batch in batches_of(left, self.batch_size) if any(left[captions] for captions in batch)]
        pace = Pace("captions", sum(len(captions) for batch in batches for captions in batch), self.batch_size)
        for batch in order(batches):
            left.update({captions: self._stale(left[captions], outcomes) for captions in batch})
            lease = self.leases.take(f"{TEXT} {json.dumps(batch)}") if any(left[captions] for captions in batch) else None
            with lease or nullcontext():
                if lease is not None:
                    for folder, name in self.ledger.catch_up():
                        if folder == TEXT and name in names:
                            self.step(name)
                    left.update({captions: self._stale(left[captions], outcomes) for captions in batch})
                    if any(left[captions] for captions in batch):
                        self._encode(batch, left, outcomes)
            for _ in range(sum(map(len, batch))):
                pace.step()
        return {sample.name: outcomes[sample.name] for sample in samples if sample.name in outcomes}

    def _stale(self, pairs: Sequence[tuple[Sample, Product]], outcomes: dict[str, Outcome]) -> list[tuple[Sample, Product]]:
        """Count the samples that are up to date, and return the others."""
        others = []
        for sample, product in pairs:
            if self.ledger.is_fresh(product, sample.name):
                self.ledger.reuse(TEXT, sample.name)
                outcomes[sample.name] = Outcome()
                self.step(sample.name)
            else:
                others.append((sample, product))
        return others

    def _encode(self, batch: Batch, left: dict[tuple[str, ...], list[tuple[Sample, Product]]], outcomes: dict[str, Outcome]) -> None:
        """Encode all captions of a batch, and write those of the samples that are left."""
        texts = [caption for captions in batch for caption in captions]
        features: list[dict[str, Tensor]] = []
        for start in range(0, len(texts), self.batch_size):
            features += self.encoder.encode(texts[start : start + self.batch_size])
        for captions in batch:
            own, features = features[: len(captions)], features[len(captions) :]
            made = Made(of_captions(own))
            for sample, product in left[captions]:
                outcomes[sample.name] = _write(self.ledger, sample, product, made, self.encoder.length)
                self.step(sample.name)
            left[captions] = []


Batch = tuple[tuple[str, ...], ...]
"""The captions of several samples, which are encoded together; most samples have a single caption."""


def batches_of(captions: Collection[tuple[str, ...]], size: int) -> list[Batch]:
    """Divide the captions of samples into batches of at least `size` captions each, the longest first, so that those of a batch are about
    equally long, and memory runs out at the beginning or not at all.
    """
    batches: list[Batch] = []
    batch: Batch = ()
    for each in sorted(captions, key=lambda each: (-max(map(len, each)), each)):
        batch = (*batch, each)
        if sum(map(len, batch)) >= size:
            batches.append(batch)
            batch = ()
    return [*batches, batch] if batch else batches


def text_product(captions: Sequence[str], length: int, encoder: str) -> Product:
    """Return the product of a sample's captions, for its ingredients only: the text features themselves are made by `CaptionWork`.

    `encoder` is the fingerprint of the text encoder, and the features are padded to `length` when they are loaded.
    """

    def refuse() -> Made:
        raise ValueError("captions are encoded several at a time")

    caption, *others = captions
    return Product(TEXT, {"caption": caption, "length": length, **({"others": others} if others else {})}, encoder, refuse)


@attrs.frozen(eq=False)
class MediaWork:
    """The work on the latents and masks of a dataset.

    Attributes:
        ledger: the record of the folders.
        rules: the rules that the samples were planned by.
        tools: the codecs and the raw files.
        leases: this process as one of those that encode these samples.
        step: a function that is called with each sample that is done, sometimes more than once.
        guard: a function that returns a context manager for the work on a sample, which adds an explanation to errors that are not
            the sample's fault.
    """

    ledger: Ledger
    rules: Rules
    tools: Tools
    leases: Leases
    step: Callable[[Planned], object]
    guard: Callable[[str], AbstractContextManager[None]]
    _stopping: threading.Event = attrs.field(factory=threading.Event, init=False)
    _names: dict[str, Planned] = attrs.field(factory=dict, init=False)

    def encode(self, planned: Sequence[Planned], workers: int, waiting: Callable[[], object]) -> dict[str, Outcome]:
        """Encode the samples that are not up to date, and wait for those that other processes encode.

        Args:
            planned: the samples, in the order in which this process works on them.
            workers: the number of samples to decode at a time.
            waiting: a function that is called again and again while this process waits for others.

        Returns:
            The outcome of each sample, by name.

        Raises:
            DataError: the folders cannot be written; files that were written before are kept.
        """
        self._names.update({each.sample.name: each for each in planned})
        outcomes: dict[str, Outcome] = {}
        # The windows of a clip are made one after the other, so that its frames are decoded once.
        clips = [tuple(windows) for _, windows in groupby(planned, key=lambda each: each.sample.origin)]
        while clips:
            # Each sample gets one thread: on a CPU, several samples at a time are faster than several threads per sample.
            with closing(as_done(self._clip, clips, workers, partial(torch.set_num_threads, 1))) as done:
                try:
                    for _, found in done:
                        if isinstance(found, LtxError):
                            raise found
                        outcomes |= found
                finally:
                    self._stopping.set()
            self._stopping.clear()
            left = [tuple(each for each in windows if each.sample.name not in outcomes) for windows in clips]
            left = [windows for windows in left if windows]
            if len(left) == len(clips):
                waiting()
            clips = left
        return {each.sample.name: outcomes[each.sample.name] for each in planned}

    def _clip(self, windows: Sequence[Planned]) -> dict[str, Outcome]:
        """Encode the windows of a clip; if another process works on the clip, windows that are not up to date are left out."""
        made: dict[str, Outcome] = {}
        stale = []
        for each in windows:
            outcome = None if self._stopping.is_set() else self._encode_sample(each, makes=False)
            if outcome is None:
                stale.append(each)
            else:
                made[each.sample.name] = outcome
                self.step(each)
        lease = self.leases.take(f"media {windows[0].sample.origin}") if stale and not self._stopping.is_set() else None
        if lease is None:
            return made
        with lease, self.tools.rolling() if len(stale) > 1 else nullcontext():
            self._catch_up()
            for each in stale:
                if self._stopping.is_set():
                    break
                outcome = self._encode_sample(each, makes=True)
                assert outcome is not None
                made[each.sample.name] = outcome
                self.step(each)
        return made

    def _catch_up(self) -> None:
        """Learn what other processes have made and found out."""
        self.tools.raw.catch_up()
        for name in dict.fromkeys(name for _, name in self.ledger.catch_up()):
            planned = self._names.get(name)
            if planned is not None and self.ledger.has_all(name, self._folders(planned)):
                self.step(planned)

    def _folders(self, planned: Planned) -> list[str]:
        return [folder for folder in media_folders(self.tools.columns) if folder in planned.folders]

    def _encode_sample(self, planned: Planned, makes: bool) -> Outcome | None:
        """Encode the parts of a sample that are not up to date. Without `makes`, change nothing, and return None if a part is not up to
        date."""
        ledger, folders, sample = self.ledger, self._folders(planned), planned.sample
        current, silence, holes = dict[str, Entry](), list[Silence](), list[Silence]()
        if planned.without:
            return self._reused(sample, folders)
        if not makes and not ledger.has_all(sample.name, folders):
            return None
        before = as_made(sample, ledger.entries_of(sample.name), self.rules, self.tools)
        reused = []
        for folder in folders:
            try:
                product = product_of(folder, planned, self.tools, current)
                if ledger.is_fresh(product, sample.name):
                    reused.append(folder)
                    current[folder] = ledger.entries_of(sample.name)[folder]
                    continue
                if not makes:
                    return None
                with self.guard(f'encoding "{folder}" of {sample.where}{f", of {planned.bucket}" if planned.bucket else ""}'):
                    made = product.make()
            except DataError as error:
                if not makes:
                    return None
                outcome = Outcome(error.at(sample.where).problems)
            else:
                with self.tools.device.stage("writing"):
                    outcome = _write(ledger, sample, product, made)
            if outcome.problems:
                self._reused(sample, reused)
                drop(ledger, sample, [other for other in folders if other not in current])
                return outcome
            current[folder] = ledger.entries_of(sample.name)[folder]
            if made.silence or made.holes:
                path = sound_of(self.tools.columns.by_folder[folder], sample)
                silence += [Silence(sample.at(path), made.silence)] if made.silence else []
                holes += [Silence(sample.at(path), made.holes)] if made.holes else []
        self._reused(sample, reused)
        return Outcome(silence=tuple(silence), holes=tuple(holes), since=before.since if before else ())

    def _reused(self, sample: Sample, folders: Collection[str]) -> Outcome:
        for folder in folders:
            self.ledger.reuse(folder, sample.name)
        return Outcome()


def _write(ledger: Ledger, sample: Sample, product: Product, made: Made, length: int = 0) -> Outcome:
    """Write the encoded data if all values are finite. A file that cannot be written is an error, since the next sample would fail too."""
    if not all(bool(tensor.isfinite().all()) for tensor in made.tensors.values()):
        what = f'the encoded values for "{product.folder}" are not finite'
        return Outcome((Problem(what, sample.where, "Check the files of this sample and the weights of the VAE."),))
    ledger.write(product, sample.name, sample.origin, made, length)
    return Outcome()


def drop(ledger: Ledger, sample: Sample, folders: Collection[str]) -> None:
    """Remove the remaining files of a refused sample from `folders`."""
    for folder in folders:
        ledger.drop(folder, sample.name)


T = TypeVar("T")


@attrs.frozen
class Share:
    """The place of this process among those that a launcher started: number `rank` of `world_size`, counted from 0.

    Processes that encode a dataset together begin at different samples, and each goes on until nothing is left, so that a slow or lost
    process does not hold up the others.
    """

    rank: int = 0
    world_size: int = 1

    def __str__(self) -> str:
        return f"process {self.rank} of {self.world_size}"

    @classmethod
    def of_environment(cls) -> Share:
        """Read the share from RANK and WORLD_SIZE, which a launcher such as torchrun sets; without them, this process was started alone.

        Raises:
            ConfigError: RANK or WORLD_SIZE is not a number, or the rank is not below the size.
        """
        place = Place.of_environment()
        return cls(place.rank, place.world_size)

    def in_order(self, items: Sequence[T], number: int) -> Sequence[T]:
        """Return items in the order in which this process works on them: it begins with its share, and ends with what comes before.

        A process that was started alone begins at a point between those where the others began, according to its `number`, counted from 0:
        at the beginning, in the middle, after a quarter, after three quarters, after an eighth, and so on.
        """
        digits = f"{number:b}"[::-1]
        begin = self.rank * len(items) // self.world_size if self.world_size > 1 else int(digits, 2) * len(items) >> len(digits)
        return [*items[begin:], *items[:begin]]
