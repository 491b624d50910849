"""The roles that a dataset's columns play, and the folders that can be made from the columns.

A sample itself consists of a clip, audio and a caption, which the core encodes. Data that go with a sample come from columns that plugins
register.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from typing import Any

import attrs

from ltxcore.columns import folder_of, has_encode
from ltxcore.config.preprocessing import PreprocessingTable, option_of
from ltxcore.dataset.media_folder import kind_of
from ltxcore.errors import PluginError, Problem, suggestion
from ltxcore.protocols import MODALITIES
from ltxcore.registry import load
from ltxcore.sources import Table

NAMES_A_CLIP = "video_path"
"""The borrowed name whose files are always clips. A column with any other borrowed name for clips holds audio if all its files have an
audio ending.
"""

KINDS = ("latents", "mask", "values")
"""The kinds that the columns of plugins are encoded to, in the order in which they are made: values may depend on the length of latents."""


OF_REFERENCES = ("downscale_factor", "temporal_scale_factor")
"""The factors of reference clips, which are keys of a column's table and, with the prefix "reference_", keys for all columns."""


@attrs.frozen
class Column:
    """A role that a column can have, and the samples that are made from such a column.

    Attributes:
        role: the name of the role.
        folder: the folder of the data that are made from the column.
        kind: the kind of data in that folder.
        modality: the modality of the column, or the modality that it goes with; "" for captions.
        names: the names of columns that play the role by convention.
        borrowed: the column names that other programs use, in groups that are tried in order. Such a name is taken only
            if none of our own could be meant, and only if a single name of the group is present.
        plugin: the object that encodes the column; None for the parts of a sample itself.
        downscale_factor: the factor by which clips of the column are smaller than their targets.
        temporal_scale_factor: the factor by which they have fewer frames.
        factor_keys: the keys of `[preprocessing]` that set these factors.
    """

    role: str
    folder: str
    kind: str
    modality: str
    names: tuple[str, ...]
    borrowed: tuple[tuple[str, ...], ...] = ()
    plugin: Any = None
    downscale_factor: int = 1
    temporal_scale_factor: int = 1
    factor_keys: tuple[str, str] = ("reference_downscale_factor", "reference_temporal_scale_factor")

    @classmethod
    def of_plugin(cls, name: str, plugin: Any) -> Column:
        """Return the column that a plugin names."""
        return cls(
            name,
            folder_of(name, plugin),
            plugin.kind,
            plugin.modality,
            getattr(plugin, "names", (name,)),
            getattr(plugin, "borrowed", ()),
            plugin,
        )

    def as_said(self, options: PreprocessingTable) -> Column:
        """Return the column with the settings that options give for it: the factors of reference clips, and, for a column that is like a
        registered one, its own name and folder.
        """
        said = options.columns.get(self.role) or {}
        column = attrs.evolve(self, folder=self.role, names=(self.role,), borrowed=()) if "type" in said else self
        if not self.is_reference_video:
            return column
        factors = {key: said[key] if key in said else getattr(options, f"reference_{key}") for key in OF_REFERENCES}
        across, in_time = (f"columns.{self.role}.{key}" if key in said else f"reference_{key}" for key in OF_REFERENCES)
        return attrs.evolve(column, **factors, factor_keys=(across, in_time))

    @property
    def is_reference_video(self) -> bool:
        """Whether the column holds clips that go with the sample's own clip and are encoded like it."""
        return self.plugin is not None and (self.kind, self.modality) == ("latents", "video")

    @property
    def is_data(self) -> bool:
        """Whether the column's plugin reads and encodes the cells itself."""
        return has_encode(self.plugin)

    @property
    def has_media(self) -> bool:
        """Whether the column's cells name media files."""
        return self.kind != "text" and not self.is_data

    @property
    def has_frames(self) -> bool:
        """Whether the column's plugin makes values for the frames of the target."""
        return self.is_data and (self.kind == "mask" or "F" in self.plugin.shape)

    @property
    def cuts_windows(self) -> bool:
        """Whether the values for frames can begin with any frame of a clip."""
        return bool(getattr(self.plugin, "cuts_windows", False))

    @property
    def is_target(self) -> bool:
        """Whether the column holds the clips or the audio that the model is trained on, not data that go with them."""
        return self.plugin is None and self.kind == "latents"

    @property
    def takes_size(self) -> bool:
        """Whether the column's samples take their size from the target; audio references have a length of their own."""
        return self.kind == "pictures" or (self.plugin is not None and (self.kind, self.modality) != ("latents", "audio"))


PARTS = (
    Column(
        "video",
        "latents",
        "latents",
        "video",
        ("video", "media_path"),
        (
            ("video_path", "file_name"),
            ("media", "file", "filename", "file_path", "filepath", "path", "clip", "clip_path", "image", "image_path"),
        ),
    ),
    Column("audio", "audio_latents", "latents", "audio", ("audio",), (("audio_path", "audio_file", "audio_filepath", "sound", "wav"),)),
    Column("keyframes", "keyframes", "pictures", "video", ()),
    Column("caption", "conditions", "text", "", ("caption",), (("text",), ("prompt", "description", "cap", "transcription"))),
)
"""The parts of a sample itself. Without an audio column, audio is taken from the video files, as keyframes always are."""


@attrs.frozen(eq=False)
class Columns:
    """All columns that datasets can have: those of a sample itself, then those of plugins, in the order in which they are made."""

    all: tuple[Column, ...]

    @cached_property
    def by_role(self) -> Mapping[str, Column]:
        """The columns by role."""
        return {column.role: column for column in self.all}

    @cached_property
    def by_folder(self) -> Mapping[str, Column]:
        """The columns by the folder that is made of them."""
        return {column.folder: column for column in self.all}

    def folders_of(self, modality: str) -> frozenset[str]:
        """Return the folders with data of a modality."""
        return frozenset(column.folder for column in self.all if column.modality == modality)

    def target_of(self, column: Column) -> Column:
        """Return the clip or audio that a column goes with."""
        return next(part for part in self.all if part.is_target and part.modality == column.modality)


def columns_of(options: PreprocessingTable | None = None) -> Columns:
    """Return the columns that datasets can have, with the parameters that options set; by default those of installed plugins.

    Raises:
        PluginError: two columns would be written to the same folder.
    """
    options = options or PreprocessingTable()
    named = (options.registry or load()).of_kind("column")
    classes = {name: each.value for name, each in named.items()}
    classes |= {name: classes[said["type"]] for name, said in options.columns.items() if "type" in said}
    made = {name: (options.encoders or {}).get(name) or cls() for name, cls in classes.items()}
    found = sorted(
        (Column.of_plugin(name, plugin).as_said(options) for name, plugin in made.items()),
        key=lambda column: (KINDS.index(column.kind), MODALITIES.index(column.modality), column.role),
    )
    for one, other in itertools.combinations((*PARTS, *found), 2):
        if one.folder == other.folder or one.role == other.role:
            what = f'the columns "{one.role}", encoded to "{one.folder}", and "{other.role}", encoded to "{other.folder}", have the same folder or name'
            raise PluginError(what, remedy="Give one of the columns a different `folder` or name; see `ltx plugins list --kind column`.")
    return Columns((*PARTS, *found))


NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
"""A pattern for a number that is written as text, as all cells of a CSV file are."""


def is_inline(text: str) -> bool:
    """Return whether the text of a cell in a column without media is a number or a list, not the path of a file."""
    return text.startswith("[") or NUMBER.fullmatch(text) is not None


def chosen_columns(options: PreprocessingTable, columns: Columns) -> dict[str, str | None]:
    """Return, for each role, the dataset's column that the options name."""
    return {role: (options.columns.get(role) or {}).get("column") or getattr(options, option(role), None) for role in columns.by_role}


@attrs.frozen
class Binding:
    """The dataset's column for each role, and its columns without a role."""

    columns: Mapping[str, str]
    unused: tuple[str, ...]
    problems: tuple[Problem, ...]


def bind(table: Table, chosen: Mapping[str, str | None], folders: Collection[str] | None = None, all_: Columns | None = None) -> Binding:
    """Find the column of every role: the chosen column, or else one with a conventional name.

    Args:
        table: the dataset.
        chosen: the columns that options name, by role.
        folders: the folders that a run reads. Columns named as in other programs count as masks and references only if one of
            these folders is made from them.
        all_: the columns that datasets can have; by default those of installed plugins.
    """
    all_ = all_ or columns_of()
    columns: dict[str, str] = {}
    problems: list[Problem] = []
    where = str(table.path)
    for role, column in all_.by_role.items():
        wanted = chosen.get(role)
        found = [name for name in ((wanted,) if wanted else column.names) if name in table.columns]
        if wanted and not found:
            problems.append(Problem(f'has no column "{wanted}" to use as the {role} column', where, suggestion(wanted, table.columns)))
        elif len(found) > 1:
            both = " and ".join(f'"{name}"' for name in found)
            problems.append(Problem(f"has the columns {both}, which could both be the {role}", where, f"Choose one with {named_by(role)}."))
        if found:
            columns[role] = found[0]
    columns |= _borrowed(table, columns, chosen, all_, folders or ())
    by_column: dict[str, list[str]] = {}
    for role, name in columns.items():
        by_column.setdefault(name, []).append(role)
    for name, roles in by_column.items():
        if len(roles) > 1:
            problems.append(
                Problem(f'the column "{name}" is used as {" and ".join(roles)} at the same time', where, "Give each role its own column.")
            )
    unused = tuple(name for name in table.columns if name not in by_column)
    return Binding(columns, unused, tuple(problems))


def _borrowed(
    table: Table, columns: Mapping[str, str], chosen: Mapping[str, str | None], all_: Columns, read: Collection[str]
) -> dict[str, str]:
    """Find roles for columns that are named as in other programs; `read` are the folders that a run reads."""
    found: dict[str, str] = {}
    if table.is_folder:
        return found
    for role, column in all_.by_role.items():
        taken = {"video", "audio"} if role in ("video", "audio") else {role}
        if taken & (columns.keys() | found.keys()) or (column.plugin is not None and column.folder not in read):
            continue
        for names in column.borrowed:
            there = [name for name in names if name in table.columns and name not in chosen.values()]
            if there:
                found |= {role: there[0]} if len(there) == 1 else {}
                break
    clips = found.get("video")
    cells = [cell for row in table.rows if isinstance(cell := row.values.get(clips or ""), str)]
    if clips not in (None, NAMES_A_CLIP) and cells and all(kind_of(cell.strip()) == "sound" for cell in cells):
        found["audio"] = found.pop("video")
    return found


def option(role: str) -> str:
    """Return the key of the options that names the dataset's column for a role."""
    named = f"{role}_column"
    return named if hasattr(PreprocessingTable, named) else f"columns.{role}.column"


def named_by(*roles: str) -> str:
    """Say how a user names the dataset's columns for roles: by an option of a command, or by a key of a run file."""
    options, keys = zip(*((option_of(option(role)), f"preprocessing.{option(role)}") for role in roles), strict=True)
    return f"{' or '.join(options)} (in a run file: {' or '.join(keys)})"


def wanted_folders(
    table: Table,
    columns: Mapping[str, str],
    all_: Columns,
    folders: Collection[str] | None,
    options: PreprocessingTable,
    there: Collection[str] = (),
) -> tuple[frozenset[str], tuple[Problem, ...]]:
    """Return the folders to make, and the problems that prevent requested folders.

    Args:
        table: the dataset.
        columns: the dataset's column for each role that it has.
        all_: the columns that datasets can have.
        folders: the folders that a run reads; None for all that the columns can make.
        options: whether the audio of clips is left out, whether keyframes are made even if no run reads them, and which modalities
            samples, and so all samples of a dataset, may lack.
        there: the folders that exist already, which stay unchanged unless they are made here.
    """
    roles = set(columns)
    if "video" in roles and not options.skip_audio:
        roles.add("audio")
    elif table.is_folder and "video" in roles:  # pictures cannot use audio files, and the audio of clips is not wanted
        roles.discard("audio")
    if "video" in roles and (options.keyframe_candidates is not None or folders is not None):
        roles.add("keyframes")
    where, known = str(table.path), all_.by_folder
    able = frozenset(folder for folder, column in known.items() if column.role in roles)
    wanted = able if folders is None else frozenset(folders)
    problems = []
    for folder in sorted(wanted - able):
        if folder in known and known[folder].modality not in options.may_lack:
            problems.append(_unable(table, known[folder], options.skip_audio and "video" in roles, columns, all_))
        elif folder not in (*known, *there):
            remedy = _typed(folder, all_) if folder in table.columns else suggestion(folder, known)
            problems.append(Problem(f'the run reads the folder "{folder}", which nothing in this dataset provides', where, remedy))
    wanted |= {all_.target_of(known[folder]).folder for folder in wanted & known.keys() if known[folder].takes_size}
    problems += _without_target(table, columns, all_, roles, wanted & able)
    if folders is None and "caption" not in roles:
        problems.append(
            Problem(
                f"has no caption column; its columns are {', '.join(table.columns)}", where, _column_remedy("caption", table, columns, all_)
            )
        )
    return wanted & able, tuple(problems)


def _typed(name: str, all_: Columns) -> str:
    """Say what to write so that the dataset's column of this name is encoded."""
    types = [column.role for column in all_.all if column.plugin is not None and column.has_media and column.role == column.names[0]]
    return f'To encode the column "{name}", say what it is like: preprocessing.columns.{name}.type = one of {", ".join(types)}.'


def _unable(table: Table, column: Column, skipped: bool, columns: Mapping[str, str], all_: Columns) -> Problem:
    folder, role, where = column.folder, column.role, str(table.path)
    if folder == "audio_latents" and skipped:
        return Problem(f'the run reads the folder "{folder}", but skip_audio ignores the audio of the clips', where, "Remove skip_audio.")
    if table.is_folder:
        nothing = {"latents": "no clip and no image", "keyframes": "no clip", "audio_latents": "no sound"}.get(
            folder, f"no {role.replace('_', ' ')}"
        )
        remedy = (
            "Add media of this kind to the dataset."
            if column.is_target or column.kind == "pictures"
            else table.pairing.get(role, f'Write a dataset file with a column "{role}".')
        )
        return Problem(f'the run reads the folder "{folder}", but this dataset has {nothing}', where, remedy)
    wanted = {"audio": '"video" or "audio"', "keyframes": '"video"'}.get(role, f'"{role}"')
    remedy = _column_remedy("video" if role == "keyframes" else role, table, columns, all_)
    return Problem(f'the run reads the folder "{folder}", but there is no column {wanted}', where, remedy)


def _without_target(
    table: Table, columns: Mapping[str, str], all_: Columns, roles: Collection[str], wanted: Collection[str]
) -> Iterator[Problem]:
    where = str(table.path)
    if not {"video", "audio"} & set(columns):
        undecided = (_choose("video", table, columns, all_), _choose("audio", table, columns, all_))
        remedy = " ".join(filter(None, undecided)) or f"Add such a column, or name one of yours with {named_by('video', 'audio')}."
        yield Problem('has no column "video" and no column "audio"', where, remedy)
        return
    for column in (column for column in all_.all if column.plugin is not None and column.folder in wanted):
        target = all_.target_of(column).role
        if target not in roles:
            remedy = (
                'Remove skip_audio, or add a column "audio".' if target == "audio" and "video" in columns else f'Add a column "{target}".'
            )
            what = f'the column "{columns[column.role]}" belongs to the {target} of a sample, but no sample has {target}'
            yield Problem(what, where, remedy)


def _column_remedy(role: str, table: Table, columns: Mapping[str, str], all_: Columns) -> str:
    return _choose(role, table, columns, all_) or f'Add a column "{role}", or name yours with {named_by(role)}.'


def _choose(role: str, table: Table, columns: Mapping[str, str], all_: Columns) -> str:
    """Ask for a choice if a role has no column because several columns are named as in other programs."""
    groups = ([name for name in names if name in table.columns and name not in columns.values()] for names in all_.by_role[role].borrowed)
    there = next(filter(None, groups), [])
    either = " or ".join(f'"{name}"' for name in there)
    return f"It could be {either}: choose one with {named_by(role)}." if len(there) > 1 else ""
