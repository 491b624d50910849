"""The captions of a dataset, one by one, and their changes where they came from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from ltxcore.config.scalars import described
from ltxcore.dataset.caption_edits import CaptionEdit
from ltxcore.dataset.caption_files import FinishedCaptions, write_captions
from ltxcore.dataset.raw_dataset import RawDataset
from ltxcore.errors import DataError, Problem
from ltxcore.sources import Row


@attrs.frozen
class Caption:
    """A caption of a dataset: the index of its row, its name, and the text, which is None if the row has no caption. If the row has a list
    of captions, `part` is the caption's index in this list.
    """

    index: int
    name: str
    caption: str | None
    part: int | None = None

    @property
    def words(self) -> int:
        """The number of words."""
        return len((self.caption or "").split())

    @property
    def is_empty(self) -> bool:
        """Whether the caption is missing or consists only of white space."""
        return not (self.caption or "").strip()


@attrs.frozen
class Captions:
    """The captions of a dataset.

    Attributes:
        dataset: the dataset.
        all: the captions, in the order of the rows.
        problems: the problems of files and captions that cannot be used.
    """

    dataset: RawDataset
    all: tuple[Caption, ...]
    problems: tuple[Problem, ...]

    @classmethod
    def of(cls, dataset: RawDataset) -> Captions:
        """Return the captions of a dataset.

        Raises:
            DataError: the dataset has no column of captions.
        """
        column = dataset.columns.get("caption")
        if column is None:
            raise DataError("has no caption column", where=str(dataset.path), remedy="Name yours with --caption-column.")
        found, problems = list[Caption](), list(dataset.problems)
        for index, row in enumerate(dataset.rows):
            value = row.values.get(column)
            several = isinstance(value, list) and value and all(isinstance(each, str) for each in value)
            if value is not None and not isinstance(value, str) and not several:
                problems.append(
                    Problem(f'its "{column}" is {described(value)}, not text', dataset.table.at(row), "Put the value in quotes.")
                )
            elif value is not None and any("\ud800" <= letter <= "\udfff" for letter in "".join(value)):
                problems.append(Problem(f'its "{column}" contains an unpaired surrogate', dataset.table.at(row), "Write it again."))
            elif several:
                name = _name(dataset, row)
                found += [Caption(index, f"{name}, caption {part + 1}", each, part) for part, each in enumerate(value or ())]
            else:
                found.append(Caption(index, _name(dataset, row), value))
        return cls(dataset, tuple(found), tuple(problems))

    def edited(self, caption: Caption, edit: CaptionEdit) -> str | None:
        """Return a caption with a change; None if it stays the same. An empty caption is never changed.

        Raises:
            DataError: the caption would contain a zero byte.
        """
        return None if caption.is_empty else self.written(caption, edit(caption.caption or ""))

    def written(self, caption: Caption, text: str) -> str | None:
        """Return a text as the dataset would hold it in place of a caption; None if the caption stays the same.

        Raises:
            DataError: the text contains a zero byte.
        """
        if "\0" in text:
            remedy = "Use a replacement without a zero byte."
            raise DataError("would contain a zero byte", where=f"the caption of {caption.name}", remedy=remedy)
        if self.dataset.is_folder:  # its files hold captions with space around them, which does not belong to them
            text = text.strip()
        return None if text == (caption.caption or "") else text

    def files(self, changes: Mapping[Caption, str]) -> dict[Path, bytes]:
        """Return the new content of the files that hold the captions, by path; nothing is written.

        A clip in a folder that has no caption yet gets a text file of its own.

        Raises:
            DataError: a caption is in no file that the dataset's source can change.
            PluginError: the source fails, or breaks its protocol.
        """
        new: dict[Path, bytes] = {}
        rows: dict[int, str | list[str]] = {}
        lists: dict[int, list[str]] = {}
        for caption, text in changes.items():
            row = self.dataset.rows[caption.index]
            if caption.part is not None:
                lists.setdefault(caption.index, list(row.values[self.dataset.columns["caption"]]))[caption.part] = text
            elif caption.caption is None and row.caption_file and not (path := self.dataset.text_file(row)).exists():
                new[path] = text.encode()
            else:
                rows[caption.index] = text
        rows |= lists
        return {**new, **(self.dataset.recaptioned(rows) if rows else {})}

    def write(self, changes: Mapping[Caption, str], what: str) -> FinishedCaptions:
        """Write captions where they came from: all of them, or, if the program is stopped, the rest of them with `finish_captions`.

        Args:
            changes: the new texts.
            what: a description of the change, which is the same only for the same change.

        Raises:
            DataError: as in `files`; or a file cannot be written.
            PluginError: as in `files`.
        """
        return write_captions(self.dataset.path, self.files(changes), what)


def _name(dataset: RawDataset, row: Row) -> str:
    column = dataset.columns.get(dataset.role(row))
    return row.file or str(row.values.get(column or "") or dataset.table.at(row))
