"""Make references or masks for a dataset by applying a filter to its clips."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path

import attrs

from ltxcore.api import Clip, ConfigError, DataError, LtxError, Problem
from ltxcore.api.commands import as_done, bars, fitted, remove_unfinished, usual_workers
from ltxcore.api.dataset import RawDataset, Row, open_dataset, read_table, rows_writer
from ltxcore.api.media import open_clip, probe, write_frames, write_media
from ltxplugins.tools.made import Made
from ltxplugins.tools.reference.filters import Filter, filtered_frames
from ltxplugins.tools.work import Tally


@attrs.frozen
class _Job:
    """A clip, and the file to write its reference or mask to."""

    clip: Path
    place: Path
    rows: tuple[Row, ...]


def reference(
    dataset: Path,
    output: Path,
    filter_: Filter,
    column: str,
    *,
    local: Iterable[Path] = (),
    video_column: str | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    progress: bool = True,
) -> Tally:
    """Make a reference or a mask for every clip that has no up-to-date one, and write the dataset with the column
    for them.

    They go to `references/FILTER` or `masks/FILTER` beside the output. Each has the number of frames and the exact frame
    rate of its clip; those of images are PNG files. A clip that fails is reported and left out of the output.

    Args:
        dataset: a dataset file, or a folder of clips.
        output: the dataset file to write; all clips must be under its folder.
        filter_: the filter.
        column: the column of the references or masks in the output.
        local: Python files whose sources may read the dataset.
        video_column: the column of the clips; None to find it by its usual names.
        overwrite: whether to make files again that are up to date.
        workers: the number of clips to process at a time; None for one per processor, but at most 8.
        progress: whether to show a bar.

    Raises:
        ConfigError: the output is the dataset itself, has an unknown format, or is in a folder that does not contain
            the clips; or the filter cannot work on any clip.
        DataError: the dataset cannot be read, or nothing could be made.
    """
    folder = Path(os.path.normpath(output.absolute().parent))
    write_rows = rows_writer(output)
    _check_output(dataset, output, filter_, column)
    listed = open_dataset(dataset, {"video": video_column}, apart=folder / f"{filter_.makes}s", local=local)
    if "video" not in listed.columns and dataset.is_dir():
        raise DataError("contains no clips and no images", where=str(dataset), remedy="Name a folder of clips, or a dataset file.")
    if "video" not in listed.columns:
        raise DataError('has no column "video"', where=str(dataset), remedy="Name yours with --video-column.")
    _check_column(listed, column)
    home = folder / f"{filter_.makes}s" / filter_.folder
    listed, notes = listed.without_sounds()
    listed, excluded = listed.without_excluded()
    notes = (*notes, *excluded)
    jobs, problems = _jobs(listed, folder, home)
    problems += listed.problems
    home.mkdir(parents=True, exist_ok=True)
    remove_unfinished(home)
    made = Made(home)

    def work(job: _Job) -> bool:
        of = _made_of(job.clip, filter_)
        if not overwrite and made.is_fresh(job.place, of):
            return False
        _make(job, filter_)
        made.record(job.place, of)
        return True

    results: dict[Path, bool | LtxError] = {}
    with bars(progress) as phase, closing(as_done(work, jobs, workers or usual_workers())) as results_:
        step = phase(filter_.makes, len(jobs))
        for job, result in results_:
            if isinstance(result, ConfigError):
                raise result
            results[job.place] = result
            step()
    for job in jobs:
        failed = results[job.place]
        if isinstance(failed, LtxError):
            problems += [_told(problem, listed.where(row), job.clip) for row in job.rows for problem in failed.problems]
    whole = {id(row): job.place for job in jobs if isinstance(results[job.place], bool) for row in job.rows}
    if not whole:
        raise DataError.of(problems)
    write_rows([_row(listed, row, folder, column, whole[id(row)]) for row in listed.rows if id(row) in whole])
    done = sum(result is True for result in results.values())
    return Tally(done, len([r for r in results.values() if r is False]), tuple(problems), notes)


def _check_output(dataset: Path, output: Path, filter_: Filter, column: str) -> None:
    if not output.is_file():
        return
    if dataset.is_file() and output.samefile(dataset):
        what = "the output would overwrite the dataset, without the rows whose clips fail"
        raise ConfigError(what, where=str(output), remedy="Name another file.")
    ours = f"{filter_.makes}s/{filter_.folder}/"
    if not all(str(row.values.get(column, "")).startswith(ours) for row in read_table(output).rows):
        keys = "" if filter_.folder == filter_.name else " and these keys"
        what = f'already exists, and was not written by this command with the filter "{filter_.name}"{keys}'
        raise ConfigError(what, where=str(output), remedy="Name another file.")


def _check_column(listed: RawDataset, column: str) -> None:
    """Refuse a column for the references or masks that would take the place of the clips, their sounds or their captions."""
    taken = {listed.columns[role] for role in ("video", "audio", "caption") if role in listed.columns}
    if not column.strip() or listed.columns.get(column, column) in taken:
        what = "holds the clips, their audio or their captions" if column.strip() else "is empty"
        raise ConfigError(what, where=f'--column "{column}"', remedy="Name another column.")


def _jobs(listed: RawDataset, folder: Path, home: Path) -> tuple[list[_Job], list[Problem]]:
    """Return each clip once, and a problem for each row without a clip."""
    found: dict[Path, _Job] = {}
    problems: list[Problem] = []
    for row in listed.rows:
        try:
            clip = listed.file(row, "video")
            if not clip.is_relative_to(folder):
                raise ConfigError(
                    f"the clip {clip} is not inside the output's folder, {folder}",
                    where=listed.where(row),
                    remedy=f"Write the output to {Path(os.path.commonpath([clip.parent, folder]))}.",
                )
            job = _Job(clip, _place(clip, folder, home, is_image=listed.kind(row) == "image"), (row,))
            other = found.setdefault(job.place, job)
            if other.clip != clip:
                raise DataError(
                    f"its {home.parent.name[:-1]} would have the same name as that of {other.clip}",
                    where=listed.where(row) or str(clip),
                    remedy="Rename one of the clips.",
                )
            if other is not job:
                found[job.place] = attrs.evolve(other, rows=(*other.rows, row))
        except DataError as error:
            problems += error.problems
    return list(found.values()), problems


def _place(clip: Path, folder: Path, home: Path, is_image: bool) -> Path:
    """Return the path for what is made from a clip, which is a PNG file if the clip is an image."""
    ending = ".png" if is_image else ".mp4"
    place = home / clip.relative_to(folder)
    return place.with_name(fitted(place.stem, len(ending)) + ending)


def _made_of(clip: Path, filter_: Filter) -> str:
    """Return a hash of everything that a reference or a mask depends on.

    Raises:
        DataError: the clip does not exist.
    """
    if not os.path.isfile(clip):  # noqa: PTH113 - which is False, too, of a name that no file can have
        raise DataError(
            "there is no such file", where=str(clip), remedy="Check the path; paths in a dataset are relative to the dataset's own folder."
        )
    status, corrections = clip.stat(), probe(clip).picture_corrections
    told = [status.st_size, status.st_mtime_ns, filter_.version, *([list(corrections)] if corrections else [])]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _make(job: _Job, filter_: Filter) -> None:
    import torch

    is_image = probe(job.clip).is_image
    if is_image != (job.place.suffix == ".png"):
        raise DataError(
            f"this is {'an image' if is_image else 'a clip'}, which its file extension does not say",
            where=str(job.clip),
            remedy="Give the file the extension of its format.",
        )
    with open_clip(job.clip) as (rate, frames):
        filtered = filtered_frames(frames, filter_, job.clip)
        if is_image:
            write_media(job.place.with_suffix(""), Clip(torch.stack(list(filtered)), 1.0))
        else:
            write_frames(job.place, filtered, rate, lossless=filter_.makes == "mask")


def _told(problem: Problem, where: str, clip: Path) -> Problem:
    place = problem.where or str(clip)
    return attrs.evolve(problem, where=f"{where}: {place}" if where else place)


def _row(listed: RawDataset, row: Row, folder: Path, column: str, place: Path) -> Mapping[str, object]:
    replaced = listed.columns.get(column, column)  # the column may have another of its usual names
    values = {name: value for name, value in listed.moved(row, folder).items() if name != replaced}
    return {**values, column: place.relative_to(folder).as_posix()}
