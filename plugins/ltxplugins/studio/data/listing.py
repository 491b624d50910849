"""The clips of a dataset as the page lists them. No media file is opened for a list, so that ten thousand clips are listed in a moment."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import attrs

from ltxcore.api import DataError, LtxError, Problem
from ltxcore.api.dataset import Caption, Captions, RawDataset, open_dataset
from ltxcore.api.sources import kind_of
from ltxplugins.studio.workspace import Workspace

PAGE = 48
"""The number of clips that are sent at a time."""
KEPT = 2
"""The number of datasets whose lists stay in memory."""
MOST_SEEN = 20_000
"""The maximum number of files and folders that are looked at to find datasets."""
TABLES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")

Order = Literal["dataset", "name", "words", "size", "length"]
ORDERS: Mapping[Order, str] = {
    "dataset": "as in the dataset",
    "name": "by name",
    "words": "by words of caption",
    "size": "by size of file, largest first",
    "length": "by length, longest first",
}
KINDS: Mapping[str, str] = {
    "": "all",
    "empty": "without a caption",
    "findings": "with findings",
    "excluded": "excluded",
    "included": "not excluded",
}
"""The kinds of clips that the user may ask for, as the page names them."""


@attrs.frozen(eq=False, slots=False)
class Clip:
    """A clip, picture or sound of a dataset.

    Attributes:
        index: the number of the clip's row, from 0.
        name: the path of the clip's file, as the dataset writes it; the place of the row if the row names no file.
        captions: the clip's captions: at least one, which may be empty.
        dataset: the dataset that the clip is in.
    """

    index: int
    name: str
    captions: tuple[Caption, ...]
    dataset: RawDataset

    @cached_property  # most clips of a large dataset are never shown
    def media(self) -> Mapping[str, Path]:
        """The files of its roles, such as "video" and "video_mask"."""
        dataset, row = self.dataset, self.dataset.rows[self.index]
        media: dict[str, Path] = {}
        for role, column in dataset.columns.items():
            cell = row.values.get(column)
            if role != "caption" and isinstance(cell, str) and cell.strip() and (role not in dataset.inline or kind_of(cell) is not None):
                media[role] = dataset.file(row, role)
        return media

    @property
    def where(self) -> str:
        """The place of its row, as messages name it."""
        return self.dataset.table.at(self.dataset.rows[self.index])

    @property
    def role(self) -> str:
        """The role of the file that the clip is named after."""
        return "video" if "video" in self.media else "audio"

    @property
    def path(self) -> Path | None:
        """The file that the clip is named after; None if its row names none."""
        return self.media.get(self.role)

    @property
    def words(self) -> int:
        return sum(caption.words for caption in self.captions)

    @property
    def beside(self) -> dict[str, Path]:
        """The files of the clip's other roles that can be shown, such as references."""
        return {role: path for role, path in self.media.items() if role != self.role and kind_of(path.name) is not None}

    def says(self, text: str) -> bool:
        """Return whether a text, in lower case, is in the name or a caption."""
        return text in self.name.lower() or any(text in (caption.caption or "").lower() for caption in self.captions)


class Listing:
    """The clips of a dataset, in the order of its rows.

    Args:
        dataset: the dataset.
        files: an object that is the same for lists of the same files, whose captions may differ.
    """

    def __init__(self, dataset: RawDataset, files: object = None) -> None:
        self.dataset, self.files = dataset, files or object()
        self.problems: tuple[Problem, ...] = dataset.problems
        self.captions: Captions | None = None
        by_row: dict[int, list[Caption]] = {}
        try:
            self.captions = Captions.of(dataset)
            self.problems = self.captions.problems
            for caption in self.captions.all:
                by_row.setdefault(caption.index, []).append(caption)
        except DataError as error:
            self.problems = (*self.problems, *error.problems)
        self.clips = [self._clip(index, by_row.get(index, ())) for index in range(len(dataset.rows))]

    @cached_property
    def by_name(self) -> dict[str, Clip]:
        return {clip.name: clip for clip in reversed(self.clips)}

    def root(self) -> Path | None:
        """Return the folder of the dataset's encoded samples; None if there is none yet."""
        from ltxcore.api.dataset import default_root  # needs torch, for which the program does not wait at its start

        try:
            root = default_root(self.dataset.path)
        except LtxError:
            return None
        return root if root.is_dir() else None

    def get(self, name: str, row: str = "") -> Clip:
        """Return the clip of a name.

        Args:
            name: the name.
            row: the number of the row that the page showed, from 0, which tells rows of one name apart.

        Raises:
            DataError: there is no such clip.
        """
        if row.isdecimal() and int(row) < len(self.clips) and self.clips[int(row)].name == name:
            return self.clips[int(row)]
        found = self.by_name.get(name)
        if found is None:
            raise DataError(f"{name} is no longer in this dataset", remedy="Reload the page.")
        return found

    def recaptioned(self, caption: Caption, text: str) -> Listing:
        """Return the list with another caption, which was written to the dataset just now.

        Args:
            caption: a caption of this list.
            text: the new caption, as the dataset holds it.
        """
        table, column = self.dataset.table, self.dataset.columns["caption"]
        row = table.rows[caption.index]
        cell: str | list[str] = text
        if caption.part is not None:
            cell = [text if part == caption.part else each for part, each in enumerate(row.values[column])]
        rows = list(table.rows)
        rows[caption.index] = attrs.evolve(row, values={**row.values, column: cell})
        return Listing(attrs.evolve(self.dataset, table=attrs.evolve(table, rows=tuple(rows))), self.files)

    def chosen(self, search: str, order: str, only: Callable[[Clip], bool]) -> list[Clip]:
        """Return the clips that a text is found in, in an order.

        Args:
            search: the text; capitals are ignored.
            order: one of `ORDERS`; the caller sorts by length.
            only: a function that returns whether a clip is wanted.
        """
        text = search.strip().lower()
        found = [clip for clip in self.clips if clip.says(text) and only(clip)]
        if order == "name":
            found.sort(key=lambda clip: clip.name.lower())
        elif order == "words":
            found.sort(key=lambda clip: clip.words)
        elif order == "size":
            found.sort(key=lambda clip: -size_of(clip.path))
        return found

    def _clip(self, index: int, captions: Sequence[Caption]) -> Clip:
        dataset, row = self.dataset, self.dataset.rows[index]
        name = dataset.name(row) or dataset.table.at(row)
        return Clip(index, name, tuple(captions) or (Caption(index, name, None),), dataset)


def size_of(path: Path | None) -> int:
    """Return the bytes of a file; 0 if there is none."""
    try:
        return 0 if path is None else path.stat().st_size
    except OSError:
        return 0


class Listings:
    """The lists of the datasets that were looked at last."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Listing] = OrderedDict()

    def get(self, name: str, *, anew: bool = False) -> Listing:
        """Return the list of a dataset.

        Args:
            name: the path of the dataset.
            anew: whether to read the dataset again, because it may have changed.

        Raises:
            LtxError: the dataset cannot be read.
        """
        path = self._workspace.path(name)
        key = str(path)
        with self._lock:
            if not anew and key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            self._kept.pop(key, None)
            found = self._kept[key] = Listing(open_dataset(path))
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return found

    def keep(self, name: str, listing: Listing) -> None:
        """Keep a changed list in place of the one that was read, so that it need not be read again."""
        with self._lock:
            self._kept[str(self._workspace.path(name))] = listing


def find_datasets(root: Path) -> tuple[list[Path], bool]:
    """Return the folders of media and the dataset files in a folder, and whether all of it was looked at.

    A folder that is inside a folder of media belongs to it. No file is opened.
    """
    found: list[Path] = []
    seen = 0
    for folder, folders, files in os.walk(root):
        seen += len(files) + 1
        if seen > MOST_SEEN and folder != str(root):
            return found, False
        found += _datasets_of(Path(folder), sorted(files), inside=any(Path(folder).is_relative_to(each) for each in found))
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not _is_made(Path(folder) / name))
    return found, True


def _datasets_of(folder: Path, files: Sequence[str], inside: bool) -> Iterator[Path]:
    if not inside and any(kind_of(name) is not None and not name.startswith(".") for name in files):
        yield folder
    yield from (folder / name for name in files if _may_list(folder, name))


def _may_list(folder: Path, name: str) -> bool:
    """Return whether a file may be a dataset: its ending says so, and it is not the caption of a file of the same name."""
    path = folder / name
    return (
        path.suffix.lower() in TABLES
        and not name.startswith(".")
        and not any(path.with_suffix(each).exists() for each in (".mp4", ".mov", ".png", ".jpg", ".wav"))
    )


def _is_made(folder: Path) -> bool:
    """Return whether a folder was written by ltx: a run, or encoded samples."""
    return (folder / "run.json").exists() or any((folder / each).is_dir() for each in ("latents", "audio_latents", "conditions"))
