"""The samples that a strategy reads, checked against the records of how they were written. For a set without a run file, a strategy is made
that reads the whole set.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path

import attrs
import torch
from torch import Tensor

from ltxcore.alike import alike
from ltxcore.columns import folder_of
from ltxcore.conditions import ConditionUse
from ltxcore.encoded.listing import list_folder
from ltxcore.encoded.manifest import survey_manifest
from ltxcore.encoded.sample_names import encoded_root, find_sample
from ltxcore.encoded.store import DAMAGED, damage, read_mask, read_recorded, redo
from ltxcore.encoded.stored import MODALITY_OF_LATENTS
from ltxcore.encoded.streams import streams_in
from ltxcore.errors import DataError, LtxError, Problem
from ltxcore.flow.sigmas import Uniform
from ltxcore.modalities.audio import AudioModality
from ltxcore.modalities.video import VideoModality
from ltxcore.modality_tables import ModalityTable
from ltxcore.protocols import MODALITIES, Entry, Inputs, Manifest, Modality, Role, Setting, Source, Strategy
from ltxcore.registry import Registry, load
from ltxcore.state import LatentState
from ltxcore.strategy import TEXT_FOLDER, FlexibleStrategy
from ltxcore.workers import READERS, in_order

TARGETS = {"video": "latents", "audio": "audio_latents"}
AHEAD = 64
"""The number of files that are about to be compared with their checksums."""

CONDITIONS = {"mask": "mask", "latents": "reference", "pictures": "keyframes"}
"""For each kind of folder, the condition that reads such a folder in addition to the latents of its modality. The condition's role has the
condition's name.
"""


@attrs.frozen(eq=False)
class StrategyData:
    """The samples that a strategy reads.

    Attributes:
        root: the data root.
        strategy: the strategy whose sources are read.
        placed: a function that moves a problem from a key of the strategy to a place that the user knows: a key of the run file, or the
            folder that the strategy's key names.
        only: the names of samples to look at; None for all.
        unread: the existing folders that the strategy cannot use.
    """

    root: Path
    strategy: Strategy
    placed: Callable[[Problem], Problem]
    only: Collection[str] | None = None
    unread: tuple[str, ...] = ()

    @property
    def sources(self) -> Mapping[str, Source]:
        """The sources that the strategy reads, by role."""
        return self.strategy.sources()

    def manifest(self) -> tuple[Manifest, tuple[Problem, ...]]:
        """Return the existing samples, and everything that is wrong with them according to manifests and to the sizes of
        all files. Nothing is written.
        """
        manifest, problems = survey_manifest(self.root, self.sources, only=self.only, remember=False, every_file=True)
        return manifest, tuple(map(self.placed, problems))

    def streams(self, manifest: Manifest) -> str:
        """Say how many samples have which modalities; "" if all have those that the strategy reads."""
        return streams_in(manifest)

    def refusals(self, manifest: Manifest) -> tuple[Problem, ...]:
        """Return the problems for which the strategy and its conditions refuse samples."""
        try:
            self.strategy.check(manifest)
        except LtxError as error:
            return tuple(map(self.placed, error.problems))
        return ()

    def path(self, folder: str, name: str) -> Path:
        """Return the path of a sample's file."""
        return find_sample(self.root, folder, name)

    def seconds(self, entry: Entry) -> float | None:
        """Return the time in seconds at which the last cell of stored latents ends; None if the time is unknown or the entry is not of
        latents.
        """
        modality = MODALITY_OF_LATENTS.get(len(entry.shape), "") if entry.kind == "latents" else ""
        rate = 1.0 if modality == "audio" else entry.rate
        return _end(modality, entry.shape, rate) if modality and rate is not None else None

    def mask(self, folder: str, name: str) -> Tensor:
        """Read a stored mask.

        Raises:
            DataError: the file cannot be read, or is not a mask.
        """
        return read_mask(self.path(folder, name))

    def damaged(self, files: Iterable[tuple[tuple[str, str], Entry]], step: Callable[[], None]) -> Iterator[Problem]:
        """Yield problems for files whose bytes are no longer those that were written.

        Args:
            files: the folder and the name of each file, with its entry, which has a checksum.
            step: a function that is called after each file.
        """
        known = ((self.path(folder, name), entry) for (folder, name), entry in files)
        for problem in in_order(lambda each: damage(*each), known, READERS, ahead=AHEAD):
            yield from [] if problem is None else [problem]
            step()

    def wrong(self, files: Iterable[tuple[tuple[str, str], Entry]], step: Callable[[], None]) -> Iterator[Problem]:
        """Yield problems for files in which a value, the shape or the bytes differ from the manifest. Every value is read.

        Args:
            files: the folder and the name of each file, with its entry.
            step: a function that is called after each file.
        """
        for (folder, name), entry in files:
            yield from _wrong(self.path(folder, name), entry)
            step()


def whole_set(
    root: Path | str, folders: Collection[str] | None = None, only: Collection[str] | None = None, *, trains_without: bool = False
) -> StrategyData:
    """Read an encoded set as a run that uses all its folders would.

    Args:
        root: the folder that `ltx preprocess` wrote to, or the dataset's folder with `.precomputed` in it.
        folders: the folders to look at; None for all.
        only: the names of samples to look at; None for all.
        trains_without: whether samples may lack video or audio.

    Raises:
        DataError: there is no such folder, or it has no latents.
    """
    named = Path(root)
    if not named.is_dir():
        raise DataError("there is no such folder", where=str(named), remedy="Name the folder that `ltx preprocess` wrote to.")
    root = encoded_root(named, TARGETS.values())
    registry = load()
    held = {name: what for name, what in _held(root, registry).items() if folders is None or name in folders}
    tables: dict[str, ModalityTable] = {}
    unread = [name for name, (kind, _) in held.items() if kind == "text" and name != TEXT_FOLDER]
    for modality in MODALITIES:
        mine = {name: kind for name, (kind, of) in held.items() if of == modality and kind != "values"}
        target = _target(modality, mine)
        others = {name: kind for name, kind in mine.items() if name != target}
        if target is None:
            unread += others
            continue
        uses = []
        for name, kind in others.items():
            condition = CONDITIONS[kind]
            uses.append(ConditionUse(condition, registry.get("condition", condition).value(), sources={condition: name}))
        tables[modality] = ModalityTable(is_generated=True, latents_dir=target, conditions=uses)
    _add_values(tables, [(name, of) for name, (kind, of) in held.items() if kind == "values"], registry)
    if not tables:
        remedy = "Name the folder that `ltx preprocess` wrote to, which holds latents, audio_latents or both; or a folder of clips, images or sounds."
        raise DataError("this folder holds neither latents nor media", where=str(named), remedy=remedy)
    modalities: dict[str, Modality] = {"video": VideoModality(), "audio": AudioModality()}
    strategy = FlexibleStrategy(tables, Setting(modalities, Uniform(), trains_without=trains_without))
    return StrategyData(root, strategy, _at_folders(root, strategy.sources()), only, tuple(sorted(unread)))


@functools.lru_cache(maxsize=1024)
def _end(modality: str, shape: tuple[int, ...], rate: float) -> float:
    kind = VideoModality() if modality == "video" else AudioModality()
    return float(kind.positions(kind.grid_of(shape), torch.tensor([rate]))[0, 0].max())


def _wrong(path: Path, entry: Entry) -> Iterator[Problem]:
    try:
        _, held = read_recorded(path)
    except DataError as error:
        yield from error.problems
        return
    if entry.finite and not held.finite:
        yield Problem("holds NaN or infinite values, but the manifest says otherwise", str(path), redo(path))
    elif held.shape != entry.shape:
        yield Problem(f"has the shape {list(held.shape)}, but the manifest says {list(entry.shape)}", str(path), redo(path))
    elif entry.checksum and entry.checksum != held.checksum:
        yield Problem(DAMAGED, str(path), redo(path))


def _at_folders(root: Path, sources: Mapping[str, Source]) -> Callable[[Problem], Problem]:
    """For sets without a run file, return a function that moves a problem from a key of the strategy to the folder that the key names."""
    places: dict[str, str] = {}
    for source in sources.values():
        if source.where:
            places[source.where] = places[source.where.rpartition(".")[0]] = str(root / source.folder)

    def placed(problem: Problem) -> Problem:
        key = next((key for key in sorted(places, key=len, reverse=True) if problem.where.startswith(key)), None)
        return problem if key is None else attrs.evolve(problem, where=places[key] + problem.where.removeprefix(key))

    return placed


def _target(modality: str, folders: Mapping[str, str]) -> str | None:
    """Find the folder of a modality's own latents: the conventional folder, or else the first that is not named as a reference."""
    latents = [name for name, kind in folders.items() if kind == "latents"]
    if TARGETS[modality] in latents:
        return TARGETS[modality]
    return next((name for name in latents if not name.startswith("reference")), None)


@attrs.frozen
class _Reading:
    """A condition that reads values and gives nothing, so that the values are checked like those of any other condition."""

    modalities = frozenset(MODALITIES)

    roles: tuple[Role, ...]

    def apply(self, state: LatentState, inputs: Inputs) -> LatentState:
        return state


def _add_values(tables: Mapping[str, ModalityTable], folders: Collection[tuple[str, str]], registry: Registry) -> None:
    """Have each folder of values read with the modality that it goes with; folders of columns that are not installed go with any
    modality.
    """
    shapes = {folder_of(name, column.value): getattr(column.value, "shape", None) for name, column in registry.of_kind("column").items()}
    for name, modality in folders:
        table = tables.get(modality) or next(iter(tables.values()), None)
        if table is not None:
            role = Role("values", source_key="values_dir", kind="values", shape=shapes.get(name))
            table.conditions.append(ConditionUse("values", _Reading((role,)), sources={"values": name}))


def _held(root: Path, registry: Registry) -> dict[str, tuple[str, str]]:
    """Return the kind and modality of each folder: those of its conventional name, else those of most of its samples."""
    known = {TEXT_FOLDER: ("text", ""), **{folder: ("latents", modality) for modality, folder in TARGETS.items()}}
    known |= {
        folder_of(name, column.value): (column.value.kind, column.value.modality) for name, column in registry.of_kind("column").items()
    }
    names = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = {}
    for name in names:
        held = known.get(name) or _most(root / name)
        if held is not None:
            found[name] = held
    return found


def _most(folder: Path) -> tuple[str, str] | None:
    kinds = Counter[tuple[str, str]]()
    for entry, names in alike(list_folder(folder, remember=False).entries):
        if entry.kind:
            kinds[entry.kind, "" if entry.kind == "text" else entry.modality] += len(names)
    return next((kind for kind, _ in kinds.most_common(1)), None)
