"""The data that a run file names, for commands that examine the data without running the run file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs

from ltxcore.codecs.source import Codecs
from ltxcore.config.load import load_run, located
from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.encode.roots import default_root
from ltxcore.encode.rules import Place
from ltxcore.encoded.strategy_data import StrategyData
from ltxcore.errors import DataError, LtxError, Problem
from ltxcore.protocols import Manifest
from ltxcore.runs.data_sets import sets_of
from ltxcore.runs.fits import misfits
from ltxcore.runs.objective_datasets import objective_datasets
from ltxcore.runs.run_plan import Outline, draft


@attrs.frozen(eq=False)
class RunData:
    """The data of a run.

    Attributes:
        sets: the encoded sets that the run reads, each with its dataset (None if the run names only the encoded set) and with the options
            for encoding.
        codecs: the VAEs and the text encoder that encode the datasets.
        where: a function that returns the place of a key of the run file, for messages.
        outline: the other facts about the run.
    """

    sets: tuple[tuple[Path | None, StrategyData, PreprocessingTable], ...]
    codecs: Codecs
    where: Place
    outline: Outline

    @property
    def folders(self) -> frozenset[str]:
        """The folders that the run reads."""
        return frozenset(source.folder for source in self.outline.strategy.sources().values())

    def misfits(self, encoded: StrategyData, manifest: Manifest) -> tuple[Problem, ...]:
        """Find samples that were encoded for a model other than the run's."""
        return tuple(map(encoded.placed, misfits(attrs.evolve(self.outline, root=encoded.root, strategy=encoded.strategy), manifest)))


def data_of_run(path: Path | str, settings: Sequence[str] = ()) -> RunData:
    """Find the data that a run file names. Nothing is written, and no sample is read.

    Args:
        path: the path of the run file.
        settings: settings of the form `a.b=c`, which override values of the run file.

    Raises:
        LtxError: the run has faults outside its data; the error names all of them.
    """
    loaded = load_run(Path(path), settings)
    try:
        found = draft(loaded, writes=False).checked()
    except LtxError as error:
        raise located(error, loaded) from error

    def placed(problem: Problem) -> Problem:
        return located(DataError.of([problem]), loaded).problems[0]

    config, options = found.config, found.config.preprocessing
    sets = [
        (each.config.data.dataset, StrategyData(each.root, each.strategy, placed), each.config.preprocessing) for each in sets_of(found)
    ]
    if isinstance(config.data.held_out, Path):
        sets.append((config.data.held_out, StrategyData(default_root(config.data.held_out, options), found.strategy, placed), options))
    sets += [(each.dataset, StrategyData(each.outline.root, each.outline.strategy, placed), options) for each in objective_datasets(found)]
    return RunData(tuple(sets), Codecs.of(config.model, device="cpu"), loaded.where, found)
