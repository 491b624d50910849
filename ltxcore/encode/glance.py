"""The headers of some of a dataset's files, for `ltx check`: what preprocessing would say of them, without decoding one.

A large dataset has more files than a check of seconds can open. It opens the same few each time, evenly spread over the rows, says how many it left, and `ltx
doctor` opens every one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs

from ltxcore.codecs.source import Model
from ltxcore.config.parts import is_whole
from ltxcore.config.run_file import PreprocessingTable
from ltxcore.dataset.raw import RawFiles
from ltxcore.dataset.rows import Dataset, Sample
from ltxcore.encode.buckets import nearest
from ltxcore.encode.connected import connected
from ltxcore.encode.outdated import as_begun
from ltxcore.encode.products import Tools
from ltxcore.encode.rules import (
    Place,
    found_buckets,
    hdr_told,
    needs_buckets,
    rendering_from_options,
    rules_from_options,
    silent_set,
    sizes_of,
)
from ltxcore.encode.sample_sizes import SOUND_FOLDERS, Looked, Planned, Rules, files_of, look_at, plan, plan_part, unreadable
from ltxcore.encode.work import TEXT
from ltxcore.errors import Problem, collecting
from ltxcore.progress import Phase
from ltxcore.protocols import Codec, TextEncoder
from ltxcore.workers import usual_workers

MOST_OPENED = 200
"""Files of a dataset that a check opens."""


@attrs.frozen(eq=False)
class Encoders:
    """What encodes a dataset, as far as it is needed and can be had; nothing of their weights is read.

    Attributes:
        model: that they belong to; none: not all of it can be read, and the grid is that of all models of the family.
        text: the text encoder; none: there is none, or no caption is encoded.
        problems: why one of them is missing.
    """

    model: Model | None
    text: TextEncoder | None
    problems: tuple[Problem, ...]


@attrs.frozen(eq=False)
class Glance:
    """What the headers of some files of a dataset say.

    Attributes:
        data: the dataset.
        root: where its samples are, or will be.
        rules: that samples are planned by.
        planned: the samples that can be encoded, of those that were looked at.
        unfit: names of those that cannot, or not whole.
        problems: what preprocessing would refuse.
        left_out: what it would leave out since `on_error` says so.
        notes: what the user should know.
        opened: files that were looked at.
        others: files that were not.
        tools: that know the files.
        encoders: of the samples.
        has_sizes: whether it is known what the clips would be fitted to.
    """

    data: Dataset
    root: Path
    rules: Rules
    planned: tuple[Planned, ...]
    unfit: frozenset[str]
    problems: tuple[Problem, ...]
    left_out: tuple[Problem, ...]
    notes: tuple[str, ...]
    opened: int
    others: int
    tools: Tools
    encoders: Encoders
    has_sizes: bool


def spread(samples: Sequence[Sample]) -> list[Sample]:
    """Some samples that have at most `MOST_OPENED` files together, but at least one sample: the same ones each time, evenly spread over all of them."""
    chosen, most = list(samples), MOST_OPENED
    while len(chosen) > 1 and (files := len(files_of(chosen))) > most:
        count = min(len(chosen) - 1, max(1, len(chosen) * most // files))
        chosen = [samples[index * (len(samples) - 1) // max(1, count - 1)] for index in range(count)]
    return chosen


def encoders_of(data: Dataset, options: PreprocessingTable, model: Model | None, where: Place) -> Encoders:
    """What encodes a dataset.

    Args:
        data: the dataset.
        options: of preprocessing.
        model: whose; none: it cannot be read. One of its parts may not be known (`config.parts`).
        where: gives the place of a key of the run file.
    """
    problems: list[Problem] = []
    text = None
    if model is not None and TEXT in data.folders:
        with collecting(problems):
            text = model.text()
        with collecting(problems, where("preprocessing.connector_outputs")):
            if text is not None and options.connector_outputs:
                text = connected(text, model.path, model.device)
    with collecting(problems):
        if model is not None and _has_clips(data):
            model.video()
    with collecting(problems):
        if model is not None and data.folders & SOUND_FOLDERS:
            model.audio()
    return Encoders(None if problems or not is_whole(model) else model, text, tuple(problems))


def glance(
    data: Dataset, root: Path, options: PreprocessingTable, encoders: Encoders, where: Place, phase: Phase, *, keeps: bool = False
) -> Glance:
    """Look at the headers of a dataset's files, of at most `MOST_OPENED`.

    Args:
        data: the dataset.
        root: where its samples are, or will be.
        options: of preprocessing.
        encoders: of the dataset.
        where: gives the place of a key of the run file, for messages.
        phase: shows progress.
        keeps: whether samples that are stale only since something is set right in reading their files stay as they are, for a run that began with them.
    """
    video, audio = _codecs(data, encoders.model)
    problems: list[Problem] = []
    rules, has_sizes = Rules(data.folders), False
    with collecting(problems):
        rules, has_sizes = rules_from_options(data, options, video, audio, where), True
    raw = RawFiles(root, data.folder.absolute(), writes=False, resamples=rules.resamples)
    some = attrs.evolve(data, samples=tuple(spread(data.samples)))
    files = files_of(some.samples)
    looked = look_at(some.samples, raw, usual_workers(), phase("files", len(files)), listens=False)
    others = len(files_of(data.samples)) - len(files)
    is_part = len(some.samples) < len(data.samples)
    tools = Tools(raw, video, audio, rules.factors, rendering=rendering_from_options(options, where))
    there = as_begun(root, some, rules, tools) if keeps else {}
    before = {name: planned for name, planned in there.items() if planned.without}
    now = attrs.evolve(some, samples=tuple(sample for sample in some.samples if sample.name not in before))
    silent = silent_set(now, looked)
    if silent is not None and (not is_part or options.on_error == "stop"):
        problems.append(_of_some(silent, len(files)) if is_part else silent)
        now = attrs.evolve(now, folders=now.folders - SOUND_FOLDERS)
        rules = attrs.evolve(rules, folders=now.folders)
    notes: list[str] = []
    if video is not None and has_sizes and needs_buckets(now, rules):
        rules, note, sizes = _with_bucket(now, looked, rules, video, where)
        notes += [f"{note} that were opened" if is_part else note] if note else []
        problems += [_of_some(problem, len(files)) for problem in sizes] if is_part else sizes
        has_sizes = not sizes
    if video is not None and not has_sizes:
        # Each clip by the size nearest to its own, so that the rest of it is looked at nevertheless.
        rules = attrs.evolve(rules, buckets=tuple(sorted({nearest(size, video.scale) for size in sizes_of(now, looked)})))
    if rules.buckets and (told := hdr_told(some, looked, options.hdr)):
        notes.append(told)
    planned, found, left_out = _planned(now, looked, rules, options, is_part)
    planned = (*before.values(), *planned)
    return Glance(
        data=data,
        root=root,
        rules=rules,
        planned=planned,
        unfit=frozenset(each.name for each in some.samples) - {each.sample.name for each in planned if each.folders == data.folders},
        problems=(*problems, *found),
        left_out=left_out,
        notes=tuple(notes),
        opened=len(files),
        others=others,
        tools=tools,
        encoders=encoders,
        has_sizes=has_sizes,
    )


def _codecs(data: Dataset, model: Model | None) -> tuple[Codec | None, Codec | None]:
    """Of clips and of sounds, as far as a dataset has any. Without a model, those of the tiny one say what a latent cell covers: all models of the family have
    the same grid."""
    model = model or Model("tiny", device="cpu")
    return model.video() if _has_clips(data) else None, model.audio() if data.folders & SOUND_FOLDERS else None


def _with_bucket(data: Dataset, looked: Looked, rules: Rules, video: Codec, where: Place) -> tuple[Rules, str, list[Problem]]:
    """The rules with the one size that all clips have, and a note that says so; or why they have none."""
    problems: list[Problem] = []
    note = ""
    with collecting(problems):
        bucket, note = found_buckets(data, rules, looked, video, where)
        rules = attrs.evolve(rules, buckets=(bucket,))
    known = {problem for sample in data.samples for problem in unreadable(sample, looked)}
    return rules, note, [problem for problem in problems if problem not in known]


def _planned(
    data: Dataset, looked: Looked, rules: Rules, options: PreprocessingTable, is_part: bool
) -> tuple[tuple[Planned, ...], tuple[Problem, ...], tuple[Problem, ...]]:
    """The samples that can be made; what stands in the way of the others; and of those that are left out."""
    planned: list[Planned] = []
    problems: list[Problem] = []
    for sample in data.samples:
        found = plan(sample, looked, rules)
        if isinstance(found, Planned):
            planned.append(found)
            continue
        problems += found
        if options.on_error == "skip" and (part := plan_part(sample, looked, rules)) is not None:
            planned.append(part)
    whole = [each for each in planned if each.folders == data.folders]
    if options.on_error == "skip" and (whole or is_part):
        return tuple(planned), (), tuple(problems)
    return tuple(planned), tuple(problems), ()


def _of_some(problem: Problem, files: int) -> Problem:
    """A problem of a dataset of which not all was looked at."""
    return attrs.evolve(problem, what=f"{problem.what} (of {files} files that were opened)")


def _has_clips(data: Dataset) -> bool:
    return any("video" in sample.media for sample in data.samples)
