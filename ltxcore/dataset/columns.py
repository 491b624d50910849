"""The roles that the columns of a dataset play, and the folders that can be made from them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType

import attrs

from ltxcore.dataset.media_folder import kind_of
from ltxcore.errors import Problem, suggestion
from ltxcore.sources import Table

ALIASES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "video": ("video", "media_path"),
        "audio": ("audio",),
        "caption": ("caption",),
        "reference_video": ("reference_video", "ref_media_path"),
        "reference_audio": ("reference_audio",),
        "video_mask": ("video_mask",),
        "audio_mask": ("audio_mask",),
    }
)
"""The roles, each with the column names that play it by convention."""

BORROWED: Mapping[str, tuple[tuple[str, ...], ...]] = MappingProxyType(
    {
        "video": (
            ("video_path", "file_name"),
            ("media", "file", "filename", "file_path", "filepath", "path", "clip", "clip_path", "image", "image_path"),
        ),
        "audio": (("audio_path", "audio_file", "audio_filepath", "sound", "wav"),),
        "caption": (("text",), ("prompt", "description", "cap", "transcription")),
        "reference_video": (("reference_path", "control_path", "control_video", "conditioning_image"),),
        "video_mask": (("mask", "mask_path"),),
    }
)
"""Column names of other programs' datasets, accepted for a role only if no column of ours could be meant for it, in the
order in which groups of them are tried; of a group, only one may be there.
"""

NAMES_A_CLIP = "video_path"
"""The borrowed name that says what its files are; files of the others are sounds if all of them have an audio ending."""

FOLDERS: Mapping[str, str] = MappingProxyType(
    {
        "conditions": "caption",
        "latents": "video",
        "audio_latents": "audio",
        "reference_latents": "reference_video",
        "reference_audio_latents": "reference_audio",
        "video_masks": "video_mask",
        "audio_masks": "audio_mask",
    }
)
"""The folders that preprocessing makes, each with its role. The audio of a clip without an audio column is that of its video."""

NEEDS: Mapping[str, str] = MappingProxyType({"video_masks": "latents", "reference_latents": "latents", "audio_masks": "audio_latents"})
"""The folders whose samples take their size from another folder's samples."""


@attrs.frozen
class Binding:
    """The column of each role that the dataset has, and the columns without a role."""

    columns: Mapping[str, str]
    unused: tuple[str, ...]
    problems: tuple[Problem, ...]


def bind(table: Table, chosen: Mapping[str, str | None], folders: Collection[str] | None = None) -> Binding:
    """Find the column of every role: the chosen one, else the conventional one.

    Args:
        table: the dataset.
        chosen: the column that an option names, by role.
        folders: the folders that a run reads; only for these are masks and references taken from columns that other
            programs name differently.
    """
    columns: dict[str, str] = {}
    problems: list[Problem] = []
    where = str(table.path)
    for role, names in ALIASES.items():
        wanted = chosen.get(role)
        found = [name for name in ((wanted,) if wanted else names) if name in table.columns]
        if wanted and not found:
            problems.append(Problem(f'has no column "{wanted}" to use as the {role} column', where, suggestion(wanted, table.columns)))
        elif len(found) > 1:
            both = " and ".join(f'"{name}"' for name in found)
            problems.append(
                Problem(f"has the columns {both}, which could both be the {role}", where, f"Say which one with {option(role)}.")
            )
        if found:
            columns[role] = found[0]
    columns |= _borrowed(table, columns, chosen, {FOLDERS[folder] for folder in folders or () if folder in FOLDERS})
    by_column: dict[str, list[str]] = {}
    for role, column in columns.items():
        by_column.setdefault(column, []).append(role)
    for column, roles in by_column.items():
        if len(roles) > 1:
            problems.append(
                Problem(f'its column "{column}" is used as {" and ".join(roles)} at the same time', where, "Give each role its own column.")
            )
    unused = tuple(column for column in table.columns if column not in by_column)
    return Binding(columns, unused, tuple(problems))


def _borrowed(table: Table, columns: Mapping[str, str], chosen: Mapping[str, str | None], read: Collection[str]) -> dict[str, str]:
    """Find the roles of columns that other programs name differently; `read` are the roles that a run reads."""
    found: dict[str, str] = {}
    if table.is_folder:
        return found
    for role, groups in BORROWED.items():
        taken = {"video", "audio"} if role in ("video", "audio") else {role}
        if taken & (columns.keys() | found.keys()) or (role in ("reference_video", "video_mask") and role not in read):
            continue
        for names in groups:
            there = [name for name in names if name in table.columns and name not in chosen.values()]
            if there:
                found |= {role: there[0]} if len(there) == 1 else {}
                break
    column = found.get("video")
    cells = [cell for row in table.rows if isinstance(cell := row.values.get(column or ""), str)]
    if column not in (None, NAMES_A_CLIP) and cells and all(kind_of(cell.strip()) == "sound" for cell in cells):
        found["audio"] = found.pop("video")
    return found


def option(role: str) -> str:
    """Return the name of the option that names a role's column."""
    return f"{role}_column"


def wanted_folders(
    table: Table, columns: Mapping[str, str], folders: Collection[str] | None, *, skip_audio: bool, there: Collection[str] = ()
) -> tuple[frozenset[str], tuple[Problem, ...]]:
    """Return the folders to make, and the problems that prevent those that were asked for.

    Args:
        table: the dataset.
        columns: the column of each role that the dataset has.
        folders: the folders that a run reads; None for all that the columns can make.
        skip_audio: whether the audio of clips is left out.
        there: folders that exist already; those that are not made here are left as they are.
    """
    roles = set(columns)
    if "video" in roles and not skip_audio:
        roles.add("audio")
    elif table.is_folder and "video" in roles:  # a set of pictures has no use for audio files, and the audio of clips is not asked for
        roles.discard("audio")
    where = str(table.path)
    able = frozenset(folder for folder, role in FOLDERS.items() if role in roles)
    wanted = able if folders is None else frozenset(folders)
    problems = []
    for folder in sorted(wanted - able):
        if folder in FOLDERS:
            problems.append(_unable(table, folder, skip_audio and "video" in roles))
        elif folder not in there:
            problems.append(
                Problem(f'the run reads the folder "{folder}", which nothing in this dataset provides', where, suggestion(folder, FOLDERS))
            )
    wanted |= {NEEDS[folder] for folder in wanted & NEEDS.keys()}
    problems += _without_target(where, columns, roles, wanted & able)
    if folders is None and "caption" not in roles:
        problems.append(Problem(f"has no caption column; its columns are {', '.join(table.columns)}", where, _column_remedy("caption")))
    return wanted & able, tuple(problems)


def _unable(table: Table, folder: str, skipped: bool) -> Problem:
    role, where = FOLDERS[folder], str(table.path)
    if folder == "audio_latents" and skipped:
        return Problem(
            f'the run reads the folder "{folder}", but skip_audio ignores the audio of the clips', where, "Leave skip_audio out."
        )
    if table.is_folder:
        nothing = {"latents": "no clip and no image", "audio_latents": "no sound"}.get(folder, f"no {role.replace('_', ' ')}")
        remedy = (
            "Put some there."
            if folder in ("latents", "audio_latents")
            else table.pairing.get(role, f'Write a dataset file with a column "{role}".')
        )
        return Problem(f'the run reads the folder "{folder}", but there is {nothing} in it', where, remedy)
    wanted = '"video" or "audio"' if folder == "audio_latents" else f'"{role}"'
    return Problem(f'the run reads the folder "{folder}", but there is no column {wanted}', where, _column_remedy(role))


def _without_target(where: str, columns: Mapping[str, str], roles: Collection[str], wanted: Collection[str]) -> Iterator[Problem]:
    if not {"video", "audio"} & set(columns):
        yield Problem(
            'has neither a column "video" nor "audio"', where, f"Add one, or name yours with {option('video')} or {option('audio')}."
        )
        return
    for folder, target in (*NEEDS.items(), ("reference_audio_latents", "audio_latents")):
        if folder in wanted and FOLDERS[target] not in roles:
            remedy = (
                'Leave skip_audio out, or add a column "audio".'
                if target == "audio_latents" and "video" in columns
                else f'Add a column "{FOLDERS[target]}".'
            )
            yield Problem(
                f'its column "{columns[FOLDERS[folder]]}" is for the {FOLDERS[target]} of samples, but there is none', where, remedy
            )


def _column_remedy(role: str) -> str:
    return f'Add a column "{role}", or name yours with {option(role)}.'
