"""The plan of everything that a run will do, which is checked before the run writes anything; all faults are found at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import attrs

from ltxcore.addresses import Address
from ltxcore.config.data_sets import of_set
from ltxcore.config.load import LoadedRun, located
from ltxcore.config.parts import evolved
from ltxcore.config.run_file import RunFile
from ltxcore.dataset.rows import Dataset, read_dataset
from ltxcore.encode.begun import known_windows
from ltxcore.encode.encoding import no_connectors
from ltxcore.encode.roots import default_root
from ltxcore.encoded.batches import Order, order_of
from ltxcore.encoded.held_out import Split, restored, split
from ltxcore.encoded.listing import whole_samples
from ltxcore.encoded.manifest import read_manifest
from ltxcore.encoded.mirror import mirror_of, opened
from ltxcore.encoded.sample_names import ENCODED, encoded_root
from ltxcore.encoded.streams import may_lack
from ltxcore.engines.optim import try_optimizer
from ltxcore.engines.process import Place
from ltxcore.engines.schedules import try_schedule
from ltxcore.errors import ConfigError, DataError, LtxError, Problem, collecting
from ltxcore.logs import inform
from ltxcore.models.backbone import ModelInfo
from ltxcore.models.base import Base, base_of, released
from ltxcore.objectives import with_objectives
from ltxcore.protocols import MODALITIES, Manifest, Setting, Strategy
from ltxcore.runs.checkpoint_settings import checkpoint_problems
from ltxcore.runs.column_params import with_encoders
from ltxcore.runs.engine import check_deepspeed, engine_problems, head_problems, missing_for_engine, uses_zero
from ltxcore.runs.fits import misfits, start_problems
from ltxcore.runs.group_settings import Refusal, group_problems
from ltxcore.runs.memory_settings import contradictions, missing_here, unstorable
from ltxcore.runs.objectives import objective_problems
from ltxcore.runs.passes import room_of
from ltxcore.runs.prompts import caption_problems
from ltxcore.runs.resume import Begun, begun, resolved, where_it_lies
from ltxcore.runs.run_folder import STATUS, RunFolder, check_free, check_writable, holds
from ltxcore.runs.setup import generated_of, has_references, modalities_of, setting_of
from ltxcore.runs.trackers import trackers_of
from ltxcore.sample.empty_tokens import Canvas
from ltxcore.sample.media_needs import Planned, plan_generations
from ltxcore.sample.request import requests
from ltxcore.sample.values import params_of

STAND_IN = "ltx-2.3-22b"
"""The released model whose grid is used if the model file cannot be read."""


@attrs.frozen(eq=False)
class Outline:
    """The facts about a run that are known without its data.

    Attributes:
        loaded: the run file; for an unfinished run, with the values that the run must keep. Its columns have the parameters that the data
            are, or will be, encoded with.
        folder: the run's output folder.
        resumes: whether the folder holds an unfinished run of this run file, which will be resumed (or, if nothing will be written, any run
            of this run file).
        changes: whether an unfinished run may be resumed even if its run file was different.
        notes: notes on the values that an unfinished run keeps although the defaults have changed.
        base: the model, without its weights.
        setting: the setting that the strategy was built with.
        strategy: the strategy, which makes inputs and losses.
        modalities: the modalities of the run.
        samples: the samples to generate during training, as far as they are known from headers.
        root: the present or future folder of the encoded data, or of the first set of several; for a run that is only planned and names
            no data, a folder that does not exist.
        set: the name of the set that is looked at alone, if the run has several (`data_sets.sets_of`); otherwise "".
    """

    loaded: LoadedRun
    folder: RunFolder
    resumes: bool
    changes: bool
    notes: tuple[str, ...]
    base: Base
    setting: Setting
    strategy: Strategy
    modalities: frozenset[str]
    samples: tuple[Planned, ...]
    root: Path
    set: str = ""

    @property
    def config(self) -> RunFile:
        """The run file."""
        return self.loaded.config

    @property
    def info(self) -> ModelInfo:
        """The facts about the base model."""
        return self.base.info

    @property
    def streams(self) -> frozenset[str]:
        """The modalities that the model is loaded with: the modalities of the run and of the samples to generate."""
        return self.modalities.union(*(sample.canvas.request.modalities for sample in self.samples))

    def build(self, setting: Setting) -> Strategy:
        """Build the run's strategy in another setting."""
        config = self.loaded.config
        return with_objectives(config.training_strategy.build(setting), config.objectives)


@attrs.frozen(eq=False)
class Draft:
    """A run without its data, with or without mistakes.

    Attributes:
        outline: the facts about the run; None if its strategy cannot be built. If the run has mistakes, the outline may lack
            samples.
        knows_model: whether the base in the outline is the model of the run file. If that model cannot be read, a released model
            with the same grid takes its place, so that the other parts can be checked.
        problems: every problem, without repetitions.
    """

    outline: Outline | None
    knows_model: bool
    problems: tuple[Problem, ...]

    def checked(self) -> Outline:
        """Return the facts about a run that has passed its checks.

        Raises:
            LtxError: the run has faults; the error names all of them.
        """
        if self.problems or self.outline is None:
            raise ConfigError.of(self.problems)
        return self.outline


@attrs.frozen(eq=False)
class RunPlan:
    """Everything that a run will do.

    Attributes:
        outline: the facts about the run that are known without its data.
        manifest: the manifest of the data.
        split: the samples that are trained on, and the held-out samples.
        order: the endless sequence of micro-batches.
        datasets: the same for the datasets of the run's objectives, by the objectives' names in metrics.
    """

    outline: Outline
    manifest: Manifest
    split: Split
    order: Order
    datasets: Mapping[str, RunPlan] = attrs.field(factory=dict)

    @property
    def config(self) -> RunFile:
        """The run file."""
        return self.outline.config


def rows_of(found: Outline, dataset: Path, root: Path) -> Dataset:
    """Return the rows of a dataset as the run reads them; `root` is the folder where they are encoded, or will be.

    Raises:
        DataError: the rows have faults outside their media; the error names all of them.
    """
    return read_dataset(dataset, found.config.preprocessing, {source.folder for source in found.strategy.sources().values()}, root)


def encoded_so_far(found: Outline, dataset: Path | None) -> tuple[str, ...] | None:
    """Return the samples of a dataset that are completely encoded in the run's root; on first use, the run completes the other
    samples or leaves them out. None if there is an encoded set instead of a dataset.
    """
    if dataset is None:
        return None
    try:
        rows = known_windows(rows_of(found, dataset, found.root), found.root, found.config.preprocessing)
        names = [sample.name for sample in rows.samples]
    except DataError:  # which is reported to whoever encodes them
        names = None
    return _encoded(found, names)


def _encoded(found: Outline, names: Collection[str] | None) -> tuple[str, ...]:
    sources = found.strategy.sources()
    return whole_samples(found.root, {source.folder for source in sources.values()}, names, may_lack(sources))


def check_outline(loaded: LoadedRun, processes: int, *, allow_changes: bool = False) -> None:
    """Check everything about a run except its data, for this number of processes.

    Raises:
        LtxError: the run has faults; the error names all of them.
    """
    try:
        draft(loaded, processes, allow_changes=allow_changes).checked()
    except LtxError as error:
        raise located(error, loaded) from error


def draft(
    loaded: LoadedRun,
    processes: int | None = None,
    *,
    allow_changes: bool = False,
    writes: bool = True,
    base: Base | None = None,
    here: bool = True,
) -> Draft:
    """Draft the run without its data, as far as possible, and find every fault: in the output folder, the model, the LoRA targets
    and the schedule, and in settings that this version does not support.

    Parts that depend on an unknown key (`config.parts`) are left out.

    Args:
        loaded: the run file.
        processes: the number of processes of the run; None to take it from the environment, for a run that is only examined.
        allow_changes: whether an unfinished run may be resumed even if its run file was different.
        writes: whether the run writes to the output folder; if not, the folder may hold anything.
        base: the model to use instead of the file at `model_path`, which then need not exist.
        here: whether this machine will execute the run; if not, missing packages, devices and data are no faults, and the media
            of samples are not checked.
    """
    loaded, moved = where_it_lies(loaded, STATUS)
    folder = RunFolder(Path(loaded.config.output_dir).expanduser().absolute())
    count = Place.of_environment().world_size if processes is None else processes
    problems: list[Problem] = []
    unreadable: list[Problem] = []
    with collecting(unreadable, loaded.where("model.model_path")):
        base = base_of(loaded.config.model.model_path, loaded.config.model.connectors_path) if base is None else base
    resumes, notes = False, tuple[str, ...]()
    with collecting(problems):
        there = begun(loaded, folder.run_file, None if base is None else base.info)
        resumes = _resumes(there, folder, count, allow_changes) if writes else holds(folder, there.loaded.resolved(), there.saved)
        loaded, notes = (there.loaded, there.notes) if resumes else (loaded, ())
        notes = (moved, *notes) if moved else notes
    config = loaded.config
    _add(
        problems,
        loaded,
        checkpoint_problems(config),
        engine_problems(config, count, is_launched=processes is not None),
        _not_here(config, count) if here else (),
        contradictions(config),
        group_problems(config),
    )
    with collecting(problems):
        trackers_of(loaded)
    with collecting(problems):
        if here and config.hub.push_to_hub:
            loaded.registry.get("command", "publish", loaded.where("hub.push_to_hub"))
    with collecting(problems, loaded.where("engine")):
        if uses_zero(config, count):
            check_deepspeed(config, processes)
    with collecting(problems, loaded.where("optimization.optimizer_params")):
        try_optimizer(config.optimized, averages=config.ema.decay is not None)
    with collecting(problems, loaded.where("optimization.scheduler_params")):
        try_schedule(config.optimization)
    problems.extend(unreadable)
    if base is not None:
        with collecting(problems, loaded.where("model.model_path")):
            base.check_tensors()
            _add(problems, loaded, unstorable(config, base), head_problems(config, base.heads))
    built = _built(loaded, folder, base, here, uses_zero(config, count), problems)
    if built is not None:
        built = attrs.evolve(built, resumes=resumes, changes=allow_changes, notes=notes)
    return Draft(built, base is not None, tuple(dict.fromkeys(problems)))


def _add(problems: list[Problem], loaded: LoadedRun, *refused: Iterable[Refusal]) -> None:
    """Add a problem for every refused setting, which is given as its key, what is wrong, and what to do about it. A check that needs an
    unknown key (`config.parts`) ends there, and the others go on.
    """
    for each in refused:
        with collecting(problems):
            problems.extend(Problem(what, loaded.where(key), remedy) for key, what, remedy in each)


def _built(loaded: LoadedRun, folder: RunFolder, own: Base | None, here: bool, divided: bool, problems: list[Problem]) -> Outline | None:
    """Build the strategy, the LoRA and the samples of the run on its model or on a substitute; None if there is no strategy.
    Every fault is added to `problems`.
    """
    base = own or released(STAND_IN)
    config, info = loaded.config, base.info
    strategy: Strategy | None = None
    with collecting(problems, loaded.where("model.model_path")):
        setting = setting_of(loaded, info)
        strategy = with_objectives(config.training_strategy.build(setting), config.objectives)
    if strategy is None:
        return None
    _add(problems, loaded, objective_problems(config, strategy), caption_problems(config, strategy))
    loaded = _with_absent(loaded, strategy, problems)
    root = folder.path / ENCODED
    with collecting(problems):
        root = _root_if_here(loaded, strategy, here) if config.data.is_said else root
    with collecting(problems):
        loaded = with_encoders(loaded, strategy, root) if here else loaded
        config = loaded.config
    with collecting(problems):
        if own is not None and config.preprocessing.connector_outputs and not info.has_connectors:
            raise no_connectors(info.name).at(loaded.where("preprocessing.connector_outputs"))
    modalities, streams = modalities_of(strategy), frozenset(MODALITIES)
    samples = []
    drawn: list[Problem] = []
    with collecting(drawn):
        asked = requests(config.validation, generated_of(strategy), info)
        streams = modalities.union(*(request.modalities for request in asked))
        samples = [Planned(Canvas(each, setting.modalities), {}, ()) for each in asked]
        if here:  # media of samples that are generated elsewhere need not be here
            samples = plan_generations(asked, setting.modalities, params=params_of(config.preprocessing.encoders))
    if own is not None:
        with collecting(problems, loaded.where("model.model_path")):
            own.check_connectors(streams)
        problems.extend(start_problems(loaded, own, modalities, streams, here, divided))
    problems.extend(drawn)
    return Outline(loaded, folder, False, False, (), base, setting, strategy, modalities, tuple(samples), root)


def _with_absent(loaded: LoadedRun, strategy: Strategy, problems: list[Problem]) -> LoadedRun:
    """Return the run file with the modalities that samples may lack, according to the strategy. If the run file asks in vain for training
    without a modality, the problem is added to `problems`.
    """
    if loaded.config.data.missing == "refuse":
        return loaded
    absent = frozenset(source.modality for source in strategy.sources().values() if source.may_be_absent)
    if not absent:
        what = "no sample can lack a modality here: this needs a run of video and audio, and a strategy that trains without one of them"
        problems.append(Problem(what, loaded.where("data.missing"), "Remove the key."))
    return attrs.evolve(loaded, config=evolved(loaded.config, preprocessing=evolved(loaded.config.preprocessing, may_lack=absent)))


def _resumes(there: Begun, folder: RunFolder, processes: int, allow_changes: bool) -> bool:
    """Return whether the output folder holds an unfinished run to resume."""
    loaded = there.loaded
    where, run_files = loaded.where("output_dir"), (resolved(loaded), there.saved)
    check_writable(folder.path, where)  # which does not depend on the next key
    start_over = loaded.config.checkpoints.no_resume
    return check_free(folder, *run_files, where, start_over, processes=processes, allow_changes=allow_changes, broken=there.broken)


def data_root(loaded: LoadedRun, strategy: Strategy) -> Path:
    """Return the folder of the encoded data, or of the first of several sets. The run fills it on first use if the data are not encoded
    yet. For data at an address, it is the folder that stands for them (`mirror.opened`).
    """
    loaded = of_set(loaded, 0) if loaded.config.data.sets else loaded
    data = loaded.config.data
    if isinstance(data.preprocessed_data_root, Address):
        with _at(loaded.where("data.preprocessed_data_root")):
            return opened(data.preprocessed_data_root)
    if data.preprocessed_data_root is not None:
        root = data.preprocessed_data_root
        return root if data.dataset is not None else encoded_root(root, {source.folder for source in strategy.sources().values()})
    if data.dataset is None:
        raise ConfigError(
            "does not name any data to train on", where=loaded.where("data"), remedy="Set data.dataset or data.preprocessed_data_root."
        )
    return default_root(data.dataset, loaded.config.preprocessing)


def _root_if_here(loaded: LoadedRun, strategy: Strategy, here: bool) -> Path:
    """Return the folder of the encoded data. For a run on another machine, a set that cannot be reached from this one counts as absent."""
    try:
        return data_root(loaded, strategy)
    except LtxError as error:
        address = loaded.config.data.preprocessed_data_root
        if here or not isinstance(address, Address):
            raise
        inform(f"the samples at {address} are not looked at, since this machine cannot reach them: {error.problems[0].what}")
        return mirror_of(address)


def plan(found: Outline, only: Collection[str] | None = None) -> RunPlan:
    """Plan the run with its data.

    Args:
        found: the facts about the run that are known without its data.
        only: the samples of this run's dataset, if the root may hold others too; None for all samples in the root.

    Raises:
        DataError: sources have faults, or the strategy cannot train on some samples; the error names all of them.
        ConfigError: the references of samples to generate differ from those of the training data, or the held-out split
            leaves nothing to train on.
    """
    manifest = read_manifest(found.root, found.strategy.sources(), only=only)
    if not manifest.samples:
        raise DataError("there are no samples to train on", where=str(found.root), remedy="Run `ltx preprocess` on a dataset first.")
    problems = list(misfitting(found, manifest))
    if problems:
        raise DataError.of(problems)
    references_of(found, manifest)
    with _at(found.loaded.where("data.held_out")):
        chosen = split_of(found, manifest)
    if not found.set:
        check_measured(found, chosen)
        check_streams(found, manifest, chosen)
    return RunPlan(found, manifest, chosen, ordered(found, manifest, chosen.train))


def ordered(
    found: Outline, manifest: Manifest, names: Sequence[str], per_epoch: Mapping[str, int] = MappingProxyType({}), seed: int | None = None
) -> Order:
    """Return the order in which a run trains on samples.

    Args:
        found: the facts about the run that are known without its data.
        manifest: the manifest of the samples.
        names: the names of the samples to train on.
        per_epoch: the number of samples of each set that an epoch takes, by the name of the set; by default, each sample once.
        seed: the seed of the order; by default the run's.

    Raises:
        ConfigError: there are no samples.
    """
    config = found.config
    return order_of(manifest, names, room_of(config, found.strategy.sources()), config.seed if seed is None else seed, per_epoch)


def check_measured(found: Outline, chosen: Split) -> None:
    """Check that there is a validation loss if the run needs one.

    Raises:
        ConfigError: no samples are held out.
    """
    config = found.config
    if (
        (config.checkpoints.keep_best or config.checkpoints.stop_after)
        and not chosen.held_out
        and not isinstance(config.data.held_out, Path)
    ):
        raise ConfigError(
            "leaves no sample for the validation loss, which checkpoints.keep_best and stop_after need",
            where=found.loaded.where("data.held_out"),
            remedy="Set data.held_out to the number of samples to hold out.",
        )


def check_streams(found: Outline, manifest: Manifest, chosen: Split) -> None:
    """Check that the run trains on every modality, if samples may lack one.

    Raises:
        DataError: a modality has no samples to train on.
    """
    for name, source in found.strategy.sources().items():
        if name in MODALITIES and source.may_be_absent and not any(each in manifest.entries[name] for each in chosen.train):
            what = f'none of the samples to train on has {name}: none is in the folder "{source.folder}"'
            raise DataError(what, where=source.where, remedy=f"Add samples with {name}, or remove the table of {name} from the run file.")


def misfitting(found: Outline, manifest: Manifest) -> Iterator[Problem]:
    """Find the encoded samples that a strategy cannot train on, or that its model does not accept."""
    problems: list[Problem] = []
    with collecting(problems):
        found.strategy.check(manifest)
    yield from problems
    yield from misfits(found, manifest)


def references_of(found: Outline, manifest: Manifest) -> None:
    """Compare the references of samples to generate with those of the data, since the LoRA is trained for references like those
    of the data.

    Raises:
        ConfigError: the references differ.
    """
    if has_references(found.strategy):
        asked, factors = [sample.canvas.request for sample in found.samples], found.strategy.metadata(manifest)
        plan_generations(asked, found.setting.modalities, factors, params_of(found.config.preprocessing.encoders))


def split_of(found: Outline, manifest: Manifest) -> Split:
    """Choose the samples to train on: anew, or as in the unfinished run that is resumed.

    Raises:
        ConfigError: nothing is left to train on.
        DataError: held-out samples of the unfinished run are gone.
    """
    held_out = found.config.data.held_out
    status = found.folder.status() if found.resumes else None
    if isinstance(held_out, Path):
        return Split(manifest.samples, ())
    if status is None:
        return split(manifest, held_out)
    of = f"{found.set}/" if found.set else ""
    return restored(manifest, [name.removeprefix(of) for name in status["held_out"] if name.startswith(of)])


def _not_here(config: RunFile, processes: int) -> Iterator[tuple[str, str, str]]:
    """Find what this machine lacks for the run."""
    yield from missing_here(config)
    yield from missing_for_engine(config, processes)
    if config.hub.push_to_hub and not _has_token():
        yield (
            "hub.push_to_hub",
            "publishing needs a token of the Hugging Face Hub, but this machine has none",
            "Log in with `hf auth login`, or set HF_TOKEN.",
        )


@contextmanager
def _at(where: str) -> Iterator[None]:
    try:
        yield
    except LtxError as error:
        raise error.at(where) from error


def _has_token() -> bool:
    """Return whether there is a Hugging Face token, from a login or HF_TOKEN; whether the token is valid shows only when it is used."""
    from huggingface_hub import get_token

    return get_token() is not None
