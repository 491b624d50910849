"""Rows of a dataset as samples, each with a name, its files and its caption. Everything that is wrong with a dataset is found at once."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from ltxcore.config.preprocessing import PreprocessingTable
from ltxcore.dataset.columns import ALIASES, FOLDERS, bind, option, wanted_folders
from ltxcore.dataset.media_folder import kind_of, medium_at, stem_of
from ltxcore.dataset.sources import read_rows
from ltxcore.errors import DataError, Problem, listed
from ltxcore.files import is_file, why_unreadable
from ltxcore.sources import Row, Table

SHOWN = 200
"""The number of letters of a cell that a message repeats."""

MISSING, EMPTY = "has no caption", "its caption is empty"

HALF_A_LETTER = re.compile("[\ud800-\udfff]")
"""A pattern for half of a UTF-16 pair, which may stand alone in JSON."""


@attrs.frozen
class Sample:
    """A row of a dataset as a sample to encode.

    Attributes:
        name: the path of its clip, or of its audio file if there is no clip, under the dataset's folder, without its
            extension; the same in every folder.
        where: the row's place, for messages.
        origin: that path as the dataset writes it.
        media: the files, by role.
        caption: the caption; "" if no text is wanted.
        line: the line in the dataset file; 0 for a folder, whose rows are its media.
        called: the name by which messages about other rows refer to this row.
    """

    name: str
    where: str
    origin: str
    media: Mapping[str, Path]
    caption: str = ""
    line: int = 1
    called: str = ""

    @property
    def sound(self) -> Path:
        """The file that holds the sample's audio: an audio file of its own, else the clip."""
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
        notes: facts that the user should know and that are not mistakes.
        left_out: the problems of rows that are left out because the user said so: missing files, or missing texts of a
            folder's media.
        folder: the folder that the dataset's paths are relative to.
        is_folder: whether its rows are the media of a folder.
    """

    path: Path
    samples: tuple[Sample, ...]
    folders: frozenset[str]
    notes: tuple[str, ...]
    left_out: tuple[Problem, ...]
    folder: Path
    is_folder: bool


def read_dataset(path: Path, options: PreprocessingTable, folders: Collection[str] | None = None, root: Path | None = None) -> Dataset:
    """Read a dataset, a file or a folder of media, and check all that can be checked without opening media files.

    Args:
        path: the dataset file, or the folder of media.
        options: columns, trigger, and what to leave out.
        folders: the folders that a run reads; None for all that can be made.
        root: the root where it is encoded, or will be: folders that are there already need not be made; None if there
            is none yet.

    Raises:
        DataError: there are mistakes, all of which it names: columns that are missing or ambiguous, cells that are
            empty, files that are not there, paths that lead out of the dataset's folder, duplicate rows, or rows whose
            samples would have the same name.
    """
    data, problems = survey_dataset(path, options, folders, root)
    if problems:
        raise DataError.of(problems)
    return data


def survey_dataset(
    path: Path, options: PreprocessingTable, folders: Collection[str] | None = None, root: Path | None = None
) -> tuple[Dataset, tuple[Problem, ...]]:
    """Read a dataset like `read_dataset`, but return the rows that can be used, together with everything that is wrong
    with the others.

    Raises:
        DataError: the file cannot be read, or its columns do not suffice; then there are no rows to look at.
    """
    there = [each.name for each in root.iterdir() if each.is_dir()] if root is not None and root.is_dir() else []
    table = read_rows(path, options)
    binding = bind(table, {role: getattr(options, option(role)) for role in ALIASES}, folders)
    bound, partial = binding.columns, list[str]()
    if folders is None:
        bound, partial = _of_all(table, bound)
    wanted, unable = wanted_folders(table, bound, folders, skip_audio=options.skip_audio, there=there)
    problems = [*table.problems, *binding.problems]
    if table.rows and not binding.problems:
        problems += unable
    if binding.problems or (table.rows and unable):
        raise DataError.of(problems)
    rows, lacking, wrong = _usable(table, options, with_captions="conditions" in wanted)
    left_out = list(lacking)
    problems += wrong
    columns = _needed(table, bound, wanted)
    opened = _roles_to_open(table, bound, wanted)
    folder = Path(os.path.normpath(table.folder.absolute()))
    bases = (folder, folder.resolve())
    samples = []
    for row in rows:
        found = _sample(table, row, columns, opened, bases)
        if isinstance(found, Sample):
            samples.append(found)
        elif found.is_of_files and options.on_error == "skip":
            left_out += found.problems
        else:
            problems += found.problems
    problems += () if table.is_folder else _same_names(samples)
    first = {sample.name: sample for sample in reversed(samples)}
    samples = [sample for sample in samples if first[sample.name] is sample]
    notes = [*table.notes, *partial, *_notes(table, binding.unused), *_backslashes(table, columns, samples)]
    if options.remove_llm_prefixes and "conditions" in wanted:
        shorter = [attrs.evolve(sample, caption=without_opening(sample.caption)) for sample in samples]
        changed = sum(one.caption != other.caption for one, other in zip(samples, shorter, strict=True))
        notes.append(f"{path}: {changed} of {len(samples)} captions begin with a stock phrase, which is removed")
        samples = shorter
    if options.lora_trigger:
        samples = [attrs.evolve(sample, caption=with_trigger(sample.caption, options.lora_trigger)) for sample in samples]
    data = Dataset(path, tuple(samples), wanted, tuple(notes), tuple(left_out), table.folder, table.is_folder)
    return data, tuple(sorted(problems, key=lambda problem: _line(problem, table)))


def _usable(table: Table, options: PreprocessingTable, with_captions: bool) -> tuple[Sequence[Row], tuple[Problem, ...], list[Problem]]:
    """Return the rows that can be used, the problems of a folder's rows that are left out, and the problems to report
    if none may be left out.
    """
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
    """Report the rows of a folder that have no caption or an empty one, all in one problem, with what to do about them."""
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


def with_trigger(caption: str, trigger: str | None) -> str:
    """Put the trigger word, stripped, and a space before a caption."""
    return f"{trigger.strip()} {caption}" if trigger and trigger.strip() else caption


def _needed(table: Table, columns: Mapping[str, str], wanted: Collection[str]) -> dict[str, str]:
    """Return the columns to read: those of the wanted folders, and the one that names the samples."""
    naming = {"video", "audio"} if table.is_folder else {"video" if "video" in columns else "audio"}
    roles = {FOLDERS[folder] for folder in wanted} | naming
    return {role: column for role, column in columns.items() if role in roles}


def _roles_to_open(table: Table, columns: Mapping[str, str], wanted: Collection[str]) -> frozenset[str]:
    """Return the roles whose files are opened. A clip is opened even if only its audio is wanted, since its duration is needed."""
    roles = {FOLDERS[folder] for folder in wanted} - {"caption"}
    return frozenset(roles | {"video"} if roles and "video" in columns else roles)


@attrs.frozen
class _Refused:
    """The problems of a row; if `is_of_files`, all of them are paths that are missing or are not files, so that the row may be left out."""

    problems: tuple[Problem, ...]
    is_of_files: bool


def _sample(table: Table, row: Row, columns: Mapping[str, str], opened: Collection[str], bases: Sequence[Path]) -> Sample | _Refused:
    """Make a sample from a row, or return everything that is wrong with it; `bases` are the dataset's folder as it is
    named, and with links resolved.
    """
    where, folder = table.at(row), bases[0]
    problems: list[Problem] = []
    missing: list[Problem] = []
    cells: dict[str, str] = {}
    media: dict[str, Path] = {}
    for role, column in columns.items():
        if table.is_folder and column not in row.values:
            if not _may_lack(role, row):
                remedy = f'{table.pairing.get(column, "")} Or leave such files out with on_error = "skip".'.strip()
                missing.append(Problem(f"has no {role.replace('_', ' ')}, which others have", where, remedy))
            continue
        value = row.values.get(column)
        problem = _wrong_cell(role, column, value, where)
        if problem is not None:
            problems.append(problem)
        elif role == "caption" or table.is_folder:
            cells[role] = str(value)
        else:
            cells[role], media[role] = medium_at(folder, str(value).strip())
    if table.is_folder:
        media = {role: folder / cell for role, cell in cells.items() if role != "caption"}
    naming = "video" if "video" in cells or ("video" in columns and not table.is_folder) else "audio"
    name = _name(media[naming], bases) if naming in cells else ""
    if name is None:
        remedy = f"Move the file under {folder}, or the dataset file to a folder that holds both."
        what = f'its {naming} "{_short(cells[naming])}" is outside the folder of the dataset, so its samples would be outside the output folder'
        problems.append(Problem(what, where, remedy))
    media = {role: path for role, path in media.items() if role in opened or (opened and table.is_folder and role == naming)}
    mistakes = len(problems)
    problems += missing
    for role, path in media.items():
        what = "" if is_file(path) else why_unreadable(path)  # a lack of permission is a fault of the file, not of the row
        if what:
            remedy = f"Paths are relative to {folder}."
            if "\\" in cells[role]:
                remedy = f'{remedy} Separate folders with "/", and leave out the name of a Windows drive.'
            problems.append(Problem(f'its {role} "{_short(cells[role])}" {what}', where, remedy))
    if problems or name is None:
        return _Refused(tuple(problems), is_of_files=not mistakes)
    called = row.place or (f"line {row.line}" if row.line else f'"{cells[naming]}"')
    return Sample(name, where, cells[naming], media, cells.get("caption", ""), row.line, called)


def _of_all(table: Table, columns: Mapping[str, str]) -> tuple[Mapping[str, str], list[str]]:
    """Return the columns of a folder without the masks and references that only some of its media have, which are made
    only if a run reads them, and notes of those.
    """
    notes = []
    for role, column in columns.items() if table.is_folder else ():
        lacking = [row.file for row in table.rows if column not in row.values and not _may_lack(role, row)]
        if lacking:
            columns = {other: name for other, name in columns.items() if other != role}
            has = "medium has" if len(lacking) == 1 else "media have"
            notes.append(
                f"{table.path}: {len(lacking)} {has} no {role.replace('_', ' ')} ({listed(lacking)}), so those of others are not used"
            )
    return columns, notes


def _may_lack(role: str, row: Row) -> bool:
    """Return whether a medium of a folder may be without a role: it is a clip or a sound, captions that are missing are already
    reported, and masks and references are for the part of a sample that a medium has.
    """
    if role in ("reference_video", "video_mask"):
        return "video" not in row.values
    if role in ("audio_mask", "reference_audio"):
        return kind_of(str(row.values.get("video", ""))) == "image"
    return True


def _name(clip: Path, bases: Sequence[Path]) -> str | None:
    """Return the name of the sample of a clip; None if the clip lies outside the folder.

    Source: docs/explanation/model-files.md#names-of-samples
    """
    path, starts = str(clip), (os.path.join(base, "") for base in bases)  # noqa: PTH118 - with "/" at the end
    return next((stem_of(path[len(start) :]) for start in starts if path.startswith(start)), None)


def _wrong_cell(role: str, column: str, value: object, where: str) -> Problem | None:
    if value is None:
        return Problem(f'has no "{column}"', where, "Every row needs a value in every column that is used.")
    if not isinstance(value, str):
        return Problem(f'its "{column}" is {_short(repr(value))}, not text', where, "Put it in quotes.")
    if role != "caption" and not value.strip():
        return Problem(f'its "{column}" is empty', where, "Name a file, or leave the row out.")
    if role == "caption" and HALF_A_LETTER.search(value):
        return Problem(f'its "{column}" contains an unpaired surrogate, which is not valid text', where, "Write it again.")
    return None


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


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
    """Tell the user which paths were read with "/" in place of the backslashes that Windows writes."""
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


def _notes(table: Table, unused: Collection[str]) -> Iterator[str]:
    if unused:
        names = ", ".join(f'"{name}"' for name in unused)
        yield f"{table.path}: {'this column is' if len(unused) == 1 else 'these columns are'} not used: {names}"


def _line(problem: Problem, table: Table) -> int:
    last = problem.where.removeprefix(f"{table.path}:")
    return int(last) if last.isdecimal() else 0


_IT = r"(?:video(?: clip)?|clip|footage|film|scene|shot|sequence|image|picture|photo(?:graph)?|audio(?: clip)?|recording)"
_SHOWS = (
    r"(?:shows?|showcases|showing|depicts|depicting|displays|features|captures|portrays|presents|illustrates|contains|focuses on"
    r"|(?:begins|starts|opens) with|opens on)"
)
_SEEN = r"(?:(?:we|you)(?: can)? see|there (?:is|are))"

OPENINGS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # Each is tried once, in this order: a reply to the request, then what the caption describes, then the viewer.
        r"(?:sure|certainly|of course)[,.!]\s+",
        r"here(?:'s| is) (?:a|an|the|your) (?:[\w-]+ ){0,4}(?:caption|description)[^:\n]{0,40}:\s*",
        rf"(?:in|throughout) (?:the|this) {_IT}(?:,\s+(?:{_SEEN}\s+)?|\s+{_SEEN}\s+)",
        rf"(?:the|this|an?) {_IT} (?:that )?{_SHOWS}(?:[:,]\s*|\s+)",
        r"(?:we|you)(?: can)? see\s+",
    )
)


def without_opening(caption: str) -> str:
    """Remove a caption's stock opening and capitalize the next word; a caption without one, or with nothing else, is returned as it is."""
    rest = caption.strip()
    for opening in OPENINGS:
        found = opening.match(rest)
        rest = rest[found.end() :] if found else rest
    return caption if rest in ("", caption.strip()) else rest[0].upper() + rest[1:]
