"""`ltx check` of a run file, which checks every part of a run even if other parts have mistakes, and reports all mistakes at
once.

Nothing is written or decoded, and only the headers of models and LoRAs are read. A fault that a run repairs by itself is not a
mistake; it is printed as a note.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import attrs

from ltxcore.codecs.source import Codecs
from ltxcore.config.load import LoadedRun, ReadRun, UnreadPlugins, located
from ltxcore.dataset.rows import Dataset, survey_dataset
from ltxcore.dataset.sources import read_rows
from ltxcore.encode.begun import only_rows
from ltxcore.encode.encoding import encoding_as_far
from ltxcore.encode.roots import default_root
from ltxcore.encode.standing import standing_of
from ltxcore.encode.survey import glance
from ltxcore.encoded.manifest import survey_manifest
from ltxcore.encoded.streams import streams_in
from ltxcore.errors import ConfigError, DataError, Problem, collecting
from ltxcore.files import is_file, is_folder, why_not_writable
from ltxcore.progress import Phase, bars
from ltxcore.protocols import Entry, Manifest
from ltxcore.runs.checkpoint import newest
from ltxcore.runs.data_sets import disagreements, joined, said_of_set, sets_of, shared_roots, together, with_splits
from ltxcore.runs.disk_space import room_for, room_to_encode
from ltxcore.runs.first_encoding import begun_with
from ltxcore.runs.foreseen import drawing_problems, foreseen
from ltxcore.runs.noted import Seen, of_dataset, of_folder, of_loras, of_stopping, samples_told, trains_on
from ltxcore.runs.objective_datasets import ObjectiveDataset, objective_datasets
from ltxcore.runs.prompts import prompt_problems, to_encode
from ltxcore.runs.run_plan import (
    Draft,
    Outline,
    RunPlan,
    check_measured,
    check_streams,
    draft,
    misfitting,
    ordered,
    references_of,
    split_of,
)


@attrs.frozen(eq=False)
class Checked:
    """A run without mistakes.

    Attributes:
        outline: the facts about the run that are known without its data.
        samples: the number of samples, in words.
        notes: facts that the user should know.
        plan: the plan of the run; None if some of its data are encoded only when it first runs.
    """

    outline: Outline
    samples: str
    notes: tuple[str, ...]
    plan: RunPlan | None


def check_run(run: LoadedRun | ReadRun, phase: Phase | None = None) -> Checked:
    """Check a run as far as is possible without writing, decoding or loading anything.

    Args:
        run: the run file; if some of its keys are wrong, the rest is checked.
        phase: a function that shows progress; None to show none.

    Raises:
        LtxError: the run has faults; the error names all of them.
        UnreadPlugins: the run has no faults, but only plugins that were not run can define some of the names.
    """
    if phase is None:
        with bars(False) as quiet:
            return check_run(run, quiet)
    read = run if isinstance(run, ReadRun) else ReadRun(run, (), ())
    problems, drafted, checked = list[Problem](), Draft(None, False, ()), None
    with collecting(problems):
        drafted = draft(read.loaded)
        problems.extend(drafted.problems)
    with collecting(problems):
        checked = _Checker(drafted, phase, problems).checked(read.loaded)
    found = located(ConfigError.of(problems), read.loaded).problems if problems else ()
    wrong = dict.fromkeys((*read.problems, *found))
    if wrong or read.unread or checked is None:
        raise (ConfigError if wrong else UnreadPlugins).of((*wrong, *read.unread))
    return checked


def check_ahead(found: Outline) -> None:
    """Check in advance what a run needs only after its data are encoded: the codecs for generating samples, and the rows of further
    sets, of a held-out dataset, and of the datasets of objectives.

    Raises:
        LtxError: the run has faults; the error names all of them.
    """
    sets = sets_of(found)
    problems = [*drawing_problems(found), *prompt_problems(found), *shared_roots(sets)]
    dataset = found.config.data.held_out
    apart = [(found, dataset, default_root(dataset, found.config.preprocessing))] if isinstance(dataset, Path) else []
    further = [(each.outline, each.dataset, each.outline.root) for each in objective_datasets(found) if each.dataset is not None]
    further += [(each, each.config.data.dataset, each.root) for each in sets[1:] if each.config.data.dataset is not None]
    for outline, path, root in (*apart, *further):
        with collecting(problems):
            _, wrong = rows_of(outline, path, root)
            problems.extend(wrong)
    if problems:
        raise DataError.of(problems)


def rows_of(found: Outline, dataset: Path, root: Path) -> tuple[Dataset, tuple[Problem, ...]]:
    """Return the rows of a dataset as the run reads them, and everything that is wrong with them except faults of their
    media.

    Args:
        found: the facts about the run.
        dataset: a dataset file, or a folder of media.
        root: the folder where the dataset's samples are encoded, or will be.

    Raises:
        DataError: the dataset has no rows.
    """
    folders = {source.folder for source in found.strategy.sources().values()}
    rows, problems = survey_dataset(dataset, found.config.preprocessing, folders, root)
    if not rows.samples and not problems:
        raise DataError.of(rows.left_out)
    return rows, problems


@attrs.frozen(eq=False)
class _Looked:
    """What was found in a dataset.

    Attributes:
        seen: the state of the dataset; None for a folder of encoded samples.
        manifest: the samples that are already encoded; None if there are none, or if they are wrong.
        plan: what the run does with the samples; None if they are wrong. If samples are still to be encoded, only the plan's split is
            right.
        ahead: the samples that are still to be encoded, as far as headers determine their shapes; None if all are encoded.
    """

    seen: Seen | None
    manifest: Manifest | None
    plan: RunPlan | None
    ahead: Manifest | None


@attrs.define
class _Checker:
    """A checker of a run's data, which goes on after a mistake."""

    drafted: Draft
    phase: Phase
    problems: list[Problem]
    notes: list[str] = attrs.field(factory=list)
    encodes: bool = False

    def checked(self, loaded: LoadedRun) -> Checked | None:
        """Return the checked run, or None if too much is wrong, and add mistakes to `problems`."""
        found = self.drafted.outline
        if found is None:
            self._rows(loaded)
            return None
        with collecting(self.problems):
            self.notes += (*of_folder(found), *of_stopping(found), *of_loras(found))
        with collecting(self.problems):
            if self.drafted.knows_model:
                self.problems.extend((*drawing_problems(found), *prompt_problems(found)))
        with collecting(self.problems):
            if self.drafted.knows_model:
                self.notes += list(room_for(found, self.problems))
        with collecting(self.problems):
            if found.resumes and (saved := newest(found.folder.checkpoints)) is not None:
                self.notes.append(f"The unfinished run in {found.folder.path} resumes after step {saved.step}.")
        with collecting(self.problems):
            if isinstance(held_out := loaded.config.data.held_out, Path):
                self.seen(found, held_out, None)
        checked = self._of_run(found)
        for each in objective_datasets(found):
            self._of_objective(each, None if checked is None else checked.plan)
        return None if checked is None else attrs.evolve(checked, notes=tuple(self.notes), plan=None if self.encodes else checked.plan)

    def _of_run(self, found: Outline) -> Checked | None:
        """Look at the run's own data; return the checked run, or None if too much is wrong."""
        if not found.config.data.is_said:  # which is reported already
            return None
        sets = sets_of(found)
        self.problems.extend(shared_roots(sets))
        looked = [each for each in map(self._of_set, sets) if each is not None]
        if len(looked) < len(sets):
            return None
        self._prompts(found, looked[0].manifest)
        plans = [each.plan for each in looked if each.plan is not None]
        if len(plans) < len(looked):
            return Checked(found, "", (), None)
        with collecting(self.problems):
            plan = together(found, plans)
            if found.config.data.sets:
                self._hold_together(plan, looked)
            elif all(each.ahead is None and each.manifest is not None for each in looked):
                check_streams(plan.outline, plan.manifest, plan.split)
            self.notes += [f"{streams}."] if (streams := streams_in(plan.manifest)) else []
            self.notes.append(trains_on(plan, _ahead(sets, looked)))
            told = zip(sets, looked, with_splits(plan, plans), strict=True)
            samples = [(of.set, samples_told(each.seen, own, of.config.data.dataset or Path())) for of, each, own in told]
            return Checked(found, "; ".join(f"{name}: {said}" if name else said for name, said in samples), (), plan)
        return None

    def _of_set(self, found: Outline) -> _Looked | None:
        """Look at one of the sets of a run, or at its only set; return what was found, or None if too much is wrong."""
        data, before, looked = found.config.data, len(self.problems), None
        if found.set and next(data.absent(), None) is not None:  # which is reported already
            return None
        if data.dataset is not None:
            looked = self._raw(found, data.dataset, data.encoded_into, partial(_planned, found))
        elif (manifest := self.manifest(found, None)) is not None:
            with collecting(self.problems, found.loaded.where("data.held_out")):
                looked = _Looked(None, manifest, _planned(found, manifest), None)
        self.problems[before:] = said_of_set(found, self.problems[before:])
        return looked

    def _hold_together(self, plan: RunPlan, looked: Sequence[_Looked]) -> None:
        """If all sets are encoded, check that they can be trained on together."""
        if all(each.ahead is None and each.manifest is not None for each in looked):
            self.problems.extend(disagreements(plan.outline, plan.manifest))
            check_measured(plan.outline, plan.split)
            check_streams(plan.outline, plan.manifest, plan.split)

    def _of_objective(self, data: ObjectiveDataset, own: RunPlan | None) -> None:
        """Look at the dataset of an objective, and add mistakes to `problems`.

        Args:
            data: the dataset.
            own: the plan of the run's own data; None if too much is wrong with these data.
        """
        looked: _Looked | None = None
        if data.dataset is not None and not (is_file(data.dataset) or is_folder(data.dataset)):  # which is reported already
            return
        if data.dataset is not None:
            looked = self._raw(data.outline, data.dataset, None, lambda there: None if own is None else data.ordered(there, own))
        elif (manifest := self.manifest(data.outline, None)) is not None and own is not None:
            with collecting(self.problems):
                looked = _Looked(None, manifest, data.ordered(manifest, own), None)
        if looked is not None and looked.plan is not None:
            who = f"the objective {data.label}"
            self.notes.append(f"Samples of {who}: {samples_told(looked.seen, looked.plan, data.dataset or Path())}.")
            self.notes.append(trains_on(looked.plan, looked.ahead, who, data.probability))

    def _raw(self, found: Outline, dataset: Path, root: Path | None, planned: Callable[[Manifest], RunPlan | None]) -> _Looked | None:
        """Look at a dataset that a run encodes on first use; return None if too much is wrong with it.

        Args:
            found: the facts about the run.
            dataset: a dataset file, or a folder of media.
            root: the folder where the samples are encoded, or will be; None for the default.
            planned: a function that plans what the run does with samples.
        """
        seen = self.seen(found, dataset, root)
        if seen is None or seen.standing is None:
            return None
        manifest = self.manifest(found, seen.standing.fresh)
        ahead = self._hold_ahead(found, seen)
        plan = self._plan(found, seen, manifest, planned)
        return _Looked(seen, manifest, plan, ahead if seen.standing.encodes else None)

    def _rows(self, loaded: LoadedRun) -> None:
        """Find what is wrong with the rows of a run's datasets if nothing else is known about the run."""
        data = loaded.config.data
        for key in ("dataset", "held_out"):
            with collecting(self.problems):
                self._rows_in(getattr(data, key), loaded)
        for each in data.sets:
            with collecting(self.problems):
                self._rows_in(None if next(each.absent(), None) else each.dataset, loaded)

    def _rows_in(self, dataset: object, loaded: LoadedRun) -> None:
        if isinstance(dataset, Path):
            self.problems.extend(read_rows(dataset, loaded.config.preprocessing).problems)

    def _prompts(self, found: Outline, manifest: Manifest | None) -> None:
        """Check that the prompts of the run are kept beside its samples, or can be encoded."""
        if self.drafted.knows_model:
            with collecting(self.problems):
                self.problems.extend(prompt_problems(found, manifest))
                self.notes += to_encode(found, manifest)

    def _plan(self, found: Outline, seen: Seen, manifest: Manifest | None, planned: Callable[[Manifest], RunPlan | None]) -> RunPlan | None:
        """Return the plan of a run. Its split follows from the rows; the rest of the plan is right only if all samples are
        encoded.
        """
        leaves_out = found.config.preprocessing.on_error == "skip"
        names = [sample for sample in seen.rows.samples if not (leaves_out and sample.name in seen.survey.unfit)]
        entries = {sample.name: Entry((), origin=sample.origin) for sample in names}
        if not entries:
            return None
        rows = Manifest({"rows": {**entries, **{place: Entry((), origin=place) for place in seen.refused}}})
        whole = manifest is not None and seen.standing is not None and not seen.standing.encodes
        with collecting(self.problems, found.loaded.where("data.held_out")):
            return planned(manifest if whole and manifest is not None else rows)
        return None

    def manifest(self, found: Outline, only: tuple[str, ...] | None) -> Manifest | None:
        """Return the manifest of the samples that are already encoded and still valid, after checking them against the run; None
        if there are no such samples, or if they are wrong.
        """
        if only == ():
            return None
        before = len(self.problems)
        with collecting(self.problems):
            manifest, problems = survey_manifest(found.root, found.strategy.sources(), only=only)
            self.problems.extend(problems)
            if not problems and not manifest.samples:
                remedy = "Run `ltx preprocess` on a dataset first."
                self.problems.append(Problem("there are no samples to train on", str(found.root), remedy))
            if len(self.problems) == before:
                self._hold(found, manifest)
        return manifest if len(self.problems) == before else None

    def _hold_ahead(self, found: Outline, seen: Seen) -> Manifest:
        """Check against the strategy the samples that the first run will encode, as far as their properties can be read from file headers."""
        ahead = foreseen(found, seen.survey)
        if seen.standing is not None and seen.standing.encodes and ahead.samples and self.drafted.knows_model:
            with collecting(self.problems):
                found.strategy.check(ahead)
                references_of(found, ahead)
        return ahead

    def _hold(self, found: Outline, manifest: Manifest) -> None:
        if not self.drafted.knows_model:
            found.strategy.check(manifest)
            return
        self.problems.extend(misfitting(found, manifest))
        references_of(found, manifest)

    def seen(self, found: Outline, dataset: Path, root: Path | None) -> Seen | None:
        """Return the present state of a dataset, or None if it has no rows, and add mistakes to `problems`."""
        config, where = found.config, found.loaded.where
        place = root or default_root(dataset, config.preprocessing)
        rows, wrong = None, tuple[Problem, ...]()
        with collecting(self.problems):
            rows, wrong = rows_of(found, dataset, place)
            self.problems.extend(wrong)
        if rows is None or not rows.samples:
            return None
        with collecting(self.problems):
            begun = begun_with(found, dataset, root)
            rows = rows if begun is None else only_rows(rows, frozenset(begun))
        codecs = Codecs.of(config.model, device="cpu") if self.drafted.knows_model else None
        encoding = encoding_as_far(rows, place, config.preprocessing, codecs, where, self.problems)
        look = glance(encoding, self.phase, keeps=found.resumes and not found.changes)
        rows = look.encoding.data
        self.problems.extend(look.problems)
        standing = None
        with collecting(self.problems):
            standing = standing_of(rows, look)
            self.problems.extend(_foreign(found, rows, place))
        if standing is not None and standing.encodes and (why := why_not_writable(place.absolute())):
            key = where("data.preprocessed_data_root") if root is not None else str(place)
            self.problems.append(
                Problem(
                    f"the data cannot be encoded in this folder: {why}",
                    key,
                    "Set data.preprocessed_data_root to a folder that can be written to.",
                )
            )
        if standing is not None and self.drafted.knows_model:
            self.notes += room_to_encode(found, look, standing)
        self.encodes |= standing is not None and bool(standing.encodes)
        seen = Seen(rows, frozenset(problem.where for problem in wrong), look, standing)
        self.notes += of_dataset(seen, found.loaded.path)
        return seen


def _ahead(sets: Sequence[Outline], looked: Sequence[_Looked]) -> Manifest | None:
    """Return the samples of all sets as far as their shapes are known, as in `_Looked.ahead`."""
    if all(each.ahead is None for each in looked):
        return None
    known = [each.manifest if each.ahead is None else each.ahead for each in looked]
    return joined({of.set: (of.root, each or Manifest({})) for of, each in zip(sets, known, strict=True)})


def _planned(found: Outline, manifest: Manifest) -> RunPlan:
    chosen = split_of(found, manifest)
    return RunPlan(found, manifest, chosen, ordered(found, manifest, chosen.train))


def _foreign(found: Outline, rows: Dataset, root: Path) -> tuple[Problem, ...]:
    """Find what is wrong with folders that the run reads but preprocessing does not make, such as handmade masks."""
    sources = {role: source for role, source in found.strategy.sources().items() if source.folder not in rows.folders}
    if not sources or not root.is_dir():
        return ()
    _, problems = survey_manifest(root, sources, only=[sample.name for sample in rows.samples], remember=False)
    return problems
