"""The survey of a dataset, which finds out from the headers of its files what preprocessing would make, before anything is encoded.

`ltx preprocess` begins with a survey, and `ltx doctor` reports a complete one. `ltx check` surveys only some files, since a check should
take seconds and a large dataset has too many files to open. A check opens the same few files each time, evenly spread over the rows, and
says how many it did not open.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import attrs
from torch import Tensor

from ltxcore.codecs.official.text import LENGTH
from ltxcore.codecs.source import Codecs
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.dataset.rows import Dataset, Sample
from ltxcore.encode.auto_buckets import Chosen, buckets_for
from ltxcore.encode.buckets import nearest
from ltxcore.encode.encoding import Encoding, encoding_of, text_encoder_of
from ltxcore.encode.outdated import as_begun
from ltxcore.encode.products import mask_alone, product_of, start_seconds
from ltxcore.encode.rules import Place, found_buckets, hdr_told, needs_buckets, silent_set, sizes_of
from ltxcore.encode.sample_sizes import (
    Looked,
    Planned,
    Rules,
    files_of,
    infos_of,
    look_at,
    plan_part,
    plan_sample,
    unreadable,
)
from ltxcore.encode.windows import BEGINNING, windowed
from ltxcore.encode.work import TEXT
from ltxcore.encoded.listing import whole_samples
from ltxcore.encoded.streams import streams_told
from ltxcore.errors import ConfigError, DataError, LtxError, Problem
from ltxcore.files import why_unreadable
from ltxcore.media.probe import MediaInfo
from ltxcore.progress import Phase
from ltxcore.workers import usual_workers

MOST_OPENED = 200
"""The maximum number of files of a dataset that a check opens, unless a single sample has more."""


@attrs.frozen(eq=False)
class Refused:
    """A sample that cannot be made completely.

    Attributes:
        sample: the dataset's row.
        problems: the reasons why the sample cannot be made completely.
        part: the plan for the part that can be made from the sample; None if there is none, or if something else is wrong too.
    """

    sample: Sample
    problems: tuple[Problem, ...]
    part: Planned | None


@attrs.frozen(eq=False)
class Survey:
    """The plan of what preprocessing would make of a dataset, or of a part of it.

    Attributes:
        encoding: the dataset, and how it is encoded. Its rules have the buckets that were found, and no audio folders if no clip has
            audio. The samples of its dataset are windows, if the options ask for them.
        samples: the samples that were looked at.
        looked: the facts that were found about the samples' files.
        planned: the samples that can be made, in order; if `on_error` is "skip", also samples that can be made in part.
        refused: the samples that cannot be made completely.
        kept: the names of the samples that the run began with, and that were encoded after a correction in reading their files.
        silent: the problem that audio is wanted and no clip has any; None if there is no such problem.
        sizeless: the reason why it is unknown which sizes the clips would be fitted to; None if the sizes are known or not needed.
        notes: facts that the user should know.
        chosen: the buckets that were chosen for the clips, if the options ask for that; None if they do not.
        opened: the number of files that were looked at.
        others: the number of files that were not looked at.
    """

    encoding: Encoding
    samples: tuple[Sample, ...]
    looked: Looked
    planned: tuple[Planned, ...]
    refused: tuple[Refused, ...]
    kept: frozenset[str]
    silent: Problem | None
    sizeless: LtxError | None
    notes: tuple[str, ...]
    opened: int
    others: int
    chosen: Chosen | None = None

    @property
    def has_sizes(self) -> bool:
        """Whether it is known which sizes the clips would be fitted to."""
        return self.encoding.is_ruled and self.sizeless is None

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The problems that would make preprocessing refuse the dataset, each once."""
        known = {problem for sample in self.samples for problem in self.unreadable(sample)}
        sizes = () if self.sizeless is None else self.sizeless.problems
        return (
            *(() if self.silent is None else (self.silent,)),
            *(problem for problem in sizes if problem not in known),
            *(() if self.leaves_out else self._of_samples),
        )

    @property
    def left_out(self) -> tuple[Problem, ...]:
        """The problems of samples that preprocessing would leave out because `on_error` says so."""
        return self._of_samples if self.leaves_out else ()

    @property
    def _of_samples(self) -> tuple[Problem, ...]:
        return tuple(problem for refused in self.refused for problem in refused.problems)

    @functools.cached_property
    def unfit(self) -> frozenset[str]:
        """The names of the samples that were looked at but cannot be made completely."""
        return frozenset(sample.name for sample in self.samples) - self.whole

    @functools.cached_property
    def whole(self) -> frozenset[str]:
        """The names of the samples that can be made completely, but for a modality that they may lack."""
        whole = {frozenset[str](), *self.encoding.data.absent}
        return frozenset(each.sample.name for each in self.planned if self.encoding.data.folders - each.folders in whole)

    @property
    def leaves_out(self) -> bool:
        """Whether samples that cannot be made are left out rather than refused.

        The user must have asked for this and, if all files were looked at, some complete samples must remain.
        """
        if self.encoding.options.on_error != "skip":
            return False
        is_part = len(self.samples) < len(self.encoding.data.samples)
        folders = self.encoding.rules.folders
        return is_part or any(folders - each.folders in {frozenset[str](), *self.encoding.data.absent} for each in self.planned)

    @property
    def text_length(self) -> int:
        """The number of tokens that the text encoder takes; LTX-2's number if the encoder is not known."""
        return LENGTH if self.encoding.text is None else self.encoding.text.length

    def unreadable(self, sample: Sample) -> tuple[Problem, ...]:
        """Return the problems of a sample's files that cannot be read."""
        return tuple(unreadable(sample, self.looked))

    def encoded(self, folders: Collection[str]) -> tuple[str, ...]:
        """Return the names of the samples that are already encoded in all of `folders`, whether or not they are up to date."""
        absent = {each & frozenset(folders) for each in self.encoding.data.absent}
        return whole_samples(self.encoding.root, folders, [each.sample.name for each in self.planned], absent) if folders else ()

    def copies(self, step: Callable[[], None]) -> Iterator[tuple[Sample, Path, Sample]]:
        """Find rows whose clip, or audio file if there is no clip, is a copy of an earlier row's, and yield the row, the file and the
        earlier row. Only files of equal size are read.

        Args:
            step: a function that is called after each row.
        """
        by_size: dict[int, list[tuple[Sample, Path]]] = {}
        for sample in self.samples:
            path = sample.media.get("video", sample.media.get("audio"))
            if path is not None and not sample.start and not why_unreadable(path):
                by_size.setdefault(path.stat().st_size, []).append((sample, path))
        for alike in by_size.values():
            first: dict[str, Sample] = {}
            for sample, path in alike:
                other = sample if len(alike) == 1 else first.setdefault(self.encoding.tools.raw.content(path), sample)
                if other is not sample:
                    yield sample, path, other
                step()

    def mask(self, planned: Planned, folder: str) -> Tensor:
        """Make a sample's mask as in encoding, except that an audio mask keeps its own length, since the audio latents may not exist yet.

        Raises:
            DataError: the mask cannot be made.
        """
        return mask_alone(folder, planned, self.encoding.tools)

    def values(self, planned: Planned, folder: str) -> Tensor:
        """Return the values that the plugin of a column that goes with clips makes from a sample's cell.

        Raises:
            DataError: the cell cannot be used.
        """
        (made,) = product_of(folder, planned, self.encoding.tools, {}).make().tensors.values()
        return made

    def start(self, planned: Planned) -> Fraction:
        """Return the time, in seconds of its clip, at which a sample begins.

        Raises:
            DataError: the clip cannot be read.
        """
        return start_seconds(planned, self.encoding.tools)

    def infos(self, sample: Sample) -> dict[str, MediaInfo]:
        """Return descriptions of a sample's readable files, by role.

        If uneven clips are resampled, files whose frames correspond to the clip's frames get the clip's new frames and rate.
        """
        return infos_of(sample, self.looked, self.encoding.rules)


def survey_media(
    data: Dataset, root: Path, options: PreprocessingTable, codecs: Codecs | None, workers: int, phase: Phase, where: Place = str
) -> Survey:
    """Look at the headers of all files of a dataset, and plan its samples.

    Nothing is written. Problems with the dataset are returned, not raised.

    Args:
        data: the dataset.
        root: the folder where its samples are, or will be.
        options: the options of preprocessing.
        codecs: the VAEs and text encoder that encode the dataset; if None, the grid that all LTX-2 models share is used.
        workers: the number of files to open at the same time.
        phase: a function that shows progress.
        where: a function that returns the place of an option or a key of the run file, for messages.

    Raises:
        ConfigError: a codec is not available, or options do not fit it or contradict each other.
    """
    text = None
    with contextlib.suppress(ConfigError):  # a set that was encoded elsewhere needs no model
        text = text_encoder_of(codecs, options, where) if codecs is not None and TEXT in data.folders else None
    return survey(encoding_of(data, root, options, codecs, where, text=text), workers, phase)


def survey(encoding: Encoding, workers: int, phase: Phase, *, most: int | None = None, listens: bool = True, keeps: bool = False) -> Survey:
    """Look at the headers of a dataset's files, and plan its samples. Problems with the dataset are returned, not raised.

    Args:
        encoding: the dataset, and how it is encoded.
        workers: the number of files to open at the same time.
        phase: a function that shows progress.
        most: the maximum number of files to look at, for samples that are spread over the dataset; None for all files.
        listens: whether to decode audio if its exact length is needed.
        keeps: whether samples that are stale only because of a correction in reading their files stay unchanged, for a run that
            began with them.
    """
    data, rules = encoding.data, encoding.rules
    some = data if most is None else attrs.evolve(data, samples=tuple(spread(data.samples, most)))
    files = files_of(some.samples)
    looked = look_at(some.samples, rules, encoding.tools.raw, workers, phase("files", len(files)), listens=listens)
    is_part = len(some.samples) < len(data.samples)
    others = len(files_of(data.samples)) - len(files) if is_part else 0
    notes = list[str]()
    chosen, damaged = _chosen(some, looked, encoding)
    if chosen is not None:
        rules = attrs.evolve(rules, buckets=chosen.buckets)
        notes.append(f"{data.path}: {chosen.told(encoding.root)}{', judging by the files that were opened' * is_part}")
    if not is_part:
        some, of_windows = windowed(data, looked, rules)
        notes += of_windows
        encoding = attrs.evolve(encoding, data=some)
    there = as_begun(encoding.root, some, rules, encoding.tools) if keeps else {}
    before = {name: planned for name, planned in there.items() if planned.without}
    now = attrs.evolve(some, samples=tuple(sample for sample in some.samples if sample.name not in before))
    silent = silent_set(now, looked)
    if is_part and encoding.options.on_error == "skip":  # clips that were not opened may have audio
        silent = None
    if silent is not None:
        now = attrs.evolve(now, folders=now.folders - now.columns.folders_of("audio"))
        rules = attrs.evolve(rules, folders=now.folders)
    rules, note, sizeless = _with_buckets(now, looked, rules, encoding, damaged)
    notes += [f"{note} that were opened" if is_part else note] if note else []
    if rules.buckets and (told := hdr_told(now, looked, encoding.options.hdr)):
        notes.append(told)
    planned, refused = _planned(some.samples, before, looked, rules)
    if some.may_lack and (told := streams_told((each.modalities(some.columns), 1) for each in planned.values())):
        notes.append(f"{some.path}: {told}{' in the files that were opened' if is_part else ''}")
    if encoding.options.on_error == "skip":
        planned |= {each.sample.name: each.part for each in refused if each.part is not None}
    of_some = f" (of {len(files)} files that were opened)" if is_part else ""
    return Survey(
        encoding=attrs.evolve(encoding, rules=rules),
        samples=some.samples,
        looked=looked,
        planned=tuple(planned[sample.name] for sample in some.samples if sample.name in planned),
        refused=tuple(refused),
        kept=frozenset(there) - frozenset(before),
        silent=silent and _adding(silent, of_some),
        sizeless=sizeless and type(sizeless).of(_adding(problem, of_some) for problem in sizeless.problems),
        notes=tuple(notes),
        opened=len(files),
        others=others,
        chosen=chosen,
    )


def glance(encoding: Encoding, phase: Phase, *, keeps: bool = False) -> Survey:
    """Look at the headers of at most `MOST_OPENED` files of a dataset, for `ltx check`; at all of them if each clip has windows, whose
    number depends on its length.

    Args:
        encoding: the dataset, and how it is encoded.
        phase: a function that shows progress.
        keeps: as in `survey`.
    """
    most = MOST_OPENED if encoding.rules.windows == BEGINNING else None
    return survey(encoding, usual_workers(), phase, most=most, listens=False, keeps=keeps)


def spread(samples: Sequence[Sample], most: int | None = None) -> list[Sample]:
    """Pick at least one sample, and as many as have at most `most` files together, by default `MOST_OPENED`. The picked samples are evenly
    spread over all, and the same each time.
    """
    chosen, most = list(samples), most or MOST_OPENED
    while len(chosen) > 1 and (files := len(files_of(chosen))) > most:
        count = min(len(chosen) - 1, max(1, len(chosen) * most // files))
        chosen = [samples[index * (len(samples) - 1) // max(1, count - 1)] for index in range(count)]
    return chosen


def _chosen(data: Dataset, looked: Looked, encoding: Encoding) -> tuple[Chosen | None, DataError | None]:
    """Return the buckets that are chosen for the clips, if the options ask for that, or else the reason why none can be chosen."""
    try:
        return buckets_for(data, looked, encoding), None
    except DataError as error:
        return None, error


def _with_buckets(
    data: Dataset, looked: Looked, rules: Rules, encoding: Encoding, error: LtxError | None
) -> tuple[Rules, str, LtxError | None]:
    """Return the rules with the clips' common size as the bucket, and a note that states it; if there is no common size, return the reason
    (`error`, if that is known).
    """
    video = encoding.tools.video
    if video is None or (encoding.is_ruled and not needs_buckets(data, rules)):
        return rules, "", None
    if encoding.is_ruled and error is None:
        try:
            bucket, note = found_buckets(data, rules, looked, video, encoding.where)
            return attrs.evolve(rules, buckets=(bucket,)), note, None
        except LtxError as found:
            error = found
    # Each clip is planned with the size nearest to its own, so that everything else about the clip is still checked.
    return attrs.evolve(rules, buckets=tuple(sorted({nearest(size, video.scale) for size in sizes_of(data, looked, rules)}))), "", error


def _planned(
    samples: Sequence[Sample], before: Mapping[str, Planned], looked: Looked, rules: Rules
) -> tuple[dict[str, Planned], list[Refused]]:
    """Plan the samples, and return the plans for complete ones, by name, and the samples that are refused. Samples in `before` keep their
    plans.
    """
    planned: dict[str, Planned] = {}
    refused = []
    for sample in samples:
        found = before.get(sample.name) or plan_sample(sample, looked, rules)
        if isinstance(found, Planned):
            planned[sample.name] = found
        else:
            refused.append(Refused(sample, tuple(found), plan_part(sample, looked, rules)))
    return planned, refused


def _adding(problem: Problem, more: str) -> Problem:
    return attrs.evolve(problem, what=problem.what + more)
