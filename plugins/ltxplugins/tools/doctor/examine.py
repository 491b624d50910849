"""Examine a dataset, an encoded set, or a run file with its data."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ltxcore.api import DataError
from ltxcore.api.commands import usual_workers
from ltxcore.api.dataset import PreprocessingTable
from ltxcore.api.models import Codecs
from ltxplugins.tools.doctor.dataset import Request, examine_dataset
from ltxplugins.tools.doctor.encoded import examine_encoded
from ltxplugins.tools.doctor.findings import Checkup, Phase
from ltxplugins.tools.doctor.fresh import examine_fresh

if TYPE_CHECKING:
    from ltxcore.api.dataset import Survey
    from ltxcore.api.encoded import StrategyData
    from ltxcore.api.runs import RunData


@attrs.frozen(eq=False)
class Options:
    """The settings for examining data.

    Attributes:
        preprocessing: the options for encoding a dataset.
        codecs: the codecs that encode the dataset; None if they are not known. A run file names its own codecs.
        root: the folder of a dataset's encoded samples; None for the default, beside the dataset.
        where: a function that returns the place of a preprocessing option, for messages.
        settings: settings of the form `a.b=c`, which override values of a run file.
        deep: whether to decode all frames and read all encoded files that a run would use.
        workers: the number of samples to examine at a time; None for one per processor, but at most 8.
        samples: the maximum number of samples of which encoded files are read; None for all.
    """

    preprocessing: PreprocessingTable = attrs.field(factory=PreprocessingTable)
    codecs: Codecs | None = None
    root: Path | None = None
    where: Callable[[str], str] = str
    settings: tuple[str, ...] = ()
    deep: bool = False
    workers: int | None = None
    samples: int | None = None

    @property
    def threads(self) -> int:
        """The number of samples to examine at a time."""
        return self.workers or usual_workers()


def examine(path: Path, options: Options, phase: Phase) -> Checkup:
    """Examine a run file (.toml), a folder of encoded samples, a folder of media, or a dataset file, and write nothing.

    Raises:
        DataError: the path does not exist, or is none of these.
        ConfigError: the run file has mistakes, or the options do not fit the codec.
    """
    from ltxcore.api.dataset import data_kind, default_root

    checkup, kind = Checkup(), data_kind(path, options.preprocessing)
    if kind == "encoded set":
        _root(path, options, checkup, phase)
    elif kind == "run file":
        _run(path, options, checkup, phase)
    else:
        if path.is_dir():
            checkup.say(f"{path}: taken for a folder of media, since it has media and no encoded samples.")
        root = options.root or default_root(path, options.preprocessing)
        request = Request(options.preprocessing, options.codecs, root, None, options.where, options.deep, options.threads)
        found = examine_dataset(path, request, checkup, phase)
        encoded = None if found is None else _encoded_of(found, None, checkup, phase)
        if encoded is not None:
            examine_encoded(encoded, checkup, phase, options.deep, options.samples)
    return checkup


def _root(path: Path, options: Options, checkup: Checkup, phase: Phase) -> None:
    from ltxcore.api.encoded import whole_set

    encoded = whole_set(path, trains_without=bool(options.preprocessing.may_lack))
    if encoded.root != path:
        checkup.say(
            f"{path}: taken for the folder of a dataset file, since it has {encoded.root.name}, which was checked; its media were not."
        )
    for folder in encoded.unread:
        checkup.say(f"{encoded.root / folder}: not checked, because there are no latents that belong to it.")
    checkup.say(f"{encoded.root}: whether it is up to date with its raw media can only be checked if you name the dataset or a run file.")
    examine_encoded(encoded, checkup, phase, options.deep, options.samples)


def _encoded_of(found: Survey, run: StrategyData | None, checkup: Checkup, phase: Phase) -> StrategyData | None:
    """Compare the samples that are already encoded for a dataset with those that would be encoded now, and return their
    set; None if nothing is encoded.

    Args:
        found: the dataset.
        run: the set that a run reads; None for all folders that the dataset makes.
        checkup: the checkup that collects the findings.
        phase: the function that shows progress.
    """
    from ltxcore.api.encoded import whole_set

    root, total = found.encoding.root, len(found.planned)
    folders = _folders(root, found.encoding.rules.folders if run is None else {source.folder for source in run.sources.values()})
    there = found.encoded(folders)
    rest = "" if len(there) == total else "; `ltx preprocess` or the first run encodes the others"
    checkup.say(f"{root}: {len(there)} of {total} samples are encoded{rest}.")
    if not there:
        return None
    try:
        trains_without = bool(found.encoding.options.may_lack)
        encoded = whole_set(root, folders, there, trains_without=trains_without) if run is None else attrs.evolve(run, only=there)
    except DataError:  # without latents, a run can read nothing
        return None
    if found.has_sizes:
        checkup.add(examine_fresh(found, folders, phase("fresh", total)))
    else:
        checkup.say(f"{root}: whether it is up to date was not checked, because the sizes of the dataset are unknown.")
    return encoded


def _folders(root: Path, wanted: Collection[str]) -> list[str]:
    return sorted(folder for folder in wanted if (root / folder).is_dir())


def _run(path: Path, options: Options, checkup: Checkup, phase: Phase) -> None:
    from ltxcore.api.runs import data_of_run

    run = data_of_run(path, options.settings)
    for dataset, encoded, preprocessing in run.sets:
        if dataset is None:
            _of_run(run, encoded, checkup, phase, options)
            continue
        request = Request(preprocessing, run.codecs, encoded.root, run.folders, run.where, options.deep, options.threads)
        rows = examine_dataset(dataset, request, checkup, phase)
        there = None if rows is None else _encoded_of(rows, encoded, checkup, phase)
        if there is not None:
            _of_run(run, there, checkup, phase, options)


def _of_run(run: RunData, encoded: StrategyData, checkup: Checkup, phase: Phase, options: Options) -> None:
    """Examine the encoded samples of a run, including whether they were made for its model."""
    manifest = examine_encoded(encoded, checkup, phase, options.deep, options.samples)
    if manifest is not None:
        checkup.refuse("model", run.misfits(encoded, manifest))
