"""The datasets that objectives read in place of the run's own: where they are, and what a run does with their samples."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import attrs

from ltxcore.encode.roots import default_root
from ltxcore.encoded.held_out import clips_of, having_clips, restored, split
from ltxcore.encoded.manifest import read_manifest
from ltxcore.errors import DataError, Problem
from ltxcore.files import is_folder
from ltxcore.objectives import seed_of_dataset, with_datasets, without_objectives
from ltxcore.protocols import Manifest
from ltxcore.runs.run_plan import Outline, RunPlan, misfitting, ordered


@attrs.frozen(eq=False)
class ObjectiveDataset:
    """The dataset of an objective.

    Attributes:
        label: the objective's name in metrics.
        index: the objective's place in the run file.
        probability: the share of optimizer steps in which the objective is learned.
        key: the run file's key that names the dataset.
        dataset: a dataset file or a folder of media; None if the key names a folder of encoded samples.
        outline: the facts about a run on this dataset alone; the root is where the encoded samples are, or will be, and nothing is read for
            objectives.
    """

    label: str
    index: int
    probability: float
    key: str
    dataset: Path | None
    outline: Outline

    def plan(self, manifest: Manifest, own: RunPlan) -> RunPlan:
        """Plan what the run does with the samples of this dataset.

        Raises:
            DataError: there are no samples, all samples are held out, or the strategy cannot train on some of them, all of which the error
                names.
        """
        if problems := list(self.problems(manifest)):
            raise DataError.of(problems)
        return self.ordered(manifest, own)

    def ordered(self, manifest: Manifest, own: RunPlan) -> RunPlan:
        """Return the plan for samples of this dataset that have no faults, or for those that are still to be encoded.

        If the dataset has clips that the run itself holds out, these are the held-out clips, since the run must not train on them.
        Otherwise the default number of clips is held out, or none if the run has no validation loss.

        Args:
            manifest: the samples of this dataset.
            own: the plan of the run's own data.

        Raises:
            DataError: all samples are held out.
        """
        config = self.outline.config
        kept = clips_of(own.manifest, own.split.held_out)
        shared = sorted(having_clips(manifest, kept))
        if len(shared) == len(manifest.samples):
            what = "the run holds out all samples of this dataset, so none is left to train on"
            raise DataError(what, where=self.outline.loaded.where(self.key), remedy="Name a dataset with other clips.")
        measures = own.split.held_out or isinstance(config.data.held_out, Path)
        chosen = restored(manifest, shared) if shared else split(manifest, None if measures else 0)
        seed = seed_of_dataset(config.seed, self.index)
        return RunPlan(self.outline, manifest, chosen, ordered(self.outline, manifest, chosen.train, seed=seed))

    def problems(self, manifest: Manifest) -> Iterator[Problem]:
        """Find reasons why the encoded samples of this dataset cannot be trained on."""
        if not manifest.samples:
            yield Problem("there are no samples for this objective", str(self.outline.root), "Run `ltx preprocess` on its dataset first.")
            return
        yield from misfitting(self.outline, manifest)


def objective_datasets(found: Outline) -> tuple[ObjectiveDataset, ...]:
    """Return the datasets of a run's objectives. A folder that contains one of the folders that the run reads, such as `latents`, is
    already encoded; anything else is raw media, which are encoded on first use, like the run's own.
    """
    strategy = without_objectives(found.strategy)
    datasets = []
    for label, (index, use) in with_datasets(found.config.objectives).items():
        path = use.dataset
        assert path is not None
        is_encoded = is_folder(path) and any(is_folder(path / source.folder) for source in strategy.sources().values())
        root = path if is_encoded else default_root(path, found.config.preprocessing)
        outline = attrs.evolve(found, root=root, strategy=strategy)
        datasets.append(
            ObjectiveDataset(label, index, use.probability, f"objectives.{index}.{use.batch}", None if is_encoded else path, outline)
        )
    return tuple(datasets)


def with_planned(plan: RunPlan, only: Mapping[str, tuple[Path, Collection[str] | None]]) -> RunPlan:
    """Return the plan of a run, including the plans of its objectives' datasets.

    Args:
        plan: the plan of the run's own data.
        only: for each of these datasets, by its label, the folder of its encoded samples, and the names of the samples in that folder that
            belong to the dataset; None in place of the names if all of them do.

    Raises:
        DataError: there are samples that the strategy cannot train on; all of them are named.
    """
    planned = {}
    for each in objective_datasets(plan.outline):
        root, names = only[each.label]
        there = attrs.evolve(each, outline=attrs.evolve(each.outline, root=root))
        planned[each.label] = there.plan(read_manifest(root, there.outline.strategy.sources(), only=names), plan)
    return attrs.evolve(plan, datasets=planned)
