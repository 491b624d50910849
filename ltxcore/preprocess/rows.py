"""Rows of a dataset as samples: each with a name, its files and its caption. All that is wrong with a dataset file is found in one go."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath

import attrs

from ltxcore.config.schema import PreprocessingTable
from ltxcore.errors import DataError, Problem
from ltxcore.preprocess.columns import ALIASES, FOLDERS, bind, option, wanted_folders
from ltxcore.preprocess.openings import without_opening
from ltxcore.preprocess.table import Row, Table, read_table


@attrs.frozen
class Sample:
    """One row.

    Attributes:
        name: the path of its clip, or of its sound where there is no clip, under the dataset's folder, without its ending; the same in every folder.
        where: the row's place, for messages.
        origin: the same path as the dataset writes it.
        media: files by role.
        caption: its text; "" where no text is wanted.
    """

    name: str
    where: str
    origin: str
    media: Mapping[str, Path]
    caption: str = ""

    @property
    def sound(self) -> Path:
        """Where its sound is: a file of its own, else the clip."""
        return self.media.get("audio", self.media.get("video", Path()))

    def at(self, path: Path) -> str:
        """A file of this row, for a message."""
        return f"{self.where}: {path}"


@attrs.frozen
class Dataset:
    """A dataset file as samples.

    Attributes:
        path: of the file.
        samples: in the order of their rows.
        folders: to be made.
        notes: what the user should know that is no mistake.
    """

    path: Path
    samples: tuple[Sample, ...]
    folders: frozenset[str]
    notes: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """That its paths are relative to."""
        return self.path.parent


def read_dataset(path: Path, options: PreprocessingTable, folders: Collection[str] | None = None, there: Collection[str] = ()) -> Dataset:
    """Read a dataset file and check all that can be checked without opening a medium.

    Args:
        path: of the dataset file.
        options: columns, trigger, and what to leave out.
        folders: that a run reads; none: all that can be made.
        there: folders that exist already.

    Raises:
        DataError: with every mistake: columns that are missing or in doubt, cells that are empty, files that are not there, paths that lead out of the
            dataset's folder, rows that are there twice or whose samples would have one name.
    """
    data, problems = survey_dataset(path, options, folders, there)
    if problems:
        raise DataError.of(problems)
    return data


def survey_dataset(
    path: Path, options: PreprocessingTable, folders: Collection[str] | None = None, there: Collection[str] = ()
) -> tuple[Dataset, tuple[Problem, ...]]:
    """As `read_dataset`, but with the rows that are in order, and beside them what is wrong with the others.

    Raises:
        DataError: the file cannot be read, or its columns do not do; there are no rows then to look at.
    """
    table = read_table(path)
    binding = bind(table, {role: getattr(options, option(role)) for role in ALIASES})
    wanted, unable = wanted_folders(table, binding.columns, folders, skip_audio=options.skip_audio, there=there)
    problems = [*table.problems, *binding.problems]
    if table.rows and not binding.problems:
        problems += unable
    if binding.problems or (table.rows and unable):
        raise DataError.of(problems)
    columns = _needed(binding.columns, wanted)
    samples = []
    for row in table.rows:
        found = _sample(table, row, columns, _roles_to_open(binding.columns, wanted))
        if isinstance(found, Sample):
            samples.append(found)
        else:
            problems += found
    problems += _same_names(samples)
    first = {sample.name: sample for sample in reversed(samples)}
    samples = [sample for sample in samples if first[sample.name] is sample]
    notes = [*_notes(table, binding.unused)]
    if options.remove_llm_prefixes and "conditions" in wanted:
        shorter = [attrs.evolve(sample, caption=without_opening(sample.caption)) for sample in samples]
        changed = sum(one.caption != other.caption for one, other in zip(samples, shorter, strict=True))
        notes.append(f"{path}: {changed} of {len(samples)} captions have a stock opening, which is left out")
        samples = shorter
    samples = [attrs.evolve(sample, caption=with_trigger(sample.caption, options.lora_trigger)) for sample in samples]
    return Dataset(path, tuple(samples), wanted, tuple(notes)), tuple(sorted(problems, key=lambda problem: _line(problem, table)))


def with_trigger(caption: str, trigger: str | None) -> str:
    """A caption with the trigger word before it.

    Source: reference-behaviour B.11: the trigger, stripped, and a space.
    """
    return f"{trigger.strip()} {caption}" if trigger and trigger.strip() else caption


def _needed(columns: Mapping[str, str], wanted: Collection[str]) -> dict[str, str]:
    """The columns whose cells are read: those of the wanted folders, and the one that names the samples."""
    roles = {FOLDERS[folder] for folder in wanted} | {"video" if "video" in columns else "audio"}
    return {role: column for role, column in columns.items() if role in roles}


def _roles_to_open(columns: Mapping[str, str], wanted: Collection[str]) -> frozenset[str]:
    """The roles whose files are opened; a clip is, even for its sound alone, since it says how long that is."""
    roles = {FOLDERS[folder] for folder in wanted} - {"caption"}
    return frozenset(roles | {"video"} if roles and "video" in columns else roles)


def _sample(table: Table, row: Row, columns: Mapping[str, str], opened: Collection[str]) -> Sample | list[Problem]:
    where, folder = table.at(row.line), Path(os.path.normpath(table.path.parent.absolute()))
    problems: list[Problem] = []
    cells: dict[str, str] = {}
    for role, column in columns.items():
        value = row.values.get(column)
        if value is None:
            problems.append(Problem(f'has no "{column}"', where, "Every row has a value in every column that is used."))
        elif not isinstance(value, str):
            problems.append(Problem(f'its "{column}" is {value!r}, not text', where, "Put it in quotes."))
        elif role != "caption" and not value.strip():
            problems.append(Problem(f'its "{column}" is empty', where, "Name a file, or leave the row out."))
        else:
            cells[role] = value if role == "caption" else value.strip()
    naming = "video" if "video" in columns else "audio"
    name = _name(cells[naming], folder) if naming in cells else ""
    if name is None:
        remedy = f"Move the file under {folder}, or the dataset file to a folder that holds both."
        what = f'its {naming} "{cells[naming]}" lies outside the folder of the dataset, and its samples would lie outside the output folder'
        problems.append(Problem(what, where, remedy))
    media = {role: Path(os.path.normpath(folder / cell)) for role, cell in cells.items() if role in opened}
    for role, path in media.items():
        if not path.is_file():
            what = "is a folder, not a file" if path.is_dir() else "is not there"
            problems.append(Problem(f'its {role} "{cells[role]}" {what}', where, f"Paths are relative to {folder}."))
    if problems or name is None:
        return problems
    return Sample(name, where, cells[naming], media, cells.get("caption", ""))


def _name(cell: str, folder: Path) -> str | None:
    """The name of the sample whose clip is `cell`; none if it lies outside the folder.

    Source: reference-behaviour A.2, without its ways out of the folder.
    """
    path = Path(os.path.normpath(folder / cell))
    for base in (folder, folder.resolve()):
        if path.is_relative_to(base) and path != base:
            return PurePosixPath(path.relative_to(base).as_posix()).with_suffix("").as_posix()
    return None


def _same_names(samples: Collection[Sample]) -> Iterator[Problem]:
    first: dict[str, Sample] = {}
    for sample in samples:
        other = first.setdefault(sample.name, sample)
        if other is sample:
            continue
        line = other.where.rpartition(":")[2]
        if os.path.normpath(other.origin) == os.path.normpath(sample.origin):
            yield Problem(f'"{sample.origin}" is in line {line} already', sample.where, "Keep one of the rows.")
        else:
            what = f'the sample of "{sample.origin}" would have the name of that of "{other.origin}" in line {line}: "{sample.name}"'
            yield Problem(what, sample.where, "Rename one of the files; endings do not count.")


def _notes(table: Table, unused: Collection[str]) -> Iterator[str]:
    if unused:
        names = ", ".join(f'"{name}"' for name in unused)
        yield f"{table.path}: {'this column is' if len(unused) == 1 else 'these columns are'} not used: {names}"


def _line(problem: Problem, table: Table) -> int:
    last = problem.where.removeprefix(f"{table.path}:")
    return int(last) if last.isdecimal() else 0
