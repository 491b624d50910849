"""`ltx preprocess`, and the first use of a dataset by `ltx run`: raw media in, encoded samples and their manifests out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from ltxcore.codecs.source import Model
from ltxcore.config.run_file import PreprocessingTable
from ltxcore.dataset.raw import RawFiles
from ltxcore.dataset.rows import Dataset, Sample, read_dataset
from ltxcore.dataset.uneven import note as uneven_note
from ltxcore.devices import own_device
from ltxcore.encode.connected import connected
from ltxcore.encode.ledger import Ledger
from ltxcore.encode.less_memory import Less
from ltxcore.encode.outdated import as_begun, only_rows
from ltxcore.encode.products import RECIPES, Tools
from ltxcore.encode.roots import claim
from ltxcore.encode.roots import default_root as default_root
from ltxcore.encode.rules import (
    Place,
    found_buckets,
    hdr_told,
    needs_buckets,
    rendering_from_options,
    rules_from_options,
    silent_set,
)
from ltxcore.encode.sample_sizes import SOUND_FOLDERS, VIDEO_FOLDERS, Planned, Rules, files_of, look_at, plan, plan_part, uneven_clips
from ltxcore.encode.share import Share
from ltxcore.encode.summary import Summary
from ltxcore.encode.work import TEXT, Outcome, drop, encode_captions, encode_media
from ltxcore.errors import ConfigError, DataError, Problem, listed
from ltxcore.memory import give_back_memory
from ltxcore.progress import Phase, bars
from ltxcore.protocols import TextEncoder
from ltxcore.workers import processors, usual_workers
from ltxcore.writer import Writer, writing


def preprocess(
    dataset: Path,
    root: Path | None,
    options: PreprocessingTable,
    *,
    model_path: str,
    text_encoder_path: Path | None = None,
    video_vae_path: Path | None = None,
    audio_vae_path: Path | None = None,
    device: str | None = None,
    vae_tiling: bool = False,
    load_text_encoder_in_8bit: bool = False,
    offload_text_encoder: bool = False,
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
) -> Summary:
    """Encode a dataset, or what of it is not up to date.

    Everything is checked before anything is written. A sample that fails while it is encoded does not stop the others; unless `on_error` is "skip",
    it is an error in the end.

    Args:
        dataset: a CSV, TSV, JSON or JSON Lines file, or a folder of media.
        root: where to write; none: `default_root`.
        options: of `[preprocessing]`.
        model_path: whose codecs and text encoder to use.
        text_encoder_path: of the text encoder, where the model does not hold it.
        video_vae_path: of the video codec, likewise.
        audio_vae_path: of the audio codec, likewise.
        device: where they compute; none: this process's GPU, if there is one.
        vae_tiling: whether clips are encoded in pieces, for less memory.
        load_text_encoder_in_8bit: whether the text encoder has 8-bit weights.
        offload_text_encoder: whether the text encoder's weights stay in main memory, and come to the device one layer at a time.
        folders: that a run reads; none: all that the dataset's columns can make.
        share: this process's part; none: as the environment says.
        overwrite: whether to make also what is up to date.
        verify: whether to read what is up to date, and to make again what is damaged.
        workers: samples decoded at a time; none: one a processor, at most 8.
        where: gives the place of a key of the run file, such as `preprocessing.resolution_buckets`, for messages.
        progress: whether to show bars; by default on a terminal.
        only: the samples, by name, that an unfinished run began with, which gets no others; none: all.
        keeps: whether samples that are stale only since something is set right in reading their files stay as they are, for a run that began with them.
        take_over: end another process that does this share.
        waiting: called each second that this process waits for another one that does this share; none: it is refused rather than waits.

    Raises:
        ProcessError: another process does this share already.
        ConfigError: options that do not go with the codec or with each other, all of them.
        DataError: the dataset, or samples that cannot be made, all of them; or a root that cannot be written.
        OutOfMemory: memory ran out; says while encoding what, and what takes less. What was encoded by then stays.
    """
    model = Model(
        model_path,
        text_encoder_path,
        video_vae_path,
        audio_vae_path,
        device or own_device(),
        vae_tiling,
        load_text_encoder_in_8bit,
        offload_text_encoder,
    )
    to = root or default_root(dataset, options)
    there = [path.name for path in to.iterdir() if path.is_dir()] if to.is_dir() else []
    data = read_dataset(dataset, options, folders, there)
    if only is not None:
        data = only_rows(data, frozenset(only))
    workers = workers or usual_workers()
    job = _job(data, to, options, model, share or Share.of_environment(), overwrite, workers, where)
    with bars(progress) as phase:
        encoder = _text_encoder(job, model) if TEXT in data.folders else None
        plans = _plan(job, keeps, phase)
        if root is None:
            job = attrs.evolve(job, root=claim(to, dataset, options))
        with _writer(job.root, job.share.rank, take_over, waiting) as writer:
            ledger = _open(job, plans, verify, writer)
            mine = job.share.of(plans.planned)
            less = Less(model, options, workers, where)
            with less.captions():
                outcomes = _captions(job, mine, encoder, ledger, phase)
            encoder = None  # its weights make room for those of the codecs
            give_back_memory()
            outcomes |= _media(job, mine, outcomes, ledger, phase, less)
    return _summary(job, plans, outcomes, ledger)


@contextlib.contextmanager
def _writer(root: Path, rank: int, take_over: bool, waiting: Callable[[], object] | None) -> Iterator[Writer | None]:
    """The one process that does this share of the work. A root that cannot be written, and need not be where all is up to date, has none."""
    with contextlib.ExitStack() as stack:
        writer = None
        try:
            writer = stack.enter_context(writing(root, rank=rank, takes_over=take_over, waiting=waiting, name="--take-over"))
        except OSError as error:
            if not root.is_dir():
                raise DataError(f"cannot be made: {error.strerror}", where=str(root), remedy="Name another folder to write to.") from error
        yield writer


@attrs.frozen(eq=False)
class _Job:
    """A call of `preprocess`, once the dataset is read and the codecs are known."""

    data: Dataset
    root: Path
    options: PreprocessingTable
    rules: Rules
    tools: Tools
    share: Share
    overwrite: bool
    workers: int
    where: Place


def _job(
    data: Dataset, root: Path, options: PreprocessingTable, model: Model, share: Share, overwrite: bool, workers: int, where: Place
) -> _Job:
    video = model.video() if any("video" in sample.media for sample in data.samples) else None
    audio = model.audio() if data.folders & SOUND_FOLDERS else None
    rules = rules_from_options(data, options, video, audio, where)
    raw = RawFiles(root, data.folder.absolute(), share.rank, recalls=not overwrite, resamples=rules.resamples)
    tools = Tools(raw, video, audio, rules.factors, max(1, processors() // workers), rendering_from_options(options, where))
    return _Job(data, root, options, rules, tools, share, overwrite, workers, where)


def _text_encoder(job: _Job, model: Model) -> TextEncoder:
    encoder = model.text()
    if not job.options.connector_outputs:
        return encoder
    try:
        return connected(encoder, model.path, model.device)
    except ConfigError as error:
        raise error.at(job.where("preprocessing.connector_outputs")) from None


@attrs.frozen(eq=False)
class _Plans:
    """Samples that can be made, of which some without their sound or pictures, and why; those that cannot, and why; what the user should know; and, for
    a run that keeps what it began with, the samples that were encoded since something was set right in reading their files."""

    planned: list[Planned]
    refused_samples: list[Sample]
    problems: list[Problem]
    silent: list[Problem]
    pictureless: list[Problem]
    notes: list[str]
    set_right: frozenset[str] = frozenset()


def _plan(job: _Job, keeps: bool, phase: Phase) -> _Plans:
    if job.data.left_out and not job.data.samples:
        raise DataError.of(job.data.left_out)
    looked = look_at(job.data.samples, job.tools.raw, job.workers, phase("files", len(files_of(job.data.samples))))
    there = as_begun(job.root, job.data, job.rules, job.tools) if keeps else {}
    before = {name: planned for name, planned in there.items() if planned.without}
    data, rules = attrs.evolve(job.data, samples=tuple(each for each in job.data.samples if each.name not in before)), job.rules
    notes = list(data.notes)
    silent = silent_set(data, looked)
    if silent is not None:
        raise DataError.of([silent])
    if job.tools.video is not None and needs_buckets(data, rules):
        bucket, note = found_buckets(data, rules, looked, job.tools.video, job.where)
        rules = attrs.evolve(rules, buckets=(bucket,))
        notes.append(note)
    if (told := hdr_told(data, looked, job.options.hdr)) and rules.buckets:
        notes.append(told)
    plans, lacking = _Plans([], [], list(data.left_out), [], [], notes), list[Problem]()
    for sample in job.data.samples:
        found = before.get(sample.name) or plan(sample, looked, rules)
        if isinstance(found, Planned):
            plans.planned.append(found)
            continue
        lacking += found
        if (part := plan_part(sample, looked, rules)) is not None:
            plans.planned.append(part)
            (plans.silent if "video" in sample.media else plans.pictureless).extend(found)
        else:
            plans.refused_samples.append(sample)
            plans.problems.extend(found)
    if (found_uneven := uneven_clips(plans.planned, looked)) and data.folders & VIDEO_FOLDERS:
        clips = sum(each.bucket is not None for each in plans.planned)
        plans.notes.append(uneven_note(data.path, clips, found_uneven, rules.resamples))
    none_whole = all(each.folders != data.folders for each in plans.planned)
    if lacking and (job.options.on_error == "stop" or none_whole):
        raise DataError.of(lacking)
    return attrs.evolve(plans, set_right=frozenset(there.keys() - before.keys()))


def _open(job: _Job, plans: _Plans, verify: bool, writer: Writer | None) -> Ledger:
    """The root's folders, without what there was of refused samples."""
    order = (TEXT, *RECIPES)
    ledger = Ledger(job.root, [folder for folder in order if folder in job.data.folders], job.share.rank, job.overwrite, verify, writer)
    for sample in job.share.of(plans.refused_samples):
        drop(ledger, sample, job.data.folders)
    for each in job.share.of(plans.planned):
        drop(ledger, each.sample, job.data.folders - each.folders)
    return ledger


def _captions(job: _Job, planned: Sequence[Planned], encoder: TextEncoder | None, ledger: Ledger, phase: Phase) -> dict[str, Outcome]:
    if encoder is None:
        return {}
    samples = [each.sample for each in planned]
    return encode_captions(samples, ledger, encoder, job.options.batch_size, phase("captions", len(samples)))


def _media(
    job: _Job, planned: Sequence[Planned], so_far: Mapping[str, Outcome], ledger: Ledger, phase: Phase, less: Less
) -> dict[str, Outcome]:
    if job.data.folders <= {TEXT}:
        return {}
    whole = [each for each in planned if not so_far.get(each.sample.name, Outcome()).problems]
    return encode_media(whole, ledger, job.rules, job.tools, job.workers, phase("media", len(whole)), less.media)


def _summary(job: _Job, plans: _Plans, outcomes: Mapping[str, Outcome], ledger: Ledger) -> Summary:
    failed = [problem for outcome in outcomes.values() for problem in outcome.problems]
    if failed and job.options.on_error == "stop":
        raise DataError.of(failed)
    lost = {name for name, outcome in outcomes.items() if outcome.problems}
    notes, own = [*plans.notes, *_renamed(job, ledger)], list[str]()
    for what, silence in (
        ("sounds end early and were filled with silence, by", [each for outcome in outcomes.values() for each in outcome.silence]),
        ("sounds have holes, which are silence now, of", [each for outcome in outcomes.values() for each in outcome.holes]),
    ):
        if silence:
            longest = max(silence, key=lambda each: each.seconds)
            own.append(f"{job.data.path}: {len(silence)} {what} at most {longest.seconds:.3f} s ({longest.where})")
    whole = [each.sample.name for each in plans.planned if each.folders == job.data.folders]
    names = sorted(set(whole) - lost)
    problems = (*plans.problems, *failed)
    return Summary(
        job.root,
        ledger.counts,
        problems,
        tuple(plans.silent),
        tuple(names),
        (*notes, *own),
        tuple(plans.pictureless),
        tuple(own),
        tuple(failed),
        anew={name: outcome.since for name, outcome in outcomes.items() if outcome.since and not outcome.problems},
        set_right=plans.set_right,
        without={each.sample.name: each.without for each in plans.planned if each.without},
    )


def _renamed(job: _Job, ledger: Ledger) -> list[str]:
    """That there are samples of files that are no longer in the folder, and what these are called now if they were renamed.

    A dataset file may share its root with others, so that its root says nothing of that.
    """
    if not job.data.is_folder:
        return []
    names = {sample.name: sample for sample in job.data.samples}
    gone = {name: origin for name, origin in ledger.origins.items() if name not in names}
    if not gone:
        return []
    now = {job.tools.raw.remembered(next(iter(sample.media.values()))): sample.origin for sample in names.values() if sample.media}
    now.pop("", None)
    told = []
    for name, origin in gone.items():
        other = now.get(job.tools.raw.remembered(job.data.folder.absolute() / origin))
        told.append(f"{origin or name} (which is {other} now)" if other else origin or name)
    many = "1 sample is" if len(told) == 1 else f"{len(told)} samples are"
    return [f"{job.root}: {many} left there of files that are no longer in {job.data.path}, and not used: {listed(told)}"]
