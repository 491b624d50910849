"""`ltx check` of a run file: every part of a run is checked, even if there are mistakes in the others, and all mistakes
are reported at once.

Nothing is written or decoded, and only the headers of models and LoRAs are read. Something that a run repairs by itself
is not a mistake, but is printed as a note.
"""

from __future__ import annotations

from pathlib import Path

import attrs

from ltxcore.codecs.source import Codecs
from ltxcore.config.load import LoadedRun, ReadRun, UnreadPlugins, located
from ltxcore.dataset.rows import Dataset, survey_dataset
from ltxcore.dataset.sources import read_rows
from ltxcore.encode.encoding import encoding_as_far
from ltxcore.encode.outdated import only_rows
from ltxcore.encode.roots import default_root
from ltxcore.encode.standing import standing_of
from ltxcore.encode.survey import glance
from ltxcore.encoded.batches import order_of
from ltxcore.encoded.manifest import survey_manifest
from ltxcore.errors import ConfigError, DataError, Problem, collecting
from ltxcore.files import why_not_writable
from ltxcore.progress import Phase, bars
from ltxcore.protocols import Entry, Manifest
from ltxcore.runs.checkpoint import newest
from ltxcore.runs.disk_space import room_for, room_to_encode
from ltxcore.runs.first_encoding import begun_with
from ltxcore.runs.foreseen import drawing_problems, foreseen
from ltxcore.runs.noted import Seen, of_dataset, of_folder, of_stopping, samples_told, trains_on
from ltxcore.runs.objectives import prompt_problems
from ltxcore.runs.run_plan import Draft, Outline, RunPlan, draft, misfitting, references_of, split_of


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
    """Check a run as far as it can be without writing, decoding or loading.

    Args:
        run: the run file; whatever is wrong with its keys, the rest is checked.
        phase: a function that shows progress; None to show none.

    Raises:
        LtxError: something is wrong; all faults are named.
        UnreadPlugins: nothing is wrong, but some names can only come from plugins that were not run.
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
    """Check in advance parts that a run needs only after its data are encoded: the codecs that its samples are
    generated with, and the rows of a held-out dataset.

    Raises:
        LtxError: something is wrong; all faults are named.
    """
    problems = [*drawing_problems(found), *prompt_problems(found)]
    dataset = found.config.data.held_out
    if isinstance(dataset, Path):
        with collecting(problems):
            _, wrong = rows_of(found, dataset, default_root(dataset, found.config.preprocessing))
            problems.extend(wrong)
    if problems:
        raise DataError.of(problems)


def rows_of(found: Outline, dataset: Path, root: Path) -> tuple[Dataset, tuple[Problem, ...]]:
    """Return the rows of a dataset as the run reads them, and everything that is wrong with them except faults of their
    media.

    Args:
        found: the facts about the run.
        dataset: a dataset file, or a folder of media.
        root: the folder where its samples are encoded, or will be.

    Raises:
        DataError: there are no rows to look at.
    """
    folders = {source.folder for source in found.strategy.sources().values()}
    rows, problems = survey_dataset(dataset, found.config.preprocessing, folders, root)
    if not rows.samples and not problems:
        raise DataError.of(rows.left_out)
    return rows, problems


@attrs.define
class _Checker:
    """A checker of a run's data that goes on after a mistake."""

    drafted: Draft
    phase: Phase
    problems: list[Problem]
    notes: list[str] = attrs.field(factory=list)

    def checked(self, loaded: LoadedRun) -> Checked | None:
        """Return the run as far as it has no mistakes, or None; mistakes are added to `problems`."""
        found, data = self.drafted.outline, loaded.config.data
        if found is None:
            self._rows(loaded)
            return None
        with collecting(self.problems):
            self.notes += (*of_folder(found), *of_stopping(found))
        with collecting(self.problems):
            if self.drafted.knows_model:
                self.problems.extend((*drawing_problems(found), *prompt_problems(found)))
        with collecting(self.problems):
            if self.drafted.knows_model:
                self.notes += list(room_for(found, self.problems))
        with collecting(self.problems):
            if found.resumes and (saved := newest(found.folder.checkpoints)) is not None:
                self.notes.append(f"The unfinished run in {found.folder.path} resumes after step {saved.step}.")
        apart = None
        with collecting(self.problems):
            apart = self.seen(found, data.held_out, None) if isinstance(data.held_out, Path) else None
        if not data.is_said:  # which is reported already
            return None
        if data.dataset is None:
            return self._encoded(found)
        seen = self.seen(found, data.dataset, data.preprocessed_data_root)
        if seen is None or seen.standing is None:
            return None
        manifest = self.manifest(found, seen.standing.fresh)
        ahead = self._hold_ahead(found, seen)
        plan = self._plan(found, seen, manifest)
        if plan is not None:
            self.notes.append(trains_on(plan, ahead if seen.standing.encodes else None))
        standings = [each.standing for each in (seen, apart) if each is not None and each.standing is not None]
        return Checked(
            found, samples_told(seen, plan, data.dataset), tuple(self.notes), None if any(each.encodes for each in standings) else plan
        )

    def _rows(self, loaded: LoadedRun) -> None:
        """Find what is wrong with the rows of a run's datasets when nothing else about the run is known."""
        for key in ("dataset", "held_out"):
            with collecting(self.problems):
                dataset = getattr(loaded.config.data, key)
                if isinstance(dataset, Path):
                    self.problems.extend(read_rows(dataset, loaded.config.preprocessing).problems)

    def _encoded(self, found: Outline) -> Checked | None:
        """Return a run on a set that is encoded already."""
        manifest = self.manifest(found, None)
        if manifest is None:
            return None
        with collecting(self.problems, found.loaded.where("data.held_out")):
            plan = _planned(found, manifest)
            self.notes.append(trains_on(plan, None))
            return Checked(found, samples_told(None, plan, Path()), tuple(self.notes), plan)
        return None

    def _plan(self, found: Outline, seen: Seen, manifest: Manifest | None) -> RunPlan | None:
        """Return the plan of a run with its split, which follows from the rows; the rest of the plan is right only if
        all samples are encoded.
        """
        leaves_out = found.config.preprocessing.on_error == "skip"
        names = [sample for sample in seen.rows.samples if not (leaves_out and sample.name in seen.survey.unfit)]
        entries = {sample.name: Entry((), origin=sample.origin) for sample in names}
        if not entries:
            return None
        rows = Manifest({"rows": {**entries, **{place: Entry((), origin=place) for place in seen.refused}}})
        whole = manifest is not None and seen.standing is not None and not seen.standing.encodes
        with collecting(self.problems, found.loaded.where("data.held_out")):
            return _planned(found, manifest if whole and manifest is not None else rows)
        return None

    def manifest(self, found: Outline, only: tuple[str, ...] | None) -> Manifest | None:
        """Check the samples that are already encoded and remain valid against the run; None if there are none, or
        something is wrong with them.
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
        """Check the samples that the first run will encode against the strategy, as far as file headers tell what they will be like."""
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
        """Return the present state of a dataset; None if it has no rows to look at. Mistakes are added to `problems`."""
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
        self.problems.extend(look.problems)
        standing = None
        with collecting(self.problems):
            standing = standing_of(rows, look)
            self.problems.extend(_foreign(found, rows, place))
        if standing is not None and standing.encodes and (why := why_not_writable(place.absolute())):
            key = where("data.preprocessed_data_root") if root is not None else str(place)
            self.problems.append(
                Problem(f"the data cannot be encoded there: {why}", key, "Set data.preprocessed_data_root to a folder that can.")
            )
        if standing is not None and self.drafted.knows_model:
            self.notes += room_to_encode(found, look, standing)
        seen = Seen(rows, frozenset(problem.where for problem in wrong), look, standing)
        self.notes += of_dataset(seen, found.loaded.path)
        return seen


def _planned(found: Outline, manifest: Manifest) -> RunPlan:
    config = found.config
    chosen = split_of(found, manifest)
    return RunPlan(found, manifest, chosen, order_of(manifest, chosen.train, config.optimization.batch_size, config.seed))


def _foreign(found: Outline, rows: Dataset, root: Path) -> tuple[Problem, ...]:
    """Find what is wrong with folders that the run reads but preprocessing does not make, such as masks made by hand."""
    sources = {role: source for role, source in found.strategy.sources().items() if source.folder not in rows.folders}
    if not sources or not root.is_dir():
        return ()
    _, problems = survey_manifest(root, sources, only=[sample.name for sample in rows.samples], remember=False)
    return problems
