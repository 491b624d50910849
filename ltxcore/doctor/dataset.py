"""A dataset, a file or a folder, and its raw media, by the rules of preprocessing; and what is encoded of them already."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import attrs

from ltxcore.codecs.official.text import LENGTH
from ltxcore.codecs.source import Model
from ltxcore.config.run_file import PreprocessingTable
from ltxcore.dataset.raw import RawFiles
from ltxcore.dataset.rows import Dataset, survey_dataset
from ltxcore.doctor.captions import examine_captions
from ltxcore.doctor.findings import Checkup, Finding
from ltxcore.doctor.masks import examine_masks
from ltxcore.doctor.pictures import different_rates, examine_pictures, same_clips
from ltxcore.doctor.sounds import examine_sounds
from ltxcore.encode.buckets import nearest
from ltxcore.encode.connected import connected
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
from ltxcore.errors import ConfigError, DataError, LtxError
from ltxcore.progress import Phase
from ltxcore.protocols import TextEncoder
from ltxcore.workers import in_order


@attrs.frozen(eq=False)
class Request:
    """How a dataset is to be examined.

    Attributes:
        options: of preprocessing.
        model: whose codecs will encode it; none: not known, and the grid of all LTX-2 models is taken.
        root: where its samples are, or will be.
        folders: that a run reads; none: all that the dataset's columns can make.
        where: gives the place of a key of the run file, for messages.
        deep: whether all frames that are used are decoded.
        workers: samples examined at a time.
    """

    options: PreprocessingTable
    model: Model | None
    root: Path
    folders: Collection[str] | None = None
    where: Place = str
    deep: bool = False
    workers: int = 1


@attrs.frozen(eq=False)
class Examined:
    """A dataset that was examined.

    Attributes:
        data: its rows that are in order.
        rules: that samples are planned by.
        planned: those that can be encoded.
        tools: that they are encoded with.
        encoder: of their captions; none: not known.
        has_sizes: whether it is known what preprocessing would fit the clips to.
    """

    data: Dataset
    rules: Rules
    planned: tuple[Planned, ...]
    tools: Tools
    encoder: TextEncoder | None
    has_sizes: bool


def examine_dataset(path: Path, request: Request, checkup: Checkup, phase: Phase) -> Examined | None:
    """Examine a dataset's rows and media; none where there are no rows to look at.

    Raises:
        ConfigError: options that do not go with the codec.
    """
    there = [each.name for each in request.root.iterdir() if each.is_dir()] if request.root.is_dir() else []
    try:
        data, problems = survey_dataset(path, request.options, request.folders, there)
    except DataError as error:
        checkup.refuse("dataset", error.problems)
        return None
    checkup.refuse("dataset", problems)
    checkup.refuse("dataset", data.left_out, "warning")
    for note in data.notes:
        checkup.say(f"{note}.")
    encoder = _encoder(request) if TEXT in data.folders else None
    if TEXT in data.folders:
        checkup.add(examine_captions(data, request.options.lora_trigger, LENGTH if encoder is None else encoder.length))
    return _media(data, request, encoder, checkup, phase)


def _encoder(request: Request) -> TextEncoder | None:
    try:
        if request.model is None:
            return None
        encoder, model = request.model.text(), request.model
        return connected(encoder, model.path, model.device) if request.options.connector_outputs else encoder
    except ConfigError:  # it is not named, for a set that was encoded elsewhere
        return None


def _media(data: Dataset, request: Request, encoder: TextEncoder | None, checkup: Checkup, phase: Phase) -> Examined:
    # Without a model, the tiny one says what a latent cell covers: all models of the family have the same grid.
    model = request.model or Model("tiny", device="cpu")
    video = model.video() if any("video" in sample.media for sample in data.samples) else None
    audio = model.audio() if data.folders & SOUND_FOLDERS else None
    rules = rules_from_options(data, request.options, video, audio, request.where)
    raw = RawFiles(request.root, data.folder.absolute(), writes=False, resamples=rules.resamples)
    tools = Tools(raw, video, audio, rules.factors, rendering=rendering_from_options(request.options, request.where))
    files = files_of(data.samples)
    looked = look_at(data.samples, tools.raw, request.workers, phase("files", len(files)))
    for sample in data.samples:
        checkup.refuse("unreadable", unreadable(sample, looked))
    silent = silent_set(data, looked)
    if silent is not None:
        checkup.refuse("no-sound", [silent])
        data = attrs.evolve(data, folders=data.folders - SOUND_FOLDERS)
        rules = attrs.evolve(rules, folders=data.folders)
    rules, has_sizes = _with_buckets(data, rules, looked, tools, request, checkup)
    planned = _planned(data, rules, looked, request, checkup)
    checkup.add(different_rates(data, looked))
    if told := hdr_told(data, looked, request.options.hdr):
        checkup.say(f"{told}.")
    checkup.add(same_clips(data.samples, tools.raw, phase("copies", len(data.samples))))
    chosen = bool(request.options.resolution_buckets)
    step = phase("media", len(planned))

    def examine(each: Planned) -> list[Finding]:
        found = [
            *examine_pictures(each, looked, chosen=chosen, deep=request.deep, resamples=rules.resamples),
            *examine_sounds(each, looked, each.folders),
            *(examine_masks(each, tools, each.folders) if has_sizes or each.bucket is None else ()),
        ]
        step()
        return found

    for found in in_order(examine, planned, request.workers):
        checkup.add(found)
    _tell(data, len(files), request, checkup)
    return Examined(data, rules, tuple(planned), tools, encoder, has_sizes)


def _with_buckets(data: Dataset, rules: Rules, looked: Looked, tools: Tools, request: Request, checkup: Checkup) -> tuple[Rules, bool]:
    """The rules with the buckets that preprocessing would take; and whether it would take any."""
    if tools.video is None or not needs_buckets(data, rules):
        return rules, True
    try:
        bucket, note = found_buckets(data, rules, looked, tools.video, request.where)
    except LtxError as error:
        known = {problem for sample in data.samples for problem in unreadable(sample, looked)}
        checkup.refuse("sizes", [problem for problem in error.problems if problem not in known])
        # Each clip by the size nearest to its own, so that the rest of it is looked at nevertheless.
        return attrs.evolve(rules, buckets=tuple(sorted({nearest(size, tools.video.scale) for size in sizes_of(data, looked)}))), False
    checkup.say(f"{note}.")
    return attrs.evolve(rules, buckets=(bucket,)), True


def _planned(data: Dataset, rules: Rules, looked: Looked, request: Request, checkup: Checkup) -> list[Planned]:
    """The samples that preprocessing would make; the others are noted."""
    planned: list[Planned] = []
    problems = []
    for sample in data.samples:
        if any(True for _ in unreadable(sample, looked)):
            continue
        found = plan(sample, looked, rules)
        if isinstance(found, Planned):
            planned.append(found)
            continue
        problems += found
        part = plan_part(sample, looked, rules)
        if request.options.on_error == "skip" and part is not None:
            planned.append(part)
    # Where the user said that such samples are left out, they stop nothing as long as others are left.
    checkup.refuse("unusable", problems, "warning" if request.options.on_error == "skip" and planned else "error")
    return planned


def _tell(data: Dataset, files: int, request: Request, checkup: Checkup) -> None:
    checkup.say(
        f"{data.path}: {_count(len(data.samples), 'file' if data.is_folder else 'row')} in order, for {', '.join(sorted(data.folders)) or 'nothing'}."
    )
    decoded = "every frame that is used" if request.deep else "the first frame"
    more = "" if request.deep else " (--deep decodes all that are used)"
    checkup.say(f"{_count(files, 'media file')}: opened; of clips {decoded} was decoded{more}, of sounds and masks what is used.")
    if request.model is None:
        checkup.say("The sizes are those of all LTX-2 models, since no --model-path was named.")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
