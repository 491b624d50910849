"""Reference clips for a dataset, made from its clips by a filter."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from ltxcore.api import Clip, ConfigError, DataError, LtxError, PluginError, Problem, ReferenceFilter
from ltxcore.api.commands import as_done, bars, find_plugin, fitted, is_out_of_memory, remove_unfinished, usual_workers
from ltxcore.api.dataset import RawDataset, Row, open_dataset, read_table, rows_writer
from ltxcore.api.media import open_clip, probe, write_frames, write_media
from ltxplugins.tools.made import Made
from ltxplugins.tools.work import Tally

if TYPE_CHECKING:
    from torch import Tensor

COLUMN = "reference_video"
OTHER_COLUMN = "ref_media_path"
FOLDER = "references"


@attrs.frozen
class Filter:
    """A filter that makes a reference from a clip.

    Attributes:
        name: the name that a plugin gives it.
        origin: the origin of the plugin.
        version: the plugin's version, with a hash of the content if it is a local file; if it changes, references are made anew.
        run: the filter itself.
    """

    name: str
    origin: str
    version: str
    run: ReferenceFilter


def filter_named(name: str, local: Iterable[Path]) -> Filter:
    """Find the filter that a plugin, or one of the Python files in `local`, adds under a name.

    Raises:
        ConfigError: there is no such filter.
        PluginError: its plugin is broken or switched off.
    """
    found = find_plugin("reference_filter", name, local=local, where="--filter")
    file = Path(found.origin.plugin)
    content = hashlib.sha256(file.read_bytes()).hexdigest() if file.suffix == ".py" and file.is_file() else ""
    return Filter(name, str(found.origin), f"{name} of {found.origin} {content}".strip(), found.value)


@attrs.frozen
class _Job:
    """A clip and the file for its reference."""

    clip: Path
    place: Path
    rows: tuple[Row, ...]


def reference(
    dataset: Path,
    output: Path,
    filter_: Filter,
    *,
    video_column: str | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    progress: bool = True,
) -> Tally:
    """Make a reference for every clip that lacks an up-to-date one, and write the dataset with the column
    "reference_video".

    References go to `references/FILTER` beside the output, each with the frame count and the exact frame rate of its
    clip; those of images are PNG. A clip that fails is left out of the output and reported; all others are in it.

    Args:
        dataset: a dataset file, or a folder of clips.
        output: the dataset file to write; all clips lie under its folder.
        filter_: the filter that makes references.
        video_column: the column of the clips; None finds it by convention.
        overwrite: whether to make even up-to-date references again.
        workers: the number of clips at a time; None means one per processor, at most 8.
        progress: whether to show a bar.

    Raises:
        ConfigError: the output is the dataset itself, has an unknown format, or is in a folder that does not hold the clips.
        DataError: the dataset cannot be read, or none of its clips gives a reference.
    """
    folder = Path(os.path.normpath(output.absolute().parent))
    write_rows = rows_writer(output)
    _check_output(dataset, output, filter_)
    listed = open_dataset(dataset, {"video": video_column}, apart=folder / FOLDER)
    if "video" not in listed.columns and dataset.is_dir():
        raise DataError("contains no clips and no images", where=str(dataset), remedy="Name a folder of clips, or a dataset file.")
    if "video" not in listed.columns:
        raise DataError('has no column "video"', where=str(dataset), remedy="Name yours with --video-column.")
    home = folder / FOLDER / filter_.name
    listed, notes = listed.without_sounds()
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
    with bars(progress) as phase:
        step = phase("reference", len(jobs))
        for job, result in as_done(work, jobs, workers or usual_workers()):
            results[job.place] = result
            step()
    for job in jobs:
        failed = results[job.place]
        if isinstance(failed, LtxError):
            problems += [_told(problem, listed.where(row), job.clip) for row in job.rows for problem in failed.problems]
    whole = {id(row): job.place for job in jobs if isinstance(results[job.place], bool) for row in job.rows}
    if not whole:
        raise DataError.of(problems)
    write_rows([_row(listed, row, folder, whole[id(row)]) for row in listed.rows if id(row) in whole])
    done = sum(result is True for result in results.values())
    return Tally(done, len([r for r in results.values() if r is False]), tuple(problems), notes)


def _check_output(dataset: Path, output: Path, filter_: Filter) -> None:
    if not output.is_file():
        return
    if dataset.is_file() and output.samefile(dataset):
        what = "the output would overwrite the dataset, without the rows whose clips fail"
        raise ConfigError(what, where=str(output), remedy="Name another file.")
    ours = f"{FOLDER}/{filter_.name}/"
    if not all(str(row.values.get(COLUMN, "")).startswith(ours) for row in read_table(output).rows):
        what = f'already exists, and was not written by this command with the filter "{filter_.name}"'
        raise ConfigError(what, where=str(output), remedy="Name another file.")


def _jobs(listed: RawDataset, folder: Path, home: Path) -> tuple[list[_Job], list[Problem]]:
    """Return the clips, each only once, and rows without a clip as problems."""
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
                    f"its reference would have the same name as that of {other.clip}",
                    where=listed.where(row) or str(clip),
                    remedy="Rename one of the clips.",
                )
            if other is not job:
                found[job.place] = attrs.evolve(other, rows=(*other.rows, row))
        except DataError as error:
            problems += error.problems
    return list(found.values()), problems


def _place(clip: Path, folder: Path, home: Path, is_image: bool) -> Path:
    """Return the file for the reference of a clip; an image's is a PNG."""
    ending = ".png" if is_image else ".mp4"
    place = home / clip.relative_to(folder)
    return place.with_name(fitted(place.stem, len(ending)) + ending)


def _made_of(clip: Path, filter_: Filter) -> str:
    """Return a hash of everything that a reference depends on.

    Raises:
        DataError: there is no such clip.
    """
    if not os.path.isfile(clip):  # noqa: PTH113 - which is False, too, of a name that no file can have
        raise DataError("there is no such file", where=str(clip), remedy="Check the path; it is relative to the dataset's own folder.")
    status, corrections = clip.stat(), probe(clip).picture_corrections
    told = [status.st_size, status.st_mtime_ns, filter_.version, *([list(corrections)] if corrections else [])]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _make(job: _Job, filter_: Filter) -> None:
    import torch

    is_image = probe(job.clip).is_image
    if is_image != (job.place.suffix == ".png"):
        raise DataError(
            "its file extension does not say whether it is a clip or an image",
            where=str(job.clip),
            remedy="Give it the extension of its format.",
        )
    with open_clip(job.clip) as (rate, frames):
        filtered = _filtered(frames, filter_, job.clip)
        if is_image:
            write_media(job.place.with_suffix(""), Clip(torch.stack(list(filtered)), 1.0))
        else:
            write_frames(job.place, filtered, rate)


class _Taken:
    """Frames that are counted as they are taken; an error that ends them is remembered, so that it is not mistaken for
    an error of the filter.
    """

    def __init__(self, frames: Iterator[Tensor]) -> None:
        self._frames = frames
        self.count = 0
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        try:
            frame = next(self._frames)
        except StopIteration:
            raise
        except Exception as error:
            self.error = error
            raise
        self.count += 1
        return frame


def _filtered(frames: Iterator[Tensor], filter_: Filter, clip: Path) -> Iterator[Tensor]:
    """Yield the filter's frames for a clip, checked against its protocol.

    Raises:
        PluginError: the filter breaks its protocol, or fails.
    """
    import torch

    taken, given, size = _Taken(frames), 0, None
    what = f'the reference filter "{filter_.name}" of {filter_.origin}'
    try:
        for frame in filter_.run(taken):
            if not isinstance(frame, torch.Tensor) or frame.dtype != torch.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
                kind = f"{frame.dtype} {list(frame.shape)}" if isinstance(frame, torch.Tensor) else type(frame).__name__
                raise PluginError(f"{what} returns {kind}, not torch.uint8 [H, W, 3]", where=str(clip))
            if size not in (None, frame.shape):
                raise PluginError(f"{what} returns frames of different sizes", where=str(clip))
            size, given = frame.shape, given + 1
            yield frame
        for _ in taken:  # to count all of the clip's frames
            pass
    except LtxError:
        raise
    except Exception as error:
        if error is taken.error or is_out_of_memory(error):
            raise
        raise PluginError(f"{what} failed: {type(error).__name__}: {error}", where=str(clip)) from error
    if given != taken.count:
        raise PluginError(f"{what} gives {given} frames for {taken.count}", where=str(clip))


def _told(problem: Problem, where: str, clip: Path) -> Problem:
    place = problem.where or str(clip)
    return attrs.evolve(problem, where=f"{where}: {place}" if where else place)


def _row(listed: RawDataset, row: Row, folder: Path, place: Path) -> Mapping[str, object]:
    values = {column: value for column, value in listed.moved(row, folder).items() if column != OTHER_COLUMN}
    return {**values, COLUMN: place.relative_to(folder).as_posix()}
