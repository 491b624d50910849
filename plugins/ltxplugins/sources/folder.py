"""The source "folder": each clip, picture and audio file in a folder is a row, with its references, masks and audio.
The text file of the same name beside it is its caption.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import attrs

from ltxcore.api import DataError, Problem
from ltxcore.api.commands import listed
from ltxcore.api.sources import FoundMedia, Row, Table, find_media, printable, read_text, stem_of
from ltxplugins.sources.captions import changed, in_json_file, in_text_file, raw_text
from ltxplugins.sources.pairs import ROLES, Pairs, take_pairs, take_sounds_of_one_name

NUMBERED = re.compile(r"\d+_")
"""The pattern of a repeat count that other trainers put at the start of a folder's name, such as `10_`."""


CAPTIONS = ("caption", "text", "prompt", "description")
"""The keys under which a JSON file beside a media file may hold its caption; the first key that exists is used."""


def _of_pair(role: str) -> Any:
    """Return the key that sets which files have a role for another file."""
    what = ROLES[role]
    usual = f'"{what.suffixes[0]}" or "{what.folders[0]}/"'
    return attrs.field(
        default=None,
        metadata={
            "help": f"which files are the {role.replace('_', ' ')} of another: the end of their names or their folder; by default {usual}"
        },
    )


@attrs.frozen
class Folder:
    """Read every clip, image and audio file in a folder and its sub-folders, with captions from text files of the same name.

    The caption may also be in a JSON file of that name, under "caption", "text", "prompt" or "description".
    """

    is_general = True

    prefer: Literal["video", "image"] | None = attrs.field(
        default=None,
        metadata={"help": "whether to use the clip or the image if both have the same name (Live Photos); by default this is an error"},
    )
    caption_from: Literal["folder"] | None = attrs.field(
        default=None, metadata={"help": 'the caption of files that have no text file: "folder" uses the name of their folder'}
    )
    audio: str | None = _of_pair("audio")
    reference_video: str | None = _of_pair("reference_video")
    reference_audio: str | None = _of_pair("reference_audio")
    video_mask: str | None = _of_pair("video_mask")
    audio_mask: str | None = _of_pair("audio_mask")

    @staticmethod
    def recognizes(path: Path) -> bool:
        return path.is_dir()

    def read(self, path: Path) -> Table:
        """Return a row for each media file, in bytewise order of the paths."""
        found = find_media(path)
        pairs = Pairs()
        take_sounds_of_one_name(path, found, pairs)
        problems, dropped = _one_of_each_name(path, found, self.prefer)
        take_pairs(path, found, {role: getattr(self, role) for role in ROLES}, pairs, by_convention=self.caption_from is None)
        jsons = self._jsons(found)
        rows = [_row(path, name, found, jsons, self.caption_from, pairs) for name in found.media]
        used = {jsons.get(stem_of(row.file)) for row in rows if "caption" in row.values and stem_of(row.file) not in found.texts}
        found.others = [name for name in found.others if name not in used]
        kinds = set(found.media.values())
        base = [*(["video"] if kinds & {"video", "image"} else []), *(["audio"] if "sound" in kinds else [])]
        columns = dict.fromkeys([*base, *(role for row in rows for role in row.values if role != "caption"), "caption"])
        return Table(
            path,
            tuple(rows),
            (*problems, *pairs.problems),
            tuple(columns),
            unusable=tuple(found.unusable),
            notes=tuple(_notes(found, dropped, pairs)),
            is_folder=True,
            pairing={role: _pairing(role, getattr(self, role)) for role in ROLES},
        )

    def _jsons(self, found: FoundMedia) -> dict[str, str]:
        """Return the JSON files that may hold captions, by path without the extension."""
        return {} if self.caption_from else {stem_of(name): name for name in found.others if name.lower().endswith(".json")}

    def recaptioned(self, table: Table, column: str, captions: Mapping[int, Any]) -> Mapping[Path, str]:
        """Return the text and JSON files that hold the captions, with new captions."""
        found = find_media(table.path)
        jsons, new, problems = self._jsons(found), dict[Path, str](), list[Problem]()
        for number, caption in captions.items():
            row = table.rows[number]
            stem, path = stem_of(row.file), table.path / row.caption_file
            if stem in found.texts and (self.caption_from is None or read_text(path)):
                new[path] = in_text_file(raw_text(path), caption)
            elif stem in jsons and stem not in found.texts:
                path = table.path / jsons[stem]
                try:
                    new[path] = in_json_file(raw_text(path), CAPTIONS, caption)
                except (ValueError, IndexError, StopIteration):
                    raise changed(path) from None
            else:
                problems.append(Problem("has no file with its caption", table.at(row), f"Write the caption to {path}."))
        if problems:
            raise DataError.of(problems)
        return new


def _pairing(role: str, named: str | None) -> str:
    """Say how to name a file so that it has a role for another file."""
    what = ROLES[role]
    places = [named] if named else [what.suffixes[0], f"{what.folders[0]}/"]
    ending = ".wav" if "sound" in what.kinds else ".png"
    told = [f"{place}clip{ending}" if place.endswith("/") else f"clip{place}{ending}" for place in places]
    return f"Name files for it: {' or '.join(told)} goes with clip.mp4."


def _one_of_each_name(folder: Path, found: FoundMedia, prefer: str | None) -> tuple[list[Problem], list[str]]:
    """Find media files that would become the same sample, and remove those that the preferred file of the same name
    replaces.
    """
    by_stem: dict[str, list[str]] = {}
    for name in found.media:
        by_stem.setdefault(stem_of(name), []).append(name)
    problems: list[Problem] = []
    dropped: list[str] = []
    for names in by_stem.values():
        kinds = [found.media[name] for name in names]
        if len(names) == 2 and prefer in kinds and set(kinds) == {"video", "image"}:
            other = names[kinds.index(prefer) - 1]
            dropped.append(other)
            del found.media[other]
        elif len(names) > 1:
            both = " and ".join(str(folder / name) for name in names)
            problems.append(Problem("would be the same sample, because file extensions are ignored", both, _remedy_of_one_name(kinds)))
    return problems, dropped


def _remedy_of_one_name(kinds: Collection[str]) -> str:
    if sorted(kinds) == ["image", "video"]:
        return 'Rename one of the files; or, for Live Photos and the like, choose one kind: prefer = "video" or prefer = "image" in [preprocessing].'
    return "Rename all but one of the files."


def _row(folder: Path, name: str, found: FoundMedia, jsons: Mapping[str, str], caption_from: str | None, pairs: Pairs) -> Row:
    values: dict[str, Any] = {"audio" if found.media[name] == "sound" else "video": name, **pairs.of.get(name, {})}
    texts = found.texts.get(stem_of(name), [])
    file = texts[0] if texts else f"{stem_of(name)}.txt"
    caption = _caption(folder, name, texts, jsons.get(stem_of(name)), caption_from)
    if isinstance(caption, Problem):
        return Row(0, values, name, caption, file)
    return Row(0, values if caption is None else {**values, "caption": caption}, name, caption_file=file)


def _caption(
    folder: Path, name: str, texts: list[str], json_file: str | None, caption_from: str | None
) -> str | list[str] | Problem | None:
    """Return the caption of a media file, None if there is no caption, or the reason why the caption cannot be used."""
    if len(texts) > 1:
        return Problem(f"has two captions, {' and '.join(texts)}", str(folder / name), "Keep one of the captions.")
    if not texts and json_file is not None:
        return _caption_in(folder / json_file)
    text = read_text(folder / texts[0]) if texts else None
    if text or caption_from != "folder":
        return text
    inside = PurePosixPath(name).parent.name or Path(os.path.normpath(folder.absolute())).name
    return NUMBERED.sub("", inside, count=1) or inside


def _caption_in(path: Path) -> str | list[str] | Problem | None:
    """Return the caption or the list of captions in a JSON file, None if there is none, or the reason why the file cannot be read."""
    text = read_text(path)
    if isinstance(text, Problem):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Problem(f"is not JSON: {error}", str(path), "Correct the file, or write the caption into a text file.")
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list):  # perhaps of something else, which other programs keep beside their clips
        return _stripped(value)
    key = next((key for key in CAPTIONS if isinstance(value, dict) and key in value), None)
    if key is None:
        return None
    caption = value[key].strip() if isinstance(value[key], str) else _stripped(value[key])
    if caption is not None:
        return caption
    if isinstance(value[key], list):
        return Problem(f'the value of "{key}" is not a list of captions', str(path), "List texts in quotes, none of them empty.")
    return Problem(f'the value of "{key}" is not text', str(path), "Put the value in quotes.")


def _stripped(value: Any) -> list[str] | None:
    """Return a list of captions; None if the value is anything else."""
    is_captions = isinstance(value, list) and value and all(isinstance(each, str) and each.strip() for each in value)
    return [each.strip() for each in value] if is_captions else None


def _notes(found: FoundMedia, dropped: Collection[str], pairs: Pairs) -> Iterator[str]:
    """Count the files that belong to other files, and the files that are left out of a folder."""
    roles = [role for of in pairs.of.values() for role in of]
    if roles:
        told = (f"{_count(roles.count(role), role.replace('_', ' ') if role != 'audio' else 'sound')}" for role in ROLES if role in roles)
        yield f"files that go with another by their names: {', '.join(told)}"
    stems = {stem_of(name) for name in [*found.media, *dropped, *(name for of in pairs.of.values() for name in of.values())]}
    alone = [name for stem, names in found.texts.items() if stem not in stems for name in names]
    parts = [
        f"{_count(found.hidden, 'hidden or system file')}" if found.hidden else "",
        f"{_count(len(found.made), 'folder')} of encoded samples or of a run ({listed(found.made)})" if found.made else "",
        f"{_count(len(dropped), 'file')} beside one of the same name that is preferred ({listed(dropped)})" if dropped else "",
        f"{_count(len(alone), 'text file')} without media ({listed(alone)})" if alone else "",
        f"{_count(found.links, 'link')} to folders that are read anyway" if found.links else "",
        f"{_count(len(found.others), 'file')} of an unknown kind ({_by_ending(found.others)})" if found.others else "",
    ]
    if any(parts):
        yield f"left out: {', '.join(filter(None, parts))}"


def _by_ending(names: Collection[str]) -> str:
    """List file names, grouped by extension."""
    endings: dict[str, list[str]] = {}
    for name in names:
        endings.setdefault(PurePosixPath(name).suffix.lower() or "no extension", []).append(printable(name))
    return "; ".join(f"{ending}: {listed(those, 3)}" for ending, those in sorted(endings.items()))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
