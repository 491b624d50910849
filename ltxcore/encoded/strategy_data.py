"""The samples that a strategy reads, checked against the records of how they were written. For a set without a run
file, the strategy is one that reads all of it.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import attrs
import torch
from torch import Tensor

from ltxcore.conditions import ConditionUse
from ltxcore.encoded.listing import list_folder
from ltxcore.encoded.manifest import survey_manifest
from ltxcore.encoded.sample_names import encoded_root, find_sample
from ltxcore.encoded.store import DAMAGED, damage, read_mask, read_recorded, redo
from ltxcore.encoded.stored import MODALITY_OF_LATENTS
from ltxcore.errors import DataError, LtxError, Problem
from ltxcore.flow.sigmas import Uniform
from ltxcore.modalities.audio import AudioModality
from ltxcore.modalities.video import VideoModality
from ltxcore.protocols import MODALITIES, Entry, Manifest, Modality, Setting, Source, Strategy
from ltxcore.registry import load
from ltxcore.strategy import TEXT_FOLDER, FlexibleStrategy, ModalityTable
from ltxcore.workers import READERS, in_order

HOLDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        TEXT_FOLDER: ("text", ""),
        "latents": ("latents", "video"),
        "audio_latents": ("latents", "audio"),
        "reference_latents": ("latents", "video"),
        "reference_audio_latents": ("latents", "audio"),
        "video_masks": ("mask", "video"),
        "audio_masks": ("mask", "audio"),
    }
)
"""The kind and modality that folders hold by convention. The content of any other folder is that of most of its samples."""

TARGETS = {"video": "latents", "audio": "audio_latents"}
CONDITIONS = {"mask": "mask", "latents": "reference"}
"""The condition, by kind of folder, that reads such a folder in addition to the latents of its modality; its role has the same name."""


@attrs.frozen(eq=False)
class StrategyData:
    """The samples that a strategy reads.

    Attributes:
        root: the data root.
        strategy: the strategy whose sources are read.
        placed: a function that changes the place of problems to one that the user knows: from a key of the strategy to
            its place in the run file, or to the folder that it names.
        only: the names of samples to look at; None for all.
        unread: the folders that are there too, but that the strategy cannot use.
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
        """Return the samples that there are, and everything that is wrong with them as far as their manifests tell. Nothing is written."""
        manifest, problems = survey_manifest(self.root, self.sources, only=self.only, remember=False)
        return manifest, tuple(map(self.placed, problems))

    def refusals(self, manifest: Manifest) -> tuple[Problem, ...]:
        """Find why the strategy and its conditions refuse samples."""
        try:
            self.strategy.check(manifest)
        except LtxError as error:
            return tuple(map(self.placed, error.problems))
        return ()

    def path(self, folder: str, name: str) -> Path:
        """Return the path of a sample's file."""
        return find_sample(self.root, folder, name)

    def seconds(self, entry: Entry) -> float | None:
        """Return the time in seconds at which the last cell of stored latents ends; None if it is not known, or they are not latents."""
        modality = MODALITY_OF_LATENTS.get(len(entry.shape), "") if entry.kind == "latents" else ""
        rate = 1.0 if modality == "audio" else entry.rate
        return _end(modality, entry.shape, rate) if modality and rate is not None else None

    def mask(self, folder: str, name: str) -> Tensor:
        """Read a stored mask.

        Raises:
            DataError: it cannot be read, or is not a mask.
        """
        return read_mask(self.path(folder, name))

    def damaged(self, files: Mapping[tuple[str, str], Entry], step: Callable[[], None]) -> Iterator[Problem]:
        """Find files whose bytes are not those that were written.

        Args:
            files: the entries of the files, by folder and name, with checksums.
            step: a function that is called after each of them.
        """
        known = [(self.path(folder, name), entry) for (folder, name), entry in files.items()]
        for problem in in_order(lambda each: damage(*each), known, READERS):
            yield from [] if problem is None else [problem]
            step()

    def wrong(self, files: Mapping[tuple[str, str], Entry], step: Callable[[], None]) -> Iterator[Problem]:
        """Find files in which a value, the shape or the bytes are not what their manifest says; every value is read.

        Args:
            files: the entries of the files, by folder and name.
            step: a function that is called after each of them.
        """
        for (folder, name), entry in files.items():
            yield from _wrong(self.path(folder, name), entry)
            step()


def whole_set(root: Path, folders: Collection[str] | None = None, only: Collection[str] | None = None) -> StrategyData:
    """Read a folder of encoded samples as a run that reads all of its folders would.

    Args:
        root: the folder that `ltx preprocess` wrote to, or the dataset's folder that it wrote next to.
        folders: the folders to look at; None for all.
        only: the names of samples to look at; None for all.

    Raises:
        DataError: there are no latents in it.
    """
    named, root = root, encoded_root(root, TARGETS.values())
    held = {name: what for name, what in _held(root).items() if folders is None or name in folders}
    registry = load()
    tables: dict[str, ModalityTable] = {}
    unread = [name for name, (kind, _) in held.items() if kind == "text" and name != TEXT_FOLDER]
    for modality in MODALITIES:
        mine = {name: kind for name, (kind, of) in held.items() if of == modality}
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
    if not tables:
        remedy = "Name the folder that `ltx preprocess` wrote to, which holds latents, audio_latents or both; or a folder of clips, images or sounds."
        raise DataError("there are no latents in this folder, and no media", where=str(named), remedy=remedy)
    modalities: dict[str, Modality] = {"video": VideoModality(), "audio": AudioModality()}
    strategy = FlexibleStrategy(tables, Setting(modalities, Uniform()))
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
        yield Problem("holds NaN or infinite values, but its manifest says that it does not", str(path), redo(path))
    elif held.shape != entry.shape:
        yield Problem(f"has the shape {list(held.shape)}, but its manifest says {list(entry.shape)}", str(path), redo(path))
    elif entry.checksum and entry.checksum != held.checksum:
        yield Problem(DAMAGED, str(path), redo(path))


def _at_folders(root: Path, sources: Mapping[str, Source]) -> Callable[[Problem], Problem]:
    """Return a function that gives problems of a set without a run file the place of the folder that a key of the strategy names."""
    places: dict[str, str] = {}
    for source in sources.values():
        if source.where:
            places[source.where] = places[source.where.rpartition(".")[0]] = str(root / source.folder)

    def placed(problem: Problem) -> Problem:
        key = next((key for key in sorted(places, key=len, reverse=True) if problem.where.startswith(key)), None)
        return problem if key is None else attrs.evolve(problem, where=places[key] + problem.where.removeprefix(key))

    return placed


def _target(modality: str, folders: Mapping[str, str]) -> str | None:
    """Find the folder of the modality's own latents: the conventional one, else the first that is not named as a reference."""
    latents = [name for name, kind in folders.items() if kind == "latents"]
    if TARGETS[modality] in latents:
        return TARGETS[modality]
    return next((name for name in latents if not name.startswith("reference")), None)


def _held(root: Path) -> dict[str, tuple[str, str]]:
    names = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = {}
    for name in names:
        held = HOLDS.get(name) or _most(root / name)
        if held is not None:
            found[name] = held
    return found


def _most(folder: Path) -> tuple[str, str] | None:
    entries = list_folder(folder, remember=False).entries.values()
    kinds = Counter((entry.kind, "" if entry.kind == "text" else entry.modality) for entry in entries if entry.kind)
    return next((kind for kind, _ in kinds.most_common(1)), None)
