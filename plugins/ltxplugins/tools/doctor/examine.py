"""The examination of a dataset, of an encoded set, or of a run file with the data that it names."""

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
    """The settings for an examination.

    Attributes:
        preprocessing: the options with which a dataset is encoded.
        codecs: the codecs that encode it; None if they are not known. A run file names its own.
        root: the folder of a dataset's samples; None means the default, beside it.
        where: returns the place of a preprocessing option, for messages.
        settings: the settings `a.b=c`, written over the values of a run file.
        deep: whether frames are decoded and encoded files read as far as a run would.
        workers: the number of samples examined at a time; None means one per processor, at most 8.
    """

    preprocessing: PreprocessingTable = attrs.field(factory=PreprocessingTable)
    codecs: Codecs | None = None
    root: Path | None = None
    where: Callable[[str], str] = str
    settings: tuple[str, ...] = ()
    deep: bool = False
    workers: int | None = None

    @property
    def threads(self) -> int:
        """The number of samples examined at a time."""
        return self.workers or usual_workers()


def examine(path: Path, options: Options, phase: Phase) -> Checkup:
    """Examine a run file (.toml), a folder of encoded samples, a folder of media, or a dataset file. Nothing is
    written.

    Raises:
        DataError: it does not exist, or is none of these.
        ConfigError: the run file has mistakes, or the options do not fit the codec.
    """
    from ltxcore.api.dataset import data_kind, default_root

    checkup, kind = Checkup(), data_kind(path)
    if kind == "encoded set":
        _root(path, options, checkup, phase)
    elif kind == "run file":
        _run(path, options, checkup, phase)
    else:
        if path.is_dir():
            checkup.say(f"{path}: taken for a folder of media, since it has some and no encoded samples.")
        root = options.root or default_root(path, options.preprocessing)
        request = Request(options.preprocessing, options.codecs, root, None, options.where, options.deep, options.threads)
        found = examine_dataset(path, request, checkup, phase)
        encoded = None if found is None else _encoded_of(found, None, checkup, phase)
        if encoded is not None:
            examine_encoded(encoded, checkup, phase, options.deep)
    return checkup


def _root(path: Path, options: Options, checkup: Checkup, phase: Phase) -> None:
    from ltxcore.api.encoded import whole_set

    encoded = whole_set(path)
    if encoded.root != path:
        checkup.say(
            f"{path}: taken for the folder of a dataset file, since it has {encoded.root.name}, which was checked; as a folder of media it was not."
        )
    for folder in encoded.unread:
        checkup.say(f"{encoded.root / folder}: not checked, because there are no latents that belong to it.")
    checkup.say(f"{encoded.root}: whether it is up to date with its raw media can only be checked if you name the dataset or a run file.")
    examine_encoded(encoded, checkup, phase, options.deep)


def _encoded_of(found: Survey, run: StrategyData | None, checkup: Checkup, phase: Phase) -> StrategyData | None:
    """Compare the samples that are already encoded for a dataset with what would be encoded now; return None if there
    are none.

    Args:
        found: the dataset.
        run: the set that a run reads; None means all folders that the dataset makes.
        checkup: the checkup that takes the findings.
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
        encoded = whole_set(root, folders, there) if run is None else attrs.evolve(run, only=there)
    except DataError:  # without latents there is nothing that a run could read
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
    for dataset, encoded in run.sets:
        if dataset is None:
            _of_run(run, encoded, checkup, phase, options.deep)
            continue
        request = Request(run.options, run.codecs, encoded.root, run.folders, run.where, options.deep, options.threads)
        rows = examine_dataset(dataset, request, checkup, phase)
        there = None if rows is None else _encoded_of(rows, encoded, checkup, phase)
        if there is not None:
            _of_run(run, there, checkup, phase, options.deep)


def _of_run(run: RunData, encoded: StrategyData, checkup: Checkup, phase: Phase, deep: bool) -> None:
    """Examine a run's encoded samples, which must also have been made for its model."""
    manifest = examine_encoded(encoded, checkup, phase, deep)
    if manifest is not None:
        checkup.refuse("model", run.misfits(encoded, manifest))
