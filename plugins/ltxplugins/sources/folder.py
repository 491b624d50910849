"""The source "folder": each clip, picture and audio file in a folder is a row, captioned by the text file of the same name beside it."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import attrs

from ltxcore.api import Problem
from ltxcore.api.commands import listed
from ltxcore.api.sources import FoundMedia, Row, Table, find_media, printable, read_text, stem_of

NUMBERED = re.compile(r"\d+_")
"""The repeat count that other trainers put at the start of a folder's name, such as `10_`."""


@attrs.frozen
class Folder:
    """Every clip, image and sound in a folder and its sub-folders, with its caption in a text file of the same name beside it."""

    is_general = True

    prefer: Literal["video", "image"] | None = attrs.field(
        default=None, metadata={"help": "which to use of a clip and an image of the same name (Live Photos); by default that is a mistake"}
    )
    caption_from: Literal["folder"] | None = attrs.field(
        default=None, metadata={"help": 'the caption of files that have no text file: "folder" uses the name of their folder'}
    )

    @staticmethod
    def recognizes(path: Path) -> bool:
        return path.is_dir()

    def read(self, path: Path) -> Table:
        """Return a row for each medium, in the bytewise order of their paths."""
        found = find_media(path)
        problems, dropped = _one_of_each_name(path, found, self.prefer)
        rows = [_row(path, name, kind, found, self.caption_from) for name, kind in found.media.items()]
        kinds = set(found.media.values())
        columns = [*(["video"] if kinds & {"video", "image"} else []), *(["audio"] if "sound" in kinds else []), "caption"]
        return Table(
            path,
            tuple(rows),
            tuple(problems),
            tuple(columns),
            unusable=tuple(found.unusable),
            notes=tuple(_notes(found, dropped)),
            is_folder=True,
        )


def _one_of_each_name(folder: Path, found: FoundMedia, prefer: str | None) -> tuple[list[Problem], list[str]]:
    """Find the media that would become the same sample, and remove those for which another file of the same name is preferred."""
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
            problems.append(Problem("would be one sample, since endings do not count", both, _remedy_of_one_name(kinds)))
    return problems, dropped


def _remedy_of_one_name(kinds: Collection[str]) -> str:
    if sorted(kinds) == ["image", "video"]:
        return 'Rename one of them; or, for Live Photos and their like, take one kind: prefer = "video" or prefer = "image" in [preprocessing].'
    if sorted(kinds) == ["sound", "video"]:
        return 'Rename one of them; if the sound belongs to the clip, list them in a dataset file with the columns "video" and "audio".'
    return "Rename all but one of them."


def _row(folder: Path, name: str, kind: str, found: FoundMedia, caption_from: str | None) -> Row:
    values: dict[str, Any] = {"audio" if kind == "sound" else "video": name}
    texts = found.texts.get(stem_of(name), [])
    file = texts[0] if texts else f"{stem_of(name)}.txt"
    caption = _caption(folder, name, texts, caption_from)
    if isinstance(caption, Problem):
        return Row(0, values, name, caption, file)
    return Row(0, values if caption is None else {**values, "caption": caption}, name, caption_file=file)


def _caption(folder: Path, name: str, texts: list[str], caption_from: str | None) -> str | Problem | None:
    """Return the caption of a media file, None if it has none, or the reason why it cannot be used."""
    if len(texts) > 1:
        return Problem(f"has two captions, {' and '.join(texts)}", str(folder / name), "Keep one of them.")
    text = read_text(folder / texts[0]) if texts else None
    if text or caption_from != "folder":
        return text
    inside = PurePosixPath(name).parent.name or Path(os.path.normpath(folder.absolute())).name
    return NUMBERED.sub("", inside, count=1) or inside


def _notes(found: FoundMedia, dropped: Collection[str]) -> Iterator[str]:
    """Count what is left out of a folder."""
    stems = {stem_of(name) for name in [*found.media, *dropped]}
    alone = [name for stem, names in found.texts.items() if stem not in stems for name in names]
    parts = [
        f"{_count(found.hidden, 'hidden or system file')}" if found.hidden else "",
        f"{_count(len(found.made), 'folder')} of encoded samples or of a run ({listed(found.made)})" if found.made else "",
        f"{_count(len(dropped), 'file')} beside one of the same name that is preferred ({listed(dropped)})" if dropped else "",
        f"{_count(len(alone), 'text')} without a medium ({listed(alone)})" if alone else "",
        f"{_count(found.links, 'link')} to folders that are read in their own place" if found.links else "",
        f"{_count(len(found.others), 'file')} of an unknown kind ({_by_ending(found.others)})" if found.others else "",
    ]
    if any(parts):
        yield f"left out: {', '.join(filter(None, parts))}"


def _by_ending(names: Collection[str]) -> str:
    """List file names, grouped by their endings."""
    endings: dict[str, list[str]] = {}
    for name in names:
        endings.setdefault(PurePosixPath(name).suffix.lower() or "no ending", []).append(printable(name))
    return "; ".join(f"{ending}: {listed(those, 3)}" for ending, those in sorted(endings.items()))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
