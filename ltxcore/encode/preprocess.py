"""The work of `ltx preprocess`, which encodes raw media as samples with manifests, as `ltx run` does when it first uses a dataset."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import attrs

from ltxcore.codecs.source import Codecs
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.dataset.exclusions import read_excluded
from ltxcore.dataset.rows import Dataset, read_dataset
from ltxcore.dataset.uneven import note as uneven_note
from ltxcore.encode.auto_buckets import record_for
from ltxcore.encode.begun import only_rows
from ltxcore.encode.encoding import Encoding, encoding_of, text_encoder_of
from ltxcore.encode.leases import Leases, joined, work_text
from ltxcore.encode.ledger import Ledger, Summary
from ltxcore.encode.less_memory import Less
from ltxcore.encode.pace import LEAST, Pace
from ltxcore.encode.products import media_folders
from ltxcore.encode.roots import claim
from ltxcore.encode.roots import default_root as default_root
from ltxcore.encode.rules import Place
from ltxcore.encode.sample_sizes import Planned, uneven_clips
from ltxcore.encode.standing import Standing, work_left
from ltxcore.encode.survey import Survey, survey
from ltxcore.encode.windows import is_window
from ltxcore.encode.work import TEXT, CaptionWork, MediaWork, Outcome, Share, drop
from ltxcore.encoded.merge_manifests import merge_manifests
from ltxcore.errors import DataError, listed, many
from ltxcore.files import is_folder
from ltxcore.logs import inform
from ltxcore.memory import give_back_memory
from ltxcore.progress import Phase, bars
from ltxcore.protocols import TextEncoder
from ltxcore.workers import processors, usual_workers

ALIKE = frozenset({"on_error", "batch_size", "skip_audio", "registry", "reader", "encoders", "may_lack"})
"""The options in which processes that encode a dataset together may differ, since encoded files do not depend on them, apart from the
rounding of text features with another `batch_size`.
"""

WAIT = 0.2
"""The number of seconds between attempts to take over the last samples from other processes."""


def preprocess(
    dataset: Path,
    root: Path | None,
    options: PreprocessingTable,
    codecs: Codecs,
    *,
    folders: Collection[str] | None = None,
    share: Share | None = None,
    overwrite: bool = False,
    verify: bool = False,
    workers: int | None = None,
    where: Place = str,
    progress: bool | None = None,
    only: Collection[str] | None = None,
    keeps: bool = False,
    take_over: bool = False,
    waiting: Callable[[], object] | None = None,
    before: Callable[[Survey, Standing], object] | None = None,
) -> Summary:
    """Encode everything in a dataset that is not up to date, together with all other processes that encode this dataset at present.

    Everything is checked before anything is written. A sample that fails while it is encoded does not stop the others, but is reported as
    an error in the end, unless `on_error` is "skip".

    Args:
        dataset: a dataset file, or a folder of media.
        root: the folder to write to; None for `default_root`.
        options: the options of `[preprocessing]`.
        codecs: the VAEs and text encoder that encode the dataset.
        folders: the folders that a run reads; None for all that the dataset's columns can make.
        share: the place of this process among those that a launcher started; None to take it from the environment.
        overwrite: whether to make everything again, even files that are up to date.
        verify: whether to read the files that are up to date, and to make damaged ones again.
        workers: the number of samples to decode at a time; None for one per processor, at most 8.
        where: a function that returns the place of a key of the run file, such as `preprocessing.resolution_buckets`,
            for messages.
        progress: whether to show bars; by default on a terminal.
        only: the names of the samples to encode, which are those that an unfinished run began with; None for all samples.
        keeps: whether samples that are stale only because of a correction in reading their files stay unchanged, for a run that
            began with them.
        take_over: whether to end another process that has this process's place, and those that encode something else to the same folder.
        waiting: a function that is called again and again while this process waits for others: for the last samples, or until a process is done
            that encodes something else to the same folder; if it is None, the latter is an error.
        before: a function that is called before the first sample is encoded, with the survey of the dataset and the state of its samples.

    Raises:
        ProcessError: another process encodes something else to the same folder.
        ConfigError: options do not fit the codec or contradict each other; the message names every such option.
        DataError: the dataset cannot be used, the root cannot be written, or samples cannot be made; the message names all of them.
        OutOfMemory: memory ran out. The error says what was being encoded, and what would take less memory; finished samples are
            kept.
    """
    to = root or default_root(dataset, options)
    data = read_dataset(dataset, options, folders, to)
    if only is not None:
        data = only_rows(data, frozenset(only))
    workers, share = workers or usual_workers(), share or Share.of_environment()
    threads = max(1, processors() // workers)
    encoding = encoding_of(data, to, options, codecs, where, rank=share.rank, threads=threads, writes=True, recalls=not overwrite)
    job = _Job(encoding, share, overwrite, workers, Leases(to), where, waiting or (lambda: None))
    with bars(progress) as phase:
        encoder = text_encoder_of(codecs, options, where) if TEXT in data.folders else None
        found = _survey(job, keeps, phase)
        if root is None:
            job = attrs.evolve(job, encoding=attrs.evolve(encoding, root=claim(to, dataset, options)))
        with _leases(job, encoder.fingerprint if encoder else "", take_over, waiting) as leases:
            job = attrs.evolve(job, leases=leases)
            encoding.tools.raw.take_number(leases.number)
            if found.chosen is not None and record_for(job.encoding.root, found.chosen, encoding):
                inform("\n".join([f"{dataset}: {found.chosen.told(job.encoding.root)}", *found.chosen.cropping]))
            ledger = _open(job, found, verify)
            left = Standing((), (), {}) if before is None else _announced(job, found, encoder, ledger, before)
            planned, less = share.in_order(found.planned, leases.number), Less(codecs, options, workers, where)
            texts = _captions(job, found.planned, encoder, ledger, phase, less)
            encoder = None  # free the text encoder's weights, to make room for the VAEs'
            give_back_memory()
            media = _media(job, planned, texts, ledger, phase, less, left.names)
            texts = _captions_of_others(job, found.planned, texts, ledger, less)
            if ledger.has_changed or leases.are_taken:
                leases.finish(lambda: merge_manifests(job.encoding.root, data.folders, leases.number) if ledger.has_changed else None)
    outcomes = {**texts, **media, **{name: outcome for name, outcome in texts.items() if outcome.problems}}
    outcomes = {each.sample.name: outcomes[each.sample.name] for each in found.planned if each.sample.name in outcomes}
    return _summary(job, found, outcomes, ledger)


@contextlib.contextmanager
def _leases(job: _Job, text: str, take_over: bool, waiting: Callable[[], object] | None) -> Iterator[Leases]:
    """Become one of the processes that encode the dataset. If the root cannot be written, there are no leases, and nothing can be encoded,
    which does not matter if everything is up to date. `text` is the fingerprint of the text encoder.
    """
    root, tools, options = job.encoding.root, job.encoding.tools, attrs.asdict(job.options, recurse=False)
    work = work_text(
        {
            "dataset": job.data.path.name,
            "options": json.dumps({name: value for name, value in options.items() if name not in ALIKE}, sort_keys=True, default=str),
            "text": text,
            "video": tools.video.fingerprint if tools.video is not None else "",
            "audio": tools.audio.fingerprint if tools.audio is not None else "",
        }
    )
    share = job.share
    with contextlib.ExitStack() as stack:
        leases = Leases(root)
        try:
            leases = stack.enter_context(joined(root, share.rank, share.world_size, work, take_over=take_over, waiting=waiting))
        except OSError as error:
            if not root.is_dir():
                raise DataError(f"cannot be made: {error.strerror}", where=str(root), remedy="Name another folder to write to.") from error
        yield leases


@attrs.frozen(eq=False)
class _Job:
    """A call of `preprocess`, after the dataset is read and the codecs are known."""

    encoding: Encoding
    share: Share
    overwrite: bool
    workers: int
    leases: Leases
    where: Place
    waits: Callable[[], object]

    @property
    def data(self) -> Dataset:
        return self.encoding.data

    @property
    def options(self) -> PreprocessingTable:
        return self.encoding.options


def _survey(job: _Job, keeps: bool, phase: Phase) -> Survey:
    """Find out what has to be made.

    Raises:
        LtxError: the dataset cannot be encoded.
    """
    if job.data.left_out and not job.data.samples:
        raise DataError.of(job.data.left_out)
    found = survey(job.encoding, job.workers, phase, keeps=keeps)
    if found.silent is not None:
        raise DataError.of([found.silent])
    if found.sizeless is not None:
        raise found.sizeless
    if found.refused and not found.leaves_out:
        raise DataError.of(problem for refused in found.refused for problem in refused.problems)
    return found


def _open(job: _Job, found: Survey, verify: bool) -> Ledger:
    """Open the root's folders, and remove the remaining files of refused samples."""
    order, leases = (TEXT, *media_folders(job.data.columns)), job.leases
    folders = [each for each in order if each in job.data.folders]
    ledger = Ledger(job.encoding.root, folders, leases.number, job.overwrite, verify, leases.writer)
    for refused in found.refused:
        if refused.part is None:
            drop(ledger, refused.sample, job.data.folders)
    for each in found.planned:
        drop(ledger, each.sample, job.data.folders - each.folders)
    return ledger


def _announced(
    job: _Job, found: Survey, encoder: TextEncoder | None, ledger: Ledger, before: Callable[[Survey, Standing], object]
) -> Standing:
    """Find out which samples are left to encode, and tell `before`. The text encoder is not kept, so that its weights can be freed."""
    seen = attrs.evolve(found, encoding=attrs.evolve(found.encoding, text=encoder, root=job.encoding.root))
    left = work_left(seen, {} if job.overwrite else ledger.found)
    before(seen, left)
    return left


def _captions(
    job: _Job, planned: Sequence[Planned], encoder: TextEncoder | None, ledger: Ledger, phase: Phase, less: Less
) -> dict[str, Outcome]:
    """Encode the captions that no other process encodes."""
    if encoder is None:
        return {}
    samples = [each.sample for each in planned]
    work = CaptionWork(ledger, encoder, job.options.batch_size, _Once(phase("captions", len(samples))), job.leases)
    with less.captions():
        return work.encode(samples, partial(job.share.in_order, number=job.leases.number))


def _captions_of_others(
    job: _Job, planned: Sequence[Planned], so_far: Mapping[str, Outcome], ledger: Ledger, less: Less
) -> dict[str, Outcome]:
    """Wait for captions that other processes encode, and encode those of processes that are gone by now."""
    outcomes, samples, wait = dict(so_far), [each.sample for each in planned], _Waiting(job)
    if TEXT not in job.data.folders or len(outcomes) == len(samples) or job.encoding.codecs is None:
        return outcomes
    encoder = text_encoder_of(job.encoding.codecs, job.options, job.where)
    work = CaptionWork(ledger, encoder, job.options.batch_size, lambda _: None, job.leases)
    while len(outcomes) < len(samples):
        with less.captions():
            found = work.encode(samples, done=outcomes)
        outcomes |= found
        if not found:
            wait()
    return outcomes


def _media(
    job: _Job,
    planned: Sequence[Planned],
    so_far: Mapping[str, Outcome],
    ledger: Ledger,
    phase: Phase,
    less: Less,
    left: Collection[str],
) -> dict[str, Outcome]:
    if job.data.folders <= {TEXT}:
        return {}
    whole = [each for each in planned if not so_far.get(each.sample.name, Outcome()).problems]
    advance, pace = _Once(phase("media", len(whole))), Pace("media", sum(each.sample.name in left for each in whole), job.workers)

    def step(done: Planned) -> None:
        if advance(done.sample.name) and done.sample.name in left:
            pace.step()

    work = MediaWork(ledger, job.encoding.rules, job.encoding.tools, job.leases, step, less.media)
    begun = time.monotonic()
    outcomes = work.encode(whole, job.workers, _Waiting(job))
    took, device = time.monotonic() - begun, job.encoding.tools.device
    if device.busy and took >= LEAST:
        inform(f"media: {device.report(took, job.workers)}")
    return outcomes


@attrs.define(eq=False)
class _Once:
    """A function that calls another one once for each name, also from several threads."""

    _advance: Callable[[], object]
    _names: set[str] = attrs.field(factory=set, init=False)
    _lock: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    def __call__(self, name: str) -> bool:
        """Return whether the name is new."""
        with self._lock:
            is_new = name not in self._names
            self._names.add(name)
        if is_new:
            self._advance()
        return is_new


@attrs.define(eq=False)
class _Waiting:
    """A function that waits a moment for the other processes, and says so once."""

    _job: _Job
    _told: bool = attrs.field(default=False, init=False)

    def __call__(self) -> None:
        if not self._told:
            others = [str(each or "an unknown process") for each in self._job.leases.others()]
            inform(f"waiting for the last samples, which are encoded by {listed(others) if others else 'another process'}")
            self._told = True
        self._job.waits()
        time.sleep(WAIT)


def _summary(job: _Job, found: Survey, outcomes: Mapping[str, Outcome], ledger: Ledger) -> Summary:
    failed = [problem for outcome in outcomes.values() for problem in outcome.problems]
    if failed and job.options.on_error == "stop":
        raise DataError.of(failed)
    lost = {name for name, outcome in outcomes.items() if outcome.problems}
    notes, own = [*job.data.notes, *found.notes, *_uneven(job, found), *_left_over(job, found.encoding.data, ledger)], list[str]()
    silence = [each for outcome in outcomes.values() for each in outcome.silence]
    holes = [each for outcome in outcomes.values() for each in outcome.holes]
    for told, places in (
        (f"{many(len(silence), 'sound ends early and was', 'sounds end early and were')} padded with silence, by", silence),
        (f"{many(len(holes), 'sound has', 'sounds have')} gaps, which are now silent, of", holes),
    ):
        if places:
            longest = max(places, key=lambda each: each.seconds)
            own.append(f"{job.data.path}: {told} at most {longest.seconds:.3f} s ({longest.where})")
    parts = {
        is_clip: [each for each in found.refused if each.part and ("video" in each.sample.media) is is_clip] for is_clip in (True, False)
    }
    unmade = [problem for each in found.refused if each.part is None for problem in each.problems]
    return Summary(
        job.encoding.root,
        ledger.counts,
        (*job.data.left_out, *unmade, *failed),
        tuple(problem for each in parts[True] for problem in each.problems),
        tuple(sorted(found.whole - lost)),
        (*notes, *own),
        tuple(problem for each in parts[False] for problem in each.problems),
        tuple(own),
        anew={name: outcome.since for name, outcome in outcomes.items() if outcome.since and not outcome.problems},
        set_right=found.kept,
        without={each.sample.name: each.without for each in found.planned if each.without},
    )


def _uneven(job: _Job, found: Survey) -> list[str]:
    """Return a note about clips with a variable frame rate, if any are encoded."""
    names = uneven_clips(found.planned, found.looked) if job.data.folders & job.data.columns.folders_of("video") else []
    clips = len({each.sample.origin for each in found.planned if each.bucket is not None})
    return [uneven_note(job.data.path, clips, names, job.encoding.rules.resamples)] if names else []


def _left_over(job: _Job, data: Dataset, ledger: Ledger) -> list[str]:
    """Return notes about samples that the folder no longer has: windows that are no longer cut, and samples whose files are gone, with the
    new names of renamed files. Files that the user excludes are not gone. This is done only for folders: a dataset file may share its root
    with others, whose samples are there too.
    """
    if not is_folder(job.data.path):
        return []
    names, origins = {sample.name: sample for sample in data.samples}, {sample.origin for sample in data.samples}
    excluded = frozenset(read_excluded(job.data.path))
    # A run may have begun with some of the files; samples of the others are not its own.
    gone = {
        name: origin
        for name, origin in ledger.origins.items()
        if name not in names and name in (data.only or {name}) and origin.strip() not in excluded
    }
    uncut = sorted(name for name, origin in gone.items() if origin in origins and is_window(name))
    notes = []
    if uncut:
        left = many(len(uncut), "sample is", "samples are")
        notes.append(f"{job.encoding.root}: {left} left over from windows that are no longer cut, and not used: {listed(uncut)}")
    gone = {name: origin for name, origin in gone.items() if name not in uncut}
    if not gone:
        return notes
    now = {job.encoding.tools.raw.remembered(next(iter(sample.media.values()))): sample.origin for sample in names.values() if sample.media}
    now.pop("", None)
    told = []
    for name, origin in gone.items():
        other = now.get(job.encoding.tools.raw.remembered(job.data.folder.absolute() / origin))
        told.append(f"{origin or name} (which is {other} now)" if other else origin or name)
    left = many(len(told), "sample is", "samples are")
    notes.append(f"{job.encoding.root}: {left} left over from files that are no longer in {job.data.path}, and not used: {listed(told)}")
    return notes
