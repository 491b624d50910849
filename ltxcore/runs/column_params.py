"""The parameters of the columns that a run reads: those of the run file or, for an encoded set, those that the set was encoded with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from ltxcore.alike import alike
from ltxcore.columns import recorded_params
from ltxcore.config.data_sets import of_set
from ltxcore.config.load import LoadedRun
from ltxcore.config.parts import evolved
from ltxcore.config.tables import plain
from ltxcore.dataset.columns import columns_of
from ltxcore.drawn import spoken
from ltxcore.encoded.listing import list_folder
from ltxcore.errors import LtxError, Problem
from ltxcore.protocols import Entry, Source, Strategy
from ltxcore.sample.values import with_params

if TYPE_CHECKING:
    from ltxcore.runs.run_plan import Outline


def with_encoders(loaded: LoadedRun, strategy: Strategy, root: Path) -> LoadedRun:
    """Return the run file with the plugins of all columns that the strategy reads. All further data of the run are encoded by them, and the
    weights record their parameters.

    Without a table of its own in the run file, a column has its default parameters if the run encodes a dataset; for a set that is already
    encoded in the root, it has the parameters that the set was encoded with.

    Raises:
        LtxError: the encoded set cannot be listed, or a plugin does not take the parameters that the set was encoded with.
    """
    options, folders = loaded.config.preprocessing, {each.folder for each in strategy.sources().values() if each.kind in ("mask", "values")}
    if not folders:
        return loaded
    data = of_set(loaded, 0).config.data if loaded.config.data.sets else loaded.config.data  # further sets have to agree with the first
    if data.dataset is None:
        found = _recorded(loaded, root, folders)
    else:
        found = {column.role: column.plugin for column in columns_of(options).all if column.is_data and column.folder in folders}
    encoders = {**found, **(options.encoders or {})}
    return attrs.evolve(loaded, config=evolved(loaded.config, preprocessing=evolved(options, encoders=encoders)))


def _recorded(loaded: LoadedRun, root: Path, folders: set[str]) -> dict[str, Any]:
    """Return the plugins of columns with the parameters that the samples in some folders were encoded with."""
    found, known = dict[str, Any](), loaded.registry.of_kind("column")
    for folder in sorted(folders):
        for name, params in recorded_params(entry.column for entry, _ in alike(list_folder(root / folder, remember=False).entries)):
            if name in known:
                try:
                    found[name] = with_params(name, known[name].value(), params)
                except LtxError as error:
                    raise error.at(str(root / folder)) from error
    return found


def other_params(found: Outline, source: Source, entries: Mapping[str, Entry]) -> Iterator[Problem]:
    """Yield problems for samples that were encoded with parameters of a column that are not those of the run."""
    options = found.config.preprocessing
    for name, params in recorded_params(entry.column for entry, _ in alike(entries)):
        encoder = (options.encoders or {}).get(name)
        if encoder is None:
            continue
        own, theirs = (
            plain(encoder),
            {**plain(type(encoder)()), **params},
        )  # keys that the plugin has had only since then have their defaults
        if theirs == own:
            continue
        has_table = name in options.columns
        yield Problem(
            f'the samples in {found.root / source.folder} were encoded with {spoken(theirs)} for the column "{name}", but this run has {spoken(own)}',
            found.loaded.where(f"preprocessing.columns.{name}") if has_table else source.where or "data",
            f"{'Remove this table, or encode' if has_table and found.config.data.dataset is None else 'Encode'} these samples again with {spoken(own)}.",
        )
