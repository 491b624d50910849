"""The survey of a dataset: everything that preprocessing would make of it, known from the headers of its files, before
anything is encoded.

`ltx preprocess` begins with a survey, `ltx doctor` reports all of one, and `ltx check` surveys only some files, since a
check takes seconds and a large dataset has too many files to open. A check opens the same few each time, evenly spread
over the rows, and says how many it did not open.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import attrs
from torch import Tensor

from ltxcore.codecs.official.text import LENGTH
from ltxcore.codecs.source import Codecs
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.dataset.rows import Dataset, Sample
from ltxcore.encode.buckets import nearest
from ltxcore.encode.encoding import Encoding, encoding_of, text_encoder_of
from ltxcore.encode.outdated import as_begun
from ltxcore.encode.products import mask_alone
from ltxcore.encode.rules import Place, found_buckets, hdr_told, needs_buckets, silent_set, sizes_of
from ltxcore.encode.sample_sizes import (
    SOUND_FOLDERS,
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
from ltxcore.encode.work import TEXT
from ltxcore.encoded.listing import whole_samples
from ltxcore.errors import ConfigError, LtxError, Problem
from ltxcore.files import why_unreadable
from ltxcore.media.probe import MediaInfo
from ltxcore.progress import Phase
from ltxcore.workers import usual_workers

MOST_OPENED = 200
"""The most files of a dataset that a check opens."""


@attrs.frozen(eq=False)
class Refused:
    """A sample that cannot be made completely.

    Attributes:
        sample: the dataset's row.
        problems: the reasons why it cannot be made.
        part: the part that can be made from it; None if there is none, or something else is wrong too.
    """

    sample: Sample
    problems: tuple[Problem, ...]
    part: Planned | None


@attrs.frozen(eq=False)
class Survey:
    """The plan of what preprocessing would make of a dataset, or of a part of it.

    Attributes:
        encoding: the dataset, and how it is encoded; the folders of its rules lack those of audio if no clip has any,
            and its buckets are those that were found.
        samples: the samples that were looked at.
        looked: the facts that were found about their files.
        planned: the samples that can be made, in order; if `on_error` is "skip", also those of which a part can.
        refused: the samples that cannot be made completely.
        kept: the names of the samples that the run began with and that were encoded after the reading of their files
            was corrected.
        silent: the problem that no clip has audio, though it is wanted; None if that is not so.
        sizeless: the reason why the sizes that the clips would be fitted to are not known; None if they are, or are not
            needed.
        notes: facts that the user should know.
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

    @property
    def has_sizes(self) -> bool:
        """Whether the sizes that the clips would be fitted to are known."""
        return self.encoding.is_ruled and self.sizeless is None

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The problems for which preprocessing would refuse the dataset, each once."""
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
        """The names of the samples that were looked at and cannot be made completely."""
        return frozenset(sample.name for sample in self.samples) - self.whole

    @functools.cached_property
    def whole(self) -> frozenset[str]:
        """The names of the samples for which everything can be made that the dataset is encoded for."""
        return frozenset(each.sample.name for each in self.planned if each.folders == self.encoding.data.folders)

    @property
    def leaves_out(self) -> bool:
        """Whether samples that cannot be made are left out rather than refused: the user asked for it, and others
        remain, as far as all files were looked at.
        """
        if self.encoding.options.on_error != "skip":
            return False
        is_part = len(self.samples) < len(self.encoding.data.samples)
        return is_part or any(each.folders == self.encoding.rules.folders for each in self.planned)

    @property
    def text_length(self) -> int:
        """The number of tokens that the text encoder takes; that of LTX-2 if it is not known."""
        return LENGTH if self.encoding.text is None else self.encoding.text.length

    def unreadable(self, sample: Sample) -> tuple[Problem, ...]:
        """Find the files of a sample that cannot be read."""
        return tuple(unreadable(sample, self.looked))

    def encoded(self, folders: Collection[str]) -> tuple[str, ...]:
        """Return the names of the samples that are already encoded in all of some folders, up to date or not."""
        return whole_samples(self.encoding.root, folders, [each.sample.name for each in self.planned]) if folders else ()

    def copies(self, step: Callable[[], None]) -> Iterator[tuple[Sample, Path, Sample]]:
        """Find rows whose clip, or audio file if there is no clip, is a copy of an earlier row's: the row, the file,
        and the other row. Only files of equal size are read.

        Args:
            step: a function that is called after each row.
        """
        by_size: dict[int, list[tuple[Sample, Path]]] = {}
        for sample in self.samples:
            path = sample.media.get("video", sample.media.get("audio"))
            if path is not None and not why_unreadable(path):
                by_size.setdefault(path.stat().st_size, []).append((sample, path))
        for alike in by_size.values():
            first: dict[str, Sample] = {}
            for sample, path in alike:
                other = sample if len(alike) == 1 else first.setdefault(self.encoding.tools.raw.content(path), sample)
                if other is not sample:
                    yield sample, path, other
                step()

    def mask(self, planned: Planned, folder: str) -> Tensor:
        """Make a mask of a sample as it is encoded. An audio mask keeps its own length, since that of the audio latents
        is not known before they are made.

        Raises:
            DataError: it cannot be made.
        """
        return mask_alone(folder, planned, self.encoding.tools)

    def infos(self, sample: Sample) -> dict[str, MediaInfo]:
        """Return descriptions of the readable files of a sample, by role; if uneven clips are resampled, files whose
        frames correspond to a clip's get its frames and rate.
        """
        return infos_of(sample, self.looked, self.encoding.rules.resamples)


def survey_media(
    data: Dataset, root: Path, options: PreprocessingTable, codecs: Codecs | None, workers: int, phase: Phase, where: Place = str
) -> Survey:
    """Look at the headers of all files of a dataset, and plan its samples. Nothing is written, and what is wrong with
    the dataset is returned, not raised.

    Args:
        data: the dataset.
        root: the folder where its samples are, or will be.
        options: the options of preprocessing.
        codecs: the VAEs and text encoder that encode it; if None, the grid of all LTX-2 models is used.
        workers: the number of files to look at at a time.
        phase: a function that shows progress.
        where: a function that returns the place of an option or a key of the run file, for messages.

    Raises:
        ConfigError: a codec is not available, or options do not fit it or contradict each other.
    """
    text = None
    with contextlib.suppress(ConfigError):  # no model is named, for a set that was encoded elsewhere
        text = text_encoder_of(codecs, options, where) if codecs is not None and TEXT in data.folders else None
    return survey(encoding_of(data, root, options, codecs, where, text=text), workers, phase)


def survey(encoding: Encoding, workers: int, phase: Phase, *, most: int | None = None, listens: bool = True, keeps: bool = False) -> Survey:
    """Look at the headers of a dataset's files, and plan its samples. What is wrong with the dataset is returned, not
    raised.

    Args:
        encoding: the dataset, and how it is encoded.
        workers: the number of files to look at at a time.
        phase: a function that shows progress.
        most: the most files to look at, of samples that are spread over all; None for every file.
        listens: whether audio whose exact length is needed is decoded.
        keeps: whether samples that are stale only because the reading of their files was corrected stay as they are,
            for a run that began with them.
    """
    data, rules = encoding.data, encoding.rules
    some = data if most is None else attrs.evolve(data, samples=tuple(spread(data.samples, most)))
    files = files_of(some.samples)
    looked = look_at(some.samples, encoding.tools.raw, workers, phase("files", len(files)), listens=listens)
    is_part = len(some.samples) < len(data.samples)
    there = as_begun(encoding.root, some, rules, encoding.tools) if keeps else {}
    before = {name: planned for name, planned in there.items() if planned.without}
    now = attrs.evolve(some, samples=tuple(sample for sample in some.samples if sample.name not in before))
    silent = silent_set(now, looked)
    if is_part and encoding.options.on_error == "skip":  # others may have audio
        silent = None
    if silent is not None:
        now = attrs.evolve(now, folders=now.folders - SOUND_FOLDERS)
        rules = attrs.evolve(rules, folders=now.folders)
    rules, note, sizeless = _with_buckets(now, looked, rules, encoding)
    notes = [f"{note} that were opened" if is_part else note] if note else []
    if rules.buckets and (told := hdr_told(now, looked, encoding.options.hdr)):
        notes.append(told)
    planned, refused = _planned(some.samples, before, looked, rules)
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
        others=len(files_of(data.samples)) - len(files),
    )


def glance(encoding: Encoding, phase: Phase, *, keeps: bool = False) -> Survey:
    """Look at the headers of at most `MOST_OPENED` files of a dataset, for `ltx check`.

    Args:
        encoding: the dataset, and how it is encoded.
        phase: a function that shows progress.
        keeps: as in `survey`.
    """
    return survey(encoding, usual_workers(), phase, most=MOST_OPENED, listens=False, keeps=keeps)


def spread(samples: Sequence[Sample], most: int | None = None) -> list[Sample]:
    """Pick samples that have at most `most` files together, by default `MOST_OPENED`, but at least one sample. The same
    ones are picked each time, evenly spread over all of them.
    """
    chosen, most = list(samples), most or MOST_OPENED
    while len(chosen) > 1 and (files := len(files_of(chosen))) > most:
        count = min(len(chosen) - 1, max(1, len(chosen) * most // files))
        chosen = [samples[index * (len(samples) - 1) // max(1, count - 1)] for index in range(count)]
    return chosen


def _with_buckets(data: Dataset, looked: Looked, rules: Rules, encoding: Encoding) -> tuple[Rules, str, LtxError | None]:
    """Return the rules with the one size that all clips have, and a note that says so, or else the reason why there is none."""
    video, error = encoding.tools.video, None
    if video is None or (encoding.is_ruled and not needs_buckets(data, rules)):
        return rules, "", None
    if encoding.is_ruled:
        try:
            bucket, note = found_buckets(data, rules, looked, video, encoding.where)
            return attrs.evolve(rules, buckets=(bucket,)), note, None
        except LtxError as found:
            error = found
    # Each clip is planned with the size nearest to its own, so that everything else about it is still checked.
    return attrs.evolve(rules, buckets=tuple(sorted({nearest(size, video.scale) for size in sizes_of(data, looked)}))), "", error


def _planned(
    samples: Sequence[Sample], before: Mapping[str, Planned], looked: Looked, rules: Rules
) -> tuple[dict[str, Planned], list[Refused]]:
    """Plan the samples: return those that can be made completely, by name, and the others. Samples in `before` stay as
    they were planned there.
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
