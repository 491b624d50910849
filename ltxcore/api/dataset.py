"""Datasets before they are encoded: dataset files, media folders, and preprocessing plans. Provisional until 1.0."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.dataset.caption_edits import CaptionEdit, before_and_after
from ltxcore.dataset.caption_files import captions_stopped, finish_captions
from ltxcore.dataset.caption_list import Caption, Captions
from ltxcore.dataset.captions import without_opening
from ltxcore.dataset.exclusions import read_excluded, write_excluded
from ltxcore.dataset.media_folder import Kind, find_media
from ltxcore.dataset.raw_dataset import RawDataset, open_dataset
from ltxcore.dataset.rows import Sample, survey_dataset
from ltxcore.dataset.sources import read_table
from ltxcore.dataset.write_rows import rows_writer
from ltxcore.errors import DataError
from ltxcore.later import later
from ltxcore.sources import Row

if TYPE_CHECKING:
    from ltxcore.encode.cut_sounds import SOUND_MARGIN
    from ltxcore.encode.roots import data_kind, default_root
    from ltxcore.encode.sample_sizes import Planned
    from ltxcore.encode.standing import stale
    from ltxcore.encode.survey import Survey, survey_media

__all__ = [
    "SOUND_MARGIN",
    "Caption",
    "CaptionEdit",
    "Captions",
    "Planned",
    "PreprocessingTable",
    "RawDataset",
    "Row",
    "Sample",
    "Survey",
    "before_and_after",
    "captions_stopped",
    "data_kind",
    "default_root",
    "finish_captions",
    "media_in",
    "open_dataset",
    "read_excluded",
    "read_table",
    "rows_writer",
    "stale",
    "survey_dataset",
    "survey_media",
    "without_opening",
    "write_excluded",
]

__getattr__ = later(
    __name__,
    {
        "Planned": "ltxcore.encode.sample_sizes",
        "SOUND_MARGIN": "ltxcore.encode.cut_sounds",
        "Survey": "ltxcore.encode.survey",
        "data_kind": "ltxcore.encode.roots",
        "default_root": "ltxcore.encode.roots",
        "stale": "ltxcore.encode.standing",
        "survey_media": "ltxcore.encode.survey",
    },
)


def media_in(folder: Path) -> Mapping[str, Kind]:
    """Return the kind of each media file under a folder ("video", "image" or "sound"), keyed by its path relative to
    the folder.

    Raises:
        DataError: the folder cannot be read, or a file in it cannot be used.
    """
    found = find_media(folder)
    if found.unusable:
        raise DataError.of(found.unusable)
    return found.media
