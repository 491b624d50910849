"""The doctor: a dataset, an encoded set, or a run file with the data that it names."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import attrs

from ltxcore.codecs.source import Model
from ltxcore.config.load import LoadedRun, load_run
from ltxcore.config.located import located
from ltxcore.config.run_file import PreprocessingTable
from ltxcore.dataset.folder import is_media_folder
from ltxcore.dataset.table import FORMATS
from ltxcore.doctor.dataset import Examined, Request, examine_dataset
from ltxcore.doctor.encoded import EncodedSet, Placed, at_folders, examine_encoded
from ltxcore.doctor.findings import Checkup
from ltxcore.doctor.fresh import examine_fresh
from ltxcore.doctor.whole import TARGETS, whole_set
from ltxcore.encode.roots import default_root
from ltxcore.encode.rules import Place
from ltxcore.encoded.listing import whole_samples
from ltxcore.encoded.sample_names import ENCODED, encoded_root
from ltxcore.errors import DataError, LtxError
from ltxcore.files import is_file, is_folder
from ltxcore.progress import Phase
from ltxcore.runs.fits import misfits
from ltxcore.runs.run_plan import Outline, outline
from ltxcore.workers import usual_workers


@attrs.frozen(eq=False)
class Options:
    """How to examine.

    Attributes:
        preprocessing: how a dataset is encoded.
        model: whose codecs encode it; none: not known. A run file names its own.
        root: where a dataset's samples are; none: by default beside it.
        where: gives the place of a preprocessing option, for messages.
        settings: `a.b=c`, written over the values of a run file.
        deep: whether frames are decoded and encoded files read as far as a run would.
        workers: samples examined at a time; none: one a processor, at most 8.
    """

    preprocessing: PreprocessingTable = attrs.field(factory=PreprocessingTable)
    model: Model | None = None
    root: Path | None = None
    where: Place = str
    settings: tuple[str, ...] = ()
    deep: bool = False
    workers: int | None = None

    @property
    def threads(self) -> int:
        """Samples examined at a time."""
        return self.workers or usual_workers()


def examine(path: Path, options: Options, phase: Phase) -> Checkup:
    """Examine what `path` is: a run file (.toml), a folder of encoded samples, a folder of media, or a dataset file. Nothing is written.

    Raises:
        DataError: there is no such thing, or it is none of these.
        ConfigError: a run file that is not in order, or options that do not go with the codec.
    """
    checkup = Checkup()
    if not (is_file(path) or is_folder(path)):
        remedy = "Name a dataset file, a folder of media, an encoded set or a run file."
        raise DataError("there is no such file or folder", where=str(path), remedy=remedy)
    if path.is_dir() and not is_media_folder(path):
        _root(path, options, checkup, phase)
    elif path.is_file() and path.suffix.lower() == ".toml":
        _run(path, options, checkup, phase)
    elif path.is_dir() or path.suffix.lower() in FORMATS:
        if path.is_dir():
            checkup.say(f"{path}: taken for a folder of media, since it has some and no encoded samples.")
        root = options.root or default_root(path, options.preprocessing)
        request = Request(options.preprocessing, options.model, root, None, options.where, options.deep, options.threads)
        found = examine_dataset(path, request, checkup, phase)
        encoded = None if found is None else _encoded_of(found, request, None, checkup, phase)
        if encoded is not None:
            examine_encoded(encoded, checkup, phase, options.deep)
    else:
        known = ", ".join(FORMATS)
        raise DataError(
            "is neither a dataset, nor an encoded set, nor a run file",
            where=str(path),
            remedy=f"Name a folder, or a file in {known} or .toml.",
        )
    return checkup


def _root(path: Path, options: Options, checkup: Checkup, phase: Phase) -> None:
    root = encoded_root(path, TARGETS.values())
    found = whole_set(root)
    if found is None:
        remedy = "Name the folder that `ltx preprocess` wrote to, which holds latents, audio_latents or both; or a folder of clips, pictures or sounds."
        raise DataError("there are no latents in this folder, and no media", where=str(path), remedy=remedy)
    if root != path:
        checkup.say(
            f"{path}: taken for the folder of a dataset file, since it has {ENCODED}, which was looked at; as a folder of media it was not."
        )
    for folder in found.left:
        checkup.say(f"{root / folder}: not looked at, since there are no latents that it goes with.")
    checkup.say(f"{root}: whether it is up to date with its raw media is known only when the dataset or a run file is named.")
    encoded = EncodedSet(root, found.strategy, at_folders(root, found.strategy.sources()))
    examine_encoded(encoded, checkup, phase, options.deep)


def _encoded_of(found: Examined, request: Request, run: EncodedSet | None, checkup: Checkup, phase: Phase) -> EncodedSet | None:
    """What is encoded of a dataset already, compared with what would be encoded now; none if nothing is.

    Args:
        found: the dataset.
        request: how it was examined.
        run: the set that a run reads; none: all folders that the dataset makes.
        checkup: takes the findings.
        phase: shows progress.
    """
    root, names = request.root, [planned.sample.name for planned in found.planned]
    folders = _folders(root, found.data.folders if run is None else {source.folder for source in run.strategy.sources().values()})
    there = whole_samples(root, folders, names) if folders else ()
    rest = "" if len(there) == len(names) else "; `ltx preprocess` or the first run encodes the others"
    checkup.say(f"{root}: {len(there)} of {len(names)} samples are encoded{rest}.")
    if not there:
        return None
    if run is None:
        whole = whole_set(root, folders)
        if whole is None:
            return None
        run = EncodedSet(root, whole.strategy, at_folders(root, whole.strategy.sources()))
    encoded = attrs.evolve(run, only=there)
    if found.has_sizes:
        examine_fresh(root, found, folders, request.model is not None, checkup, phase)
    else:
        checkup.say(f"{root}: whether it is up to date was not looked at, since the sizes of the dataset are not known.")
    return encoded


def _folders(root: Path, wanted: Collection[str]) -> list[str]:
    return sorted(folder for folder in wanted if (root / folder).is_dir())


def _run(path: Path, options: Options, checkup: Checkup, phase: Phase) -> None:
    loaded = load_run(path, options.settings)
    try:
        found = outline(loaded, writes=False)
    except LtxError as error:
        raise located(error, loaded) from error
    data = loaded.config.data
    if data.dataset is None:
        _of_run(found, loaded, EncodedSet(found.root, found.strategy, _in_file(loaded)), checkup, phase, options.deep)
    held_out = data.held_out if isinstance(data.held_out, Path) else None
    for dataset, root in ((data.dataset, found.root), (held_out, None)):
        if dataset is not None:
            request = _request(loaded, found, root or default_root(dataset, loaded.config.preprocessing), options)
            rows = examine_dataset(dataset, request, checkup, phase)
            run = EncodedSet(request.root, found.strategy, _in_file(loaded))
            encoded = None if rows is None else _encoded_of(rows, request, run, checkup, phase)
            if encoded is not None:
                _of_run(found, loaded, encoded, checkup, phase, options.deep)


def _request(loaded: LoadedRun, found: Outline, root: Path, options: Options) -> Request:
    config = loaded.config
    model = config.model
    codecs = Model(model.model_path, model.text_encoder_path, model.video_vae_path, model.audio_vae_path, device="cpu")
    folders = {source.folder for source in found.strategy.sources().values()}
    return Request(config.preprocessing, codecs, root, folders, loaded.where, options.deep, options.threads)


def _of_run(found: Outline, loaded: LoadedRun, encoded: EncodedSet, checkup: Checkup, phase: Phase, deep: bool) -> None:
    """A run's encoded samples, which must also have been made for its model."""
    manifest = examine_encoded(encoded, checkup, phase, deep)
    if manifest is not None:
        placed = _in_file(loaded)
        checkup.refuse("model", [placed(problem) for problem in misfits(attrs.evolve(found, root=encoded.root), manifest)])


def _in_file(loaded: LoadedRun) -> Placed:
    """Puts problems at the line of the run file that they are about."""
    return lambda problem: located(DataError.of([problem]), loaded).problems[0]
