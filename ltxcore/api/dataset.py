"""Datasets as they are before they are encoded: files of rows, and folders of media. Provisional until 1.0."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ltxcore.dataset.folder import Kind, media_under
from ltxcore.dataset.raw_dataset import RawDataset, open_dataset
from ltxcore.dataset.table import Row, read_table, rows_writer
from ltxcore.errors import DataError

__all__ = ["RawDataset", "Row", "media_in", "open_dataset", "read_table", "rows_writer"]


def media_in(folder: Path) -> Mapping[str, Kind]:
    """Whether each medium under a folder is a clip ("video"), a picture ("image") or a sound ("sound"), by its path under it.

    Raises:
        DataError: the folder cannot be read, or a medium in it cannot be taken.
    """
    found = media_under(folder)
    if found.unusable:
        raise DataError.of(found.unusable)
    return found.media
