"""Functions that turn a dataset's rows into samples with a name, files and a caption, and find all mistakes in the dataset at once."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs

from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.dataset.captions import divided, preceded_by, with_parts, without_opening
from ltxcore.dataset.cells import content_of, is_empty, shortened, wrong_cell
from ltxcore.dataset.columns import Column, Columns, bind, chosen_columns, columns_of, wanted_folders
from ltxcore.dataset.exclusions import without_excluded
from ltxcore.dataset.media_folder import check_root, kind_of, medium_at, stem_of
from ltxcore.dataset.sources import read_rows
from ltxcore.errors import DataError, Problem, listed
from ltxcore.files import is_file, why_unreadable
from ltxcore.protocols import MODALITIES
from ltxcore.sources import Row, Table

MISSING, EMPTY = "has no caption", "the caption is empty"

OR_SKIP = 'Or leave such files out with on_error = "skip".'


@attrs.frozen
class Sample:
    """A row of a dataset as a sample to encode.

    Attributes:
        name: the path of the sample's clip, or of its audio file if there is no clip, relative to the dataset's folder and without
            extension. The sample has this name in every encoded folder.
        where: the row's place, for messages.
        origin: the path of the file that gives the sample its name, as the dataset writes it.
        media: the media files, by role.
        caption: the caption, the first of them if there are several; "" if no text is wanted.
        others: the other captions, of which each pass over the data draws one.
        line: the line in the dataset file; 0 for a row of a folder.
        called: the name by which messages about other rows refer to this row.
        cells: the cells of columns without media, by role: a path if the cell names a file, otherwise its content.
        start: the frame of the clip that the sample begins with; see `ltxcore.encode.windows`.
    """

    name: str
    where: str
    origin: str
    media: Mapping[str, Path]
    caption: str = ""
    line: int = 1
    called: str = ""
    cells: Mapping[str, Any] = attrs.field(factory=dict)
    start: int = 0
    others: tuple[str, ...] = ()

    @property
    def captions(self) -> tuple[str, ...]:
        """All captions of the sample."""
        return (self.caption, *self.others)

    def captioned(self, captions: Iterable[str]) -> Sample:
        """Return the sample with other captions; there must be at least one."""
        caption, *others = captions
        return attrs.evolve(self, caption=caption, others=tuple(others))

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that the sample is made of."""
        return (*self.media.values(), *(cell for cell in self.cells.values() if isinstance(cell, Path)))

    @property
    def sound(self) -> Path:
        """The file that holds the sample's audio: a separate audio file, or else the clip."""
        return self.media.get("audio", self.media.get("video", Path()))

    def at(self, path: Path) -> str:
        """Return the place of one of the row's files, for a message."""
        return f"{self.where}: {path}" if self.line else self.where


@attrs.frozen
class Dataset:
    """The samples of a dataset, and the folders to make from them.

    Attributes:
        path: the dataset file, or the folder of media.
        samples: the samples, in the order of their rows.
        folders: the folders to make.
        notes: facts that the user should know but that are not mistakes.
        left_out: the problems of rows that are left out because the user asked for it: missing files, or missing captions of a
            folder's media.
        folder: the folder that the dataset's paths are relative to.
        is_folder: whether the rows are the media of a folder.
        columns: the columns that the dataset could have.
        only: the names of the samples to keep, among those that the rows become; None for all.
        may_lack: the modalities that samples may lack.
    """

    path: Path
    samples: tuple[Sample, ...]
    folders: frozenset[str]
    notes: tuple[str, ...]
    left_out: tuple[Problem, ...]
    folder: Path
    is_folder: bool
    columns: Columns
    only: frozenset[str] | None = None
    may_lack: frozenset[str] = frozenset()

    @cached_property  # this is asked for each sample
    def absent(self) -> frozenset[frozenset[str]]:
        """For each modality that samples may lack, its folders. A sample that lacks the modality is in none of them, and has the other
        modality.
        """
        own = {each: self.folders & self.columns.folders_of(each) for each in MODALITIES}
        return frozenset(own[each] for each in self.may_lack if all(own.values()))


def read_dataset(path: Path, options: PreprocessingTable, folders: Collection[str] | None = None, root: Path | None = None) -> Dataset:
    """Read a dataset, and check everything that can be checked without opening media files.

    Args:
        path: the dataset file, or the folder of media.
        options: the columns, the trigger word, and the kinds of rows to leave out.
        folders: the folders that a run reads; None for all that can be made.
        root: the root where the dataset is or will be encoded; folders that it already holds need not be made. None if it is
            not known yet.

    Raises:
        DataError: there are missing or ambiguous columns, empty cells, missing files, paths that lead out of the dataset's folder,
            duplicate rows, or rows whose samples would have the same name; the message names all of these.
    """
    data, problems = survey_dataset(path, options, folders, root)
    if problems:
        raise DataError.of(problems)
    return data


def survey_dataset(
    path: Path, options: PreprocessingTable, folders: Collection[str] | None = None, root: Path | None = None
) -> tuple[Dataset, tuple[Problem, ...]]:
    """Read a dataset as `read_dataset` does, but return its usable rows together with all the problems of the other rows.

    Raises:
        DataError: there are no rows to look at, because the file cannot be read or lacks needed columns, or the user excludes every row;
            or the root is the folder of media itself.
    """
    if root is not None:
        check_root(root, path)
    there = [each.name for each in root.iterdir() if each.is_dir()] if root is not None and root.is_dir() else []
    table, all_ = with_parts(read_rows(path, options), options), columns_of(options)
    binding = bind(table, chosen_columns(options, all_), folders, all_)
    bound, partial = binding.columns, list[str]()
    table = without_excluded(table, bound)
    if folders is None:
        bound, partial = _of_all(table, bound, all_, options.may_lack)
    wanted, unable = wanted_folders(table, bound, all_, folders, options, there)
    problems = [*table.problems, *binding.problems]
    if table.rows and not binding.problems:
        problems += unable
    if binding.problems or (table.rows and unable):
        raise DataError.of(problems)
    rows, lacking, wrong = _usable(table, options, with_captions="conditions" in wanted)
    left_out = list(lacking)
    problems += wrong
    roles = {all_.by_folder[folder].role for folder in wanted}
    columns = _needed(table, bound, roles)
    opened = _roles_to_open(bound, {role for role in roles if all_.by_role[role].has_media})
    folder = Path(os.path.normpath(table.folder.absolute()))
    starts = [os.path.join(base, "") for base in (folder, folder.resolve())]  # noqa: PTH118 - with "/" at the end
    samples = []
    for row in rows:
        found = _sample(table, row, columns, opened, all_, folder, starts, options)
        if isinstance(found, Sample):
            samples.append(found)
        elif found.is_of_files and options.on_error == "skip":
            left_out += found.problems
        else:
            problems += found.problems
    problems += () if table.is_folder else _same_names(samples)
    first = {sample.name: sample for sample in reversed(samples)}
    samples = [sample for sample in samples if first[sample.name] is sample]
    idle = [] if folders is not None else [role for role, said in options.columns.items() if "type" in said and role not in binding.columns]
    notes = [*table.notes, *partial, *_notes(table, binding.unused, idle), *_backslashes(table, columns, samples)]
    samples = _captioned(samples, options, path, notes, shortens=options.remove_llm_prefixes and "conditions" in wanted)
    data = Dataset(
        path, tuple(samples), wanted, tuple(notes), tuple(left_out), table.folder, table.is_folder, all_, may_lack=options.may_lack
    )
    return data, tuple(sorted(problems, key=lambda problem: _line(problem, table)))


def _captioned(samples: Sequence[Sample], options: PreprocessingTable, path: Path, notes: list[str], *, shortens: bool) -> list[Sample]:
    """Edit the captions of samples as the options say, and return the samples. A note about removed phrases is added to `notes`."""
    found = list(samples)
    if options.caption_separator is not None:
        found = [sample.captioned(divided(sample.captions, options.caption_separator)) for sample in found]
    if shortens:
        before = [caption for sample in found for caption in sample.captions]
        found = [sample.captioned(map(without_opening, sample.captions)) for sample in found]
        after = [caption for sample in found for caption in sample.captions]
        changed = sum(one != other for one, other in zip(before, after, strict=True))
        notes.append(f"{path}: a stock phrase is removed from the beginning of {changed} of {len(before)} captions")
    for words in filter(None, (options.caption_prefix, options.lora_trigger)):
        found = [sample.captioned(preceded_by(caption, words) for caption in sample.captions) for sample in found]
    return found


def _usable(table: Table, options: PreprocessingTable, with_captions: bool) -> tuple[Sequence[Row], tuple[Problem, ...], list[Problem]]:
    """Return the usable rows, the problems of rows that are left out of a folder, and the problems to report if no row may be left out."""
    lacks = [(row, why) for row in table.rows if (why := _lack(table, row)) is not None] if with_captions else []
    if options.on_error == "skip":
        left = {id(row) for row, _ in lacks}
        return [row for row in table.rows if id(row) not in left], (*table.unusable, *(why for _, why in lacks)), []
    return table.rows, (), [*table.unusable, *_captions_wanting(table, lacks)]


def _lack(table: Table, row: Row) -> Problem | None:
    """Return the reason why a folder's row has no caption; None if it has one."""
    if not table.is_folder or row.lacks is not None:
        return row.lacks
    caption = row.values.get("caption")
    if caption is None or caption == "":
        return Problem(MISSING if caption is None else EMPTY, table.at(row))
    return None


def _captions_wanting(table: Table, lacks: Sequence[tuple[Row, Problem]]) -> Iterator[Problem]:
    """Report all rows of a folder with missing or empty captions in a single problem that says what to do."""
    without = {what: [row.file for row, why in lacks if why.what == what] for what in (MISSING, EMPTY)}
    parts = [
        f"{len(names)} file{'' if len(names) == 1 else 's'} {has}: {', '.join(names)}"
        for names, has in zip(without.values(), ("without a caption", "with an empty one"), strict=True)
        if names
    ]
    if parts:
        listing = sorted(each.name for each in table.path.iterdir() if each.name.lower().startswith("metadata."))
        remedy = (
            'Write them with `ltx caption`; or set caption_from = "folder", which uses the name of the folder that a file is in; '
            'or leave such files out with on_error = "skip".'
            + (f" If {listing[0]} has the captions, name that file as the dataset." if listing else "")
        )
        yield Problem(f"has {'; '.join(parts)}", str(table.path), remedy)
    yield from (why for _, why in lacks if why.what not in (MISSING, EMPTY))


def _needed(table: Table, columns: Mapping[str, str], wanted: Collection[str]) -> dict[str, str]:
    """Return the columns to read: the columns of the wanted roles, and the column that names the samples."""
    naming = {"video", "audio"} if table.is_folder else {"video" if "video" in columns else "audio"}
    return {role: column for role, column in columns.items() if role in {*wanted, *naming}}


def _roles_to_open(columns: Mapping[str, str], wanted: Collection[str]) -> frozenset[str]:
    """Return the roles whose media are opened. Clips are opened even if only their audio is wanted, since their durations are needed."""
    return frozenset({*wanted, "video"} if wanted and "video" in columns else wanted)


@attrs.frozen
class _Refused:
    """The problems of a row. If `is_of_files` is true, the only problems are paths that are missing or not files, and the row may be left
    out.
    """

    problems: tuple[Problem, ...]
    is_of_files: bool


def _sample(
    table: Table,
    row: Row,
    columns: Mapping[str, str],
    opened: Collection[str],
    all_: Columns,
    folder: Path,
    starts: Sequence[str],
    options: PreprocessingTable,
) -> Sample | _Refused:
    """Make a sample from a row, or return everything that is wrong with the row.

    Args:
        table: the dataset.
        row: the row.
        columns: the column of each role that is read.
        opened: the roles whose media are opened.
        all_: the columns that datasets can have.
        folder: the dataset's folder.
        starts: how paths in the folder begin: the folder as named, and with links resolved, each with "/" at the end.
        options: which modalities a sample may lack, so that cells of their columns may be empty, and whether rows whose files are missing are left out.
    """
    where = table.at(row)
    problems: list[Problem] = []
    missing: list[Problem] = []
    cells: dict[str, str] = {}
    media: dict[str, Path] = {}
    data: dict[str, Any] = {}
    for role, column in columns.items():
        if all_.by_role[role].modality in options.may_lack and is_empty(row.values.get(column)):
            continue
        if table.is_folder and column not in row.values:
            if not _may_lack(all_.by_role[role], row):
                remedy = f"{table.pairing.get(column, '')} {'' if options.on_error == 'skip' else OR_SKIP}".strip()
                missing.append(Problem(f"has no {role.replace('_', ' ')}, which other samples have", where, remedy))
            continue
        value = row.values.get(column)
        if all_.by_role[role].is_data:
            try:
                data[role] = content_of(value, column)
            except DataError as error:
                problems += error.at(where).problems
                continue
            if not isinstance(data[role], str):
                continue
        problem = wrong_cell(role, column, value, where)
        if problem is not None:
            problems.append(problem)
        elif role == "caption" or table.is_folder:
            cells[role] = str(value)
        else:
            cells[role], media[role] = medium_at(folder, str(value).strip())
    if table.is_folder:
        media = {role: folder / cell for role, cell in cells.items() if role != "caption"}
    data |= {role: media[role] for role in data.keys() & media.keys()}
    naming = _naming(cells, columns, table.is_folder)
    if not problems and naming not in cells:
        problems.append(Problem("names neither a clip nor a sound", where, "Name a file."))
    name = _name(media[naming], starts) if naming in cells else ""
    if name is None:
        remedy = f"Move the file under {folder}, or the dataset file to a folder that holds both."
        what = f'the {naming} "{shortened(cells[naming])}" is outside the folder of the dataset, so its samples would be outside the output folder'
        problems.append(Problem(what, where, remedy))
    media = {role: path for role, path in media.items() if role in opened or (opened and table.is_folder and role == naming)}
    mistakes = len(problems)
    problems += missing
    files = {**media, **{role: cell for role, cell in data.items() if isinstance(cell, Path)}}
    problems += _unusable_files(files, cells, folder, where)
    if problems or name is None:
        return _Refused(tuple(problems), is_of_files=not mistakes)
    called = row.place or (f"line {row.line}" if row.line else f'"{cells[naming]}"')
    caption, *others = _captions(row, columns)
    return Sample(name, where, cells[naming], media, caption, row.line, called, data, others=tuple(others))


def _unusable_files(files: Mapping[str, Path], cells: Mapping[str, str], folder: Path, where: str) -> Iterator[Problem]:
    """Yield the problems of a row's files that are missing or are not files."""
    for role, path in files.items():
        what = "" if is_file(path) else why_unreadable(path)  # missing permission is the file's fault, not the row's
        if what:
            remedy = f"Paths are relative to {folder}."
            if "\\" in cells[role]:
                remedy = f'{remedy} Separate folders with "/", and leave out the name of a Windows drive.'
            yield Problem(f'the {role} "{shortened(cells[role])}" {what}', where, remedy)


def _captions(row: Row, columns: Mapping[str, str]) -> list[str]:
    """Return the captions of a row, at least one; if no captions are read, this is an empty caption."""
    value = row.values.get(columns["caption"]) if "caption" in columns else None
    return value if isinstance(value, list) else ["" if value is None else str(value)]


def _naming(cells: Collection[str], columns: Collection[str], is_folder: bool) -> str:
    """Return the role of the medium that gives a sample its name."""
    if "video" in cells or ("video" in columns and not is_folder and "audio" not in cells):
        return "video"
    return "audio"


def _of_all(table: Table, columns: Mapping[str, str], all_: Columns, may_lack: Collection[str]) -> tuple[Mapping[str, str], list[str]]:
    """Return a folder's columns without the masks and references that only some of its media have, and a note about each mask or reference
    that is left out.

    Such a mask or reference is made only if a run reads it.
    """
    notes = []
    for role, column in columns.items() if table.is_folder else ():
        if all_.by_role[role].modality in may_lack:
            continue
        lacking = [row.file for row in table.rows if column not in row.values and not _may_lack(all_.by_role[role], row)]
        if lacking:
            columns = {other: name for other, name in columns.items() if other != role}
            has = "medium has" if len(lacking) == 1 else "media have"
            notes.append(
                f"{table.path}: {len(lacking)} {has} no {role.replace('_', ' ')} ({listed(lacking)}), so those of others are not used"
            )
    return columns, notes


def _may_lack(column: Column, row: Row) -> bool:
    """Return whether a medium of a folder may lack a role.

    Masks and references of video are only for media with video, and those of audio only for media with audio. Each medium is either a clip
    or audio, and missing captions are reported elsewhere.
    """
    if column.plugin is None:
        return True
    return "video" not in row.values if column.modality == "video" else kind_of(str(row.values.get("video", ""))) == "image"


def _name(clip: Path, starts: Sequence[str]) -> str | None:
    """Return the name of a clip's sample; None if the clip lies outside the folder, in which paths begin as one of `starts`.

    Source: docs/explanation/model-files.md#names-of-samples
    """
    path = str(clip)
    return next((stem_of(path[len(start) :]) for start in starts if path.startswith(start)), None)


def _same_names(samples: Collection[Sample]) -> Iterator[Problem]:
    first: dict[str, Sample] = {}
    for sample in samples:
        other = first.setdefault(sample.name, sample)
        if other is sample:
            continue
        if os.path.normpath(other.origin) == os.path.normpath(sample.origin):
            yield Problem(f'"{sample.origin}" is already in {other.called}', sample.where, "Keep one of the rows.")
        else:
            what = f'the samples of "{sample.origin}" and of "{other.origin}" in {other.called} would have the same name: "{sample.name}"'
            yield Problem(what, sample.where, "Rename one of the files; extensions are ignored.")


def _backslashes(table: Table, columns: Mapping[str, str], samples: Collection[Sample]) -> Iterator[str]:
    """Yield a note that tells the user which Windows paths were read with "/" in place of backslashes."""
    cells = {
        cell
        for row in table.rows
        for role, column in columns.items()
        if role != "caption" and isinstance(cell := row.values.get(column), str)
    }
    if not table.is_folder and samples and any("\\" in cell for cell in cells):
        folder = Path(os.path.normpath(table.folder.absolute()))
        changed = [cell for cell in cells if medium_at(folder, cell.strip())[0] != cell.strip()]
        if changed:
            yield f'{table.path}: {len(changed)} path{"" if len(changed) == 1 else "s"} with backslashes, such as "{min(changed)}", are read with "/"'


def _notes(table: Table, unused: Collection[str], idle: Collection[str]) -> Iterator[str]:
    """Yield notes about the dataset's columns that are not used, and about columns that options add and the dataset lacks."""
    if unused:
        names = ", ".join(f'"{name}"' for name in unused)
        yield f"{table.path}: {'this column is' if len(unused) == 1 else 'these columns are'} not used: {names}"
    for name in idle:
        yield f'{table.path}: has no column "{name}", so nothing is encoded to the folder "{name}"'


def _line(problem: Problem, table: Table) -> int:
    last = problem.where.removeprefix(f"{table.path}:")
    return int(last) if last.isdecimal() else 0
