"""Everything that a run will do, checked before it writes anything; all faults are found at once."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from ltxcore.config.kept_weights import goes_by_average
from ltxcore.config.load import LoadedRun, located
from ltxcore.config.run_file import RunFile
from ltxcore.dataset.rows import Dataset, read_dataset
from ltxcore.encode.encoding import no_connectors
from ltxcore.encode.roots import default_root
from ltxcore.encoded.batches import Order, order_of
from ltxcore.encoded.held_out import Split, restored, split
from ltxcore.encoded.listing import whole_samples
from ltxcore.encoded.manifest import read_manifest
from ltxcore.encoded.sample_names import ENCODED, encoded_root
from ltxcore.engines.optim import try_optimizer
from ltxcore.engines.process import Place
from ltxcore.engines.schedules import try_schedule
from ltxcore.errors import ConfigError, DataError, LtxError, Problem, collecting
from ltxcore.models.backbone import ModelInfo
from ltxcore.models.base import Base, base_of, released
from ltxcore.objectives import with_objectives
from ltxcore.protocols import MODALITIES, Manifest, Setting, Strategy
from ltxcore.runs.engine import check_deepspeed, engine_problems, missing_for_engine, uses_zero
from ltxcore.runs.fits import misfits, start_problems
from ltxcore.runs.group_settings import group_problems
from ltxcore.runs.memory_settings import contradictions, missing_here, unstorable
from ltxcore.runs.objectives import objective_problems
from ltxcore.runs.resume import Begun, begun, resolved, where_it_lies
from ltxcore.runs.run_folder import STATUS, RunFolder, check_free, check_writable, holds
from ltxcore.runs.setup import generated_of, has_references, modalities_of, setting_of
from ltxcore.runs.trackers import trackers_of
from ltxcore.sample.empty_tokens import Canvas
from ltxcore.sample.media_needs import Planned, plan_generations
from ltxcore.sample.request import requests

STAND_IN = "ltx-2.3-22b"
"""A released model whose grid stands in for that of a model file that cannot be read."""


@attrs.frozen(eq=False)
class Outline:
    """The facts about a run that are known without its data.

    Attributes:
        loaded: the run file; if a run is unfinished, with the values that it keeps from its beginning.
        folder: the run's output folder.
        resumes: whether the folder holds an unfinished run of this run file, to be resumed; or, if nothing will be
            written, any run of it.
        changes: whether the unfinished run may have had a different run file.
        notes: the values that it keeps from its beginning although the run file's defaults say otherwise.
        base: the model, without its weights.
        setting: the setting that the strategy was built with.
        strategy: the strategy, which makes inputs and losses.
        modalities: the modalities of the run.
        samples: the samples to generate during training, as far as headers tell.
        root: the folder where its encoded data are, or will be; for a run that is only planned and names no data, a
            folder that does not exist.
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
        """The modalities that the model is loaded with: those of the run, and those that its samples have in addition."""
        return self.modalities.union(*(sample.canvas.request.modalities for sample in self.samples))

    def build(self, setting: Setting) -> Strategy:
        """Build the run's strategy in another setting."""
        config = self.loaded.config
        return with_objectives(config.training_strategy.build(setting), config.objectives)


@attrs.frozen(eq=False)
class Draft:
    """A run without its data, whether it has mistakes or not.

    Attributes:
        outline: the facts about the run; None if its strategy cannot be built. If something is wrong, it may lack
            samples.
        knows_model: whether its base is the model of the run file. If that cannot be read, a released model with the
            same grid stands in for it, so that the other parts can be checked.
        problems: everything that is wrong, each problem once.
    """

    outline: Outline | None
    knows_model: bool
    problems: tuple[Problem, ...]

    def checked(self) -> Outline:
        """Return the facts about a run that has passed its checks.

        Raises:
            LtxError: something is wrong; all faults are named.
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
        split: the samples that are trained on, and those held out.
        order: the endless sequence of micro-batches.
    """

    outline: Outline
    manifest: Manifest
    split: Split
    order: Order

    @property
    def config(self) -> RunFile:
        """The run file."""
        return self.outline.config


def rows_of(found: Outline, dataset: Path, root: Path) -> Dataset:
    """Return the rows of a dataset as the run reads them; `root` is the folder where they are encoded, or will be.

    Raises:
        DataError: something other than their media is wrong with them; all of it is named.
    """
    return read_dataset(dataset, found.config.preprocessing, {source.folder for source in found.strategy.sources().values()}, root)


def encoded_so_far(found: Outline) -> tuple[str, ...] | None:
    """Return the samples of a run's dataset that are completely encoded; the first use completes the others or leaves
    them out. None if the run names an encoded set.
    """
    dataset = found.config.data.dataset
    if dataset is None:
        return None
    try:
        names = [sample.name for sample in rows_of(found, dataset, found.root).samples]
    except DataError:  # which is reported to whoever encodes them
        names = None
    return _encoded(found, names)


def _encoded(found: Outline, names: Collection[str] | None) -> tuple[str, ...]:
    return whole_samples(found.root, {source.folder for source in found.strategy.sources().values()}, names)


def check_outline(loaded: LoadedRun, processes: int, *, allow_changes: bool = False) -> None:
    """Check everything about a run but its data, for this number of processes.

    Raises:
        LtxError: something is wrong; all faults are named.
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
    """Draft the run without its data, as far as it can be understood, with everything that is wrong: in the output
    folder, the model, LoRA targets and the schedule, and what this version cannot do.

    Whatever depends on a key that is not known (`config.parts`) is left out.

    Args:
        loaded: the run file.
        processes: the number of processes that run it; None to take it from the environment, for a run that is only
            looked at.
        allow_changes: whether an unfinished run may be resumed even if its run file was a different one.
        writes: whether the output folder will be written to; if not, it may hold anything.
        base: the model to use in place of that at `model_path`, which then need not exist.
        here: whether this machine will run it; if not, packages, devices and data that this machine lacks are not
            missed, and media of samples are not checked.
    """
    loaded, moved = where_it_lies(loaded, STATUS)
    folder = RunFolder(Path(loaded.config.output_dir).expanduser().absolute())
    count = Place.of_environment().world_size if processes is None else processes
    problems: list[Problem] = []
    unreadable: list[Problem] = []
    with collecting(unreadable, loaded.where("model.model_path")):
        base = base_of(loaded.config.model.model_path) if base is None else base
    resumes, notes = False, tuple[str, ...]()
    with collecting(problems):
        there = begun(loaded, folder.run_file, None if base is None else base.info)
        resumes = _resumes(there, folder, count, allow_changes) if writes else holds(folder, there.loaded.resolved(), there.saved)
        loaded, notes = (there.loaded, there.notes) if resumes else (loaded, ())
        notes = (moved, *notes) if moved else notes
    config = loaded.config
    for refused in (
        _unavailable(config),
        engine_problems(config, count),
        _not_here(config, count) if here else (),
        contradictions(config),
        group_problems(config),
    ):
        with collecting(problems):
            problems.extend(Problem(what, loaded.where(key), remedy) for key, what, remedy in refused)
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
            problems.extend(Problem(what, loaded.where(key), remedy) for key, what, remedy in unstorable(config, base))
    built = _built(loaded, folder, base, here, problems)
    if built is not None:
        built = attrs.evolve(built, resumes=resumes, changes=allow_changes, notes=notes)
    return Draft(built, base is not None, tuple(dict.fromkeys(problems)))


def _built(loaded: LoadedRun, folder: RunFolder, own: Base | None, here: bool, problems: list[Problem]) -> Outline | None:
    """Build the strategy, its LoRA and its samples on the model, or on one that stands in for it; None if there is no
    strategy. Everything that is wrong is added to `problems`.
    """
    base = own or released(STAND_IN)
    config, info = loaded.config, base.info
    strategy: Strategy | None = None
    with collecting(problems, loaded.where("model.model_path")):
        setting = setting_of(loaded, info)
        strategy = with_objectives(config.training_strategy.build(setting), config.objectives)
    if strategy is None:
        return None
    with collecting(problems):
        problems.extend(Problem(what, loaded.where(key), remedy) for key, what, remedy in objective_problems(config, strategy))
    root = folder.path / ENCODED
    with collecting(problems):
        root = data_root(loaded, strategy) if config.data.is_said else root
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
            samples = plan_generations(asked, setting.modalities)
    if own is not None:
        problems.extend(start_problems(loaded, own, modalities, streams, here))
    problems.extend(drawn)
    return Outline(loaded, folder, False, False, (), base, setting, strategy, modalities, tuple(samples), root)


def _resumes(there: Begun, folder: RunFolder, processes: int, allow_changes: bool) -> bool:
    """Return whether the output folder holds an unfinished run to resume."""
    loaded = there.loaded
    where, run_files = loaded.where("output_dir"), (resolved(loaded), there.saved)
    check_writable(folder.path, where)  # which does not depend on the next key
    start_over = loaded.config.checkpoints.no_resume
    return check_free(folder, *run_files, where, start_over, processes=processes, allow_changes=allow_changes, broken=there.broken)


def data_root(loaded: LoadedRun, strategy: Strategy) -> Path:
    """Return the folder of the encoded data, or the one where the first use puts them."""
    data = loaded.config.data
    if data.preprocessed_data_root is not None:
        root = Path(data.preprocessed_data_root)
        return root if data.dataset is not None else encoded_root(root, {source.folder for source in strategy.sources().values()})
    if data.dataset is None:
        raise ConfigError(
            "does not name any data to train on", where=loaded.where("data"), remedy="Set data.dataset or data.preprocessed_data_root."
        )
    return default_root(data.dataset, loaded.config.preprocessing)


def plan(found: Outline, only: Collection[str] | None = None) -> RunPlan:
    """Plan the run with its data.

    Args:
        found: the facts about the run that are known without its data.
        only: the samples of this run's dataset, if its root may hold others; None for all that are there.

    Raises:
        DataError: sources are wrong, or there are samples that the strategy cannot train on; all of them are named.
        ConfigError: the references of samples to generate differ from those of the training data, or the held-out split
            leaves nothing to train on.
    """
    config = found.config
    manifest = read_manifest(found.root, found.strategy.sources(), only=only)
    if not manifest.samples:
        raise DataError("there are no samples to train on", where=str(found.root), remedy="Run `ltx preprocess` on a dataset first.")
    problems = list(misfitting(found, manifest))
    if problems:
        raise DataError.of(problems)
    references_of(found, manifest)
    with _at(found.loaded.where("data.held_out")):
        chosen = split_of(found, manifest)
        if (
            (config.checkpoints.keep_best or config.checkpoints.stop_after)
            and not chosen.held_out
            and not isinstance(config.data.held_out, Path)
        ):
            raise ConfigError(
                "leaves no sample to measure the validation loss on, which checkpoints.keep_best and stop_after need",
                remedy="Set it to the number of samples to hold out.",
            )
    return RunPlan(found, manifest, chosen, order_of(manifest, chosen.train, config.optimization.batch_size, config.seed))


def misfitting(found: Outline, manifest: Manifest) -> Iterator[Problem]:
    """Find the encoded samples that a strategy cannot train on, or that its model does not take."""
    problems: list[Problem] = []
    with collecting(problems):
        found.strategy.check(manifest)
    yield from problems
    yield from misfits(found, manifest)


def references_of(found: Outline, manifest: Manifest) -> None:
    """Compare the references of samples to be generated with those of the data, which determine those that the LoRA is
    for.

    Raises:
        ConfigError: the two differ.
    """
    if has_references(found.strategy):
        plan_generations([sample.canvas.request for sample in found.samples], found.setting.modalities, found.strategy.metadata(manifest))


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
    return restored(manifest, status["held_out"]) if status is not None else split(manifest, held_out)


def _unavailable(config: RunFile) -> Iterator[tuple[str, str, str]]:
    """Refuse settings that a run file may ask for but this version does not support, rather than ignoring them."""
    if config.checkpoints.max_shard_size is not None and config.model.training_mode == "lora":
        yield "checkpoints.max_shard_size", "applies to a whole model, but a LoRA is always one file", "Remove the key."
    yield from _unmeasured(config)


def _unmeasured(config: RunFile) -> Iterator[tuple[str, str, str]]:
    """Refuse to judge a run by a validation loss if it does not measure one."""
    asked = config.checkpoints
    key = "keep_best" if asked.keep_best else "stop_after" if asked.stop_after is not None else ""
    if not key:
        if asked.best_by:
            yield (
                "checkpoints.best_by",
                "only matters for keep_best and stop_after, and neither is set",
                "Set one of them, or remove the key.",
            )
        return
    if goes_by_average(asked.best_by) and config.ema.decay is None:
        yield (
            "checkpoints.best_by",
            "goes by the averaged weights, and the run does not average them",
            "Set ema.decay, or name a part of the validation loss without ema/.",
        )
    if config.data.held_out == 0:
        yield f"checkpoints.{key}", "goes by the validation loss, but no sample is held out", "Set data.held_out, or remove the key."
    if not config.validation.interval:
        yield (
            f"checkpoints.{key}",
            "goes by the validation loss, which this run measures only before and after training",
            "Set validation.interval, or remove the key.",
        )


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
    """Return whether there is a Hugging Face token, from a login or HF_TOKEN; only its use shows whether it is valid."""
    from huggingface_hub import get_token

    return get_token() is not None
