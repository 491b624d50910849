"""Folders as datasets: each clip, picture and audio file in a folder is a row, captioned by the text file of the same name beside it."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Literal

import attrs

from ltxcore.dataset.table import FORMATS, Row, Table
from ltxcore.errors import DataError, Problem, listed
from ltxcore.files import is_file, is_folder, printable, why_unreadable

Kind = Literal["video", "image", "sound"]


def _endings(names: str) -> frozenset[str]:
    return frozenset(f".{name}" for name in names.split())


KINDS: Mapping[Kind, frozenset[str]] = MappingProxyType(
    {
        "video": _endings("mp4 mov m4v mkv webm avi mpg mpeg m2v vob ts mts m2ts wmv asf flv f4v 3gp 3g2 ogv mxf dv gif apng"),
        "image": _endings("png jpg jpeg jfif webp bmp tif tiff heic heif avif"),
        "sound": _endings("wav mp3 flac ogg oga opus m4a aac aif aiff wma ac3 mka caf amr au"),
    }
)
"""The file endings of clips, pictures and audio files; the actual content of a file is found when it is opened."""

SYSTEM = frozenset(
    {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"}
)
"""The lower-case names that operating systems and storage servers leave in folders; names that begin with a dot are left out as well."""

SAMPLES = (".safetensors", ".pt")
NUMBERED = re.compile(r"\d+_")
"""The repeat count that other trainers put at the start of a folder's name, such as `10_`."""

MISSING, EMPTY = "has no caption", "its caption is empty"


@attrs.define
class Found:
    """The files in a folder, by kind.

    Attributes:
        media: the kind of each clip, picture and audio file, by its path in the folder.
        texts: the text files, by their paths under the folder without ending.
        unusable: media that cannot be taken, and folders that cannot be read.
        hidden: the number of names that begin with a dot or are the operating system's.
        made: folders that this program wrote.
        links: the number of links to other folders in the folder, which are read where they lie.
        others: paths of all other files.
    """

    media: dict[str, Kind] = attrs.field(factory=dict)
    texts: dict[str, list[str]] = attrs.field(factory=dict)
    unusable: list[Problem] = attrs.field(factory=list)
    hidden: int = 0
    made: list[str] = attrs.field(factory=list)
    links: int = 0
    others: list[str] = attrs.field(factory=list)


def read_folder(folder: Path, prefer: str | None = None, caption_from: str | None = None) -> Table:
    """Read a folder of media as the rows of a dataset, in the bytewise order of their paths.

    Args:
        folder: the folder, with its sub-folders.
        prefer: which to take of a clip and a picture with the same name, "video" or "image"; if None, such a pair is a
            mistake.
        caption_from: "folder" to use the name of a file's folder as its caption if it has no text file; if None, such
            files have no caption.

    Raises:
        DataError: it cannot be read, holds no media, or was written by this program: an encoded set, or the output of a
            run.
    """
    found = media_under(folder)
    problems, dropped = _one_of_each_name(folder, found, prefer)
    rows = [_row(folder, name, kind, found, caption_from) for name, kind in found.media.items()]
    if not rows and not problems and not found.unusable:
        remedy = f"Put clips, images or sounds there, or name a dataset file ({', '.join(FORMATS)})."
        raise DataError("has no clips, images or sounds in it", where=str(folder), remedy=remedy + _left_out_remedy(folder, found))
    kinds = set(found.media.values())
    columns = [*(["video"] if kinds & {"video", "image"} else []), *(["audio"] if "sound" in kinds else []), "caption"]
    return Table(
        folder,
        tuple(columns),
        tuple(rows),
        tuple(problems),
        unusable=tuple(found.unusable),
        notes=tuple(_notes(folder, found, dropped)),
        is_folder=True,
    )


def kind_of(name: str) -> Kind | None:
    """Return the kind of a file by its ending; None if it is not a known kind of media."""
    ending = PurePosixPath(name).suffix.lower()
    return next((kind for kind, endings in KINDS.items() if ending in endings), None)


def media_under(folder: Path) -> Found:
    """Find the media in a folder and its sub-folders, in the bytewise order of their paths.

    Raises:
        DataError: the folder cannot be read, or was written by this program.
    """
    try:
        names = {each.name for each in folder.iterdir()}
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(folder), remedy="Name a folder of media.") from error
    if "run.json" in names:
        raise DataError("is the output folder of a run, not a dataset", where=str(folder), remedy="Name the folder of your media.")
    if written_by_us(folder, names) or is_encoded(folder):
        remedy = "Name the folder of your media; a set that is encoded already is named in data.preprocessed_data_root."
        raise DataError("is a set of encoded samples, not a folder of media", where=str(folder), remedy=remedy)
    found = Found()
    try:
        _walk(folder, "", os.path.realpath(folder), found)
    except RecursionError:
        raise DataError("has folders in folders, too deep to follow", where=str(folder), remedy="Move the media further up.") from None
    by_bytes = sorted(found.media.items(), key=lambda pair: os.fsencode(pair[0]))
    found.media = dict(by_bytes)
    return found


def written_by_us(folder: Path, names: Collection[str]) -> bool:
    """Return whether a folder that contains these names holds encoded samples, a run's output, or references made by `ltx reference`."""
    if "run.json" in names or any(name.startswith("raw_files") and name.endswith(".jsonl") for name in names):
        return True
    if "made.jsonl" in names and folder.parent.name == "references":
        return True
    return any(name.startswith("manifest") and name.endswith(".jsonl") for name in names) and _holds_samples(folder)


def is_encoded(folder: Path) -> bool:
    """Return whether a folder is the root of an encoded set, which has folders of samples that a run reads."""
    return any(_holds_samples(folder / each) for each in ("latents", "audio_latents", "conditions"))


def is_media_folder(folder: Path) -> bool:
    """Return whether a folder has media, and is neither an encoded set nor the folder of a dataset file whose samples
    are encoded in it; for commands that accept all of these.
    """
    if not folder.is_dir() or (folder / ".precomputed").is_dir():
        return False
    try:
        found = media_under(folder)
    except DataError:
        return False
    return bool(found.media or found.unusable)


def _holds_samples(folder: Path) -> bool:
    return any(name.endswith(SAMPLES) for _, _, names in os.walk(folder) for name in names)


def _walk(folder: Path, prefix: str, root: str, found: Found) -> None:
    try:
        with os.scandir(folder) as scanned:
            entries = sorted(scanned, key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        found.unusable.append(Problem(f"this folder cannot be read: {error.strerror}", str(folder), "Check that you may read it."))
        return
    if prefix and written_by_us(folder, [entry.name for entry in entries]):
        found.made.append(prefix.rstrip("/"))
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.name.lower() in SYSTEM:
            found.hidden += 1
        elif entry.is_symlink():
            _link(entry, prefix, root, found)
        elif entry.is_dir():
            _walk(Path(entry.path), f"{prefix}{entry.name}/", root, found)
        else:
            _file(entry, prefix, found)


def _link(entry: os.DirEntry[str], prefix: str, root: str, found: Found) -> None:
    """Classify a symbolic link: a link to a file in the folder counts as the file, a link to a folder in it adds
    nothing, and all others are refused.
    """
    target, leads_to_folder = os.path.realpath(entry.path), is_folder(Path(entry.path))
    if not leads_to_folder and kind_of(entry.name) is None and not entry.name.lower().endswith(".txt"):
        found.others.append(prefix + entry.name)
    elif not Path(target).is_relative_to(root):
        remedy = "Copy what it leads to into the folder, or list it in a dataset file."
        found.unusable.append(Problem(f"is a link that leads out of the folder, to {printable(target)}", printable(entry.path), remedy))
    elif leads_to_folder:
        found.links += 1
    else:
        _file(entry, prefix, found)


def _file(entry: os.DirEntry[str], prefix: str, found: Found) -> None:
    name = prefix + entry.name
    kind = kind_of(entry.name)
    is_text = entry.name.lower().endswith(".txt")
    if kind is None and not is_text:
        found.others.append(name)
        return
    why = _no_file(Path(entry.path))
    if why:
        found.unusable.append(Problem(why, printable(entry.path), "Remove it, or put the file itself there."))
    elif kind is not None:
        found.media[name] = kind
    else:
        found.texts.setdefault(stem_of(name), []).append(name)


def _no_file(path: Path) -> str:
    """Return the reason why a path cannot be used as a file; "" if it can."""
    why = "" if is_file(path) else why_unreadable(path)
    return "is a link to nothing" if why == "is not there" else why


def stem_of(name: str) -> str:
    """Return a path without its ending, which is the sample's name. `PurePath.with_suffix` gives the same but takes ten
    times as long, and datasets are large.
    """
    folder, slash, last = name.rpartition("/")
    stem, _, ending = last.rpartition(".")
    return f"{folder}{slash}{stem}" if stem and ending else name


def _one_of_each_name(folder: Path, found: Found, prefer: str | None) -> tuple[list[Problem], list[str]]:
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


def _remedy_of_one_name(kinds: list[Kind]) -> str:
    if sorted(kinds) == ["image", "video"]:
        return 'Rename one of them; or, for Live Photos and their like, take one kind: prefer = "video" or prefer = "image" in [preprocessing].'
    if sorted(kinds) == ["sound", "video"]:
        return 'Rename one of them; if the sound belongs to the clip, list them in a dataset file with the columns "video" and "audio".'
    return "Rename all but one of them."


def _row(folder: Path, name: str, kind: Kind, found: Found, caption_from: str | None) -> Row:
    values: dict[str, Any] = {"audio" if kind == "sound" else "video": name}
    caption = _caption(folder, name, found.texts.get(stem_of(name), []), caption_from)
    if isinstance(caption, Problem):
        return Row(0, values, name, caption)
    return Row(0, {**values, "caption": caption}, name)


def _caption(folder: Path, name: str, texts: list[str], caption_from: str | None) -> str | Problem:
    """Return the caption of a media file, or the reason why it has none."""
    place = str(folder / name)
    if len(texts) > 1:
        return Problem(f"has two captions, {' and '.join(texts)}", place, "Keep one of them.")
    text = read_caption(folder / texts[0]) if texts else MISSING
    if isinstance(text, Problem) or (text and text is not MISSING):
        return text
    if caption_from == "folder":
        inside = PurePosixPath(name).parent.name or Path(os.path.normpath(folder.absolute())).name
        return NUMBERED.sub("", inside, count=1) or inside
    return Problem(EMPTY if texts else MISSING, place)


def read_caption(path: Path) -> str | Problem:
    """Read the text of a caption file, without surrounding space, or return the reason why it cannot be read."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return Problem(f"is not UTF-8 text (byte {error.start})", str(path), "Save it as UTF-8.")
    except OSError as error:
        return Problem(f"cannot be read: {error.strerror}", str(path), "Check that you may read it.")
    if "\0" in text:
        return Problem(f"is not UTF-8 text (byte {text.index(chr(0))} is zero)", str(path), "Save it as UTF-8.")
    return "\n".join(text.split("\r\n")).strip()


def captions_wanting(folder: Path, rows: Collection[Row]) -> Iterator[Problem]:
    """Report the rows of a folder that have no caption or an empty one, all in one problem, with what to do about them."""
    lacking = {row.file: row.lacks for row in rows if row.lacks is not None}
    without = {what: [name for name, why in lacking.items() if why.what == what] for what in (MISSING, EMPTY)}
    parts = [
        f"{_count(len(names), 'file')} {has}: {', '.join(names)}"
        for names, has in zip(without.values(), ("without a caption", "with an empty one"), strict=True)
        if names
    ]
    if parts:
        listing = sorted(each.name for each in folder.iterdir() if each.name.lower().startswith("metadata."))
        remedy = (
            'Write them with `ltx caption`; or set caption_from = "folder", which uses the name of the folder that a file is in; '
            'or leave such files out with on_error = "skip".'
            + (f" If {listing[0]} has the captions, name that file as the dataset." if listing else "")
        )
        yield Problem(f"has {'; '.join(parts)}", str(folder), remedy)
    yield from (why for why in lacking.values() if why.what not in (MISSING, EMPTY))


def _notes(folder: Path, found: Found, dropped: Collection[str]) -> Iterator[str]:
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
        yield f"{folder}: left out: {', '.join(filter(None, parts))}"


def _by_ending(names: Collection[str]) -> str:
    """List file names, grouped by their endings."""
    endings: dict[str, list[str]] = {}
    for name in names:
        endings.setdefault(PurePosixPath(name).suffix.lower() or "no ending", []).append(printable(name))
    return "; ".join(f"{ending}: {listed(those, 3)}" for ending, those in sorted(endings.items()))


def _left_out_remedy(folder: Path, found: Found) -> str:
    return "".join(f" {note[:1].upper()}{note[1:]}." for note in (note.partition(": ")[2] for note in _notes(folder, found, ())))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
