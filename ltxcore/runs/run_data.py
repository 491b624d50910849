"""The data that a run file names, for commands that examine them without running it."""

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
from ltxcore.runs.fits import misfits
from ltxcore.runs.run_plan import Outline, draft


@attrs.frozen(eq=False)
class RunData:
    """The data of a run.

    Attributes:
        sets: the sets of encoded samples that it reads, each with the dataset that they are made from; None in place of
            the dataset if the run names only encoded samples.
        options: the options of preprocessing.
        codecs: the VAEs and text encoder that encode its datasets.
        where: a function that returns the place of a key of the run file, for messages.
        outline: the other facts about the run.
    """

    sets: tuple[tuple[Path | None, StrategyData], ...]
    options: PreprocessingTable
    codecs: Codecs
    where: Place
    outline: Outline

    @property
    def folders(self) -> frozenset[str]:
        """The folders that the run reads."""
        return frozenset(source.folder for source in self.outline.strategy.sources().values())

    def misfits(self, encoded: StrategyData, manifest: Manifest) -> tuple[Problem, ...]:
        """Find samples that were encoded for a model other than that of the run."""
        return tuple(map(encoded.placed, misfits(attrs.evolve(self.outline, root=encoded.root), manifest)))


def data_of_run(path: Path, settings: Sequence[str] = ()) -> RunData:
    """Find the data that a run file names. Nothing is written, and no sample is read.

    Args:
        path: the path of the run file.
        settings: the settings `a.b=c`, written over values of the run file.

    Raises:
        LtxError: something other than the data is wrong with the run; all of it is named.
    """
    loaded = load_run(path, settings)
    try:
        found = draft(loaded, writes=False).checked()
    except LtxError as error:
        raise located(error, loaded) from error

    def placed(problem: Problem) -> Problem:
        return located(DataError.of([problem]), loaded).problems[0]

    config = loaded.config
    roots: list[tuple[Path | None, Path]] = [(config.data.dataset, found.root)]
    if isinstance(config.data.held_out, Path):
        roots.append((config.data.held_out, default_root(config.data.held_out, config.preprocessing)))
    sets = tuple((dataset, StrategyData(root, found.strategy, placed)) for dataset, root in roots)
    return RunData(sets, config.preprocessing, Codecs.of(config.model, device="cpu"), loaded.where, found)
