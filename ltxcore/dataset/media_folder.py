"""Functions that find the media in a folder and the files that a dataset names, and decide what counts as media and what is left out."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import attrs

from ltxcore.errors import DataError, Problem
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
"""The file endings of clips, pictures and audio files. What a file really contains is found out when it is opened."""
_KIND_OF: Mapping[str, Kind] = MappingProxyType({ending: kind for kind, endings in KINDS.items() for ending in endings})

SYSTEM = frozenset(
    {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"}
)
"""The lower-case names of files that operating systems and storage servers leave in folders. Names that begin with a dot are ignored as
well.
"""

SAMPLES = (".safetensors", ".pt")

EXCLUDED = ".exclude"
"""The name, or the end of the name, of the file that lists what is excluded from a dataset."""


@attrs.define
class FoundMedia:
    """The files in a folder, by kind.

    Attributes:
        media: the kind of each clip, picture and audio file, by its path in the folder.
        texts: the text files, by path in the folder without ending.
        unusable: the problems of media that cannot be used and of folders that cannot be read.
        hidden: the number of names that begin with a dot or belong to the operating system.
        made: the folders that this program wrote.
        links: the number of links that lead to folders inside this folder; the files there are read at their real paths.
        others: the paths of all other files.
    """

    media: dict[str, Kind] = attrs.field(factory=dict)
    texts: dict[str, list[str]] = attrs.field(factory=dict)
    unusable: list[Problem] = attrs.field(factory=list)
    hidden: int = 0
    made: list[str] = attrs.field(factory=list)
    links: int = 0
    others: list[str] = attrs.field(factory=list)


def kind_of(name: str) -> Kind | None:
    """Return the kind of media that a file's ending stands for; None if the ending is unknown."""
    return _KIND_OF.get(os.path.splitext(name)[1].lower())  # noqa: PTH122 - making a Path is slow, and this is done for each file


def find_media(folder: Path | str) -> FoundMedia:
    """Find the media in a folder and its sub-folders, in the bytewise order of their paths.

    Raises:
        DataError: the folder cannot be read, or was written by this program.
    """
    folder = Path(folder)
    try:
        names = {each.name for each in folder.iterdir()}
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(folder), remedy="Name a folder of media.") from error
    if "run.json" in names:
        raise DataError("is the output folder of a run, not a dataset", where=str(folder), remedy="Name the folder of your media.")
    if written_by_us(folder, names) or is_encoded(folder):
        remedy = "Name the folder of your media. To train on a set that is already encoded, set data.preprocessed_data_root."
        raise DataError("is a set of encoded samples, not a folder of media", where=str(folder), remedy=remedy)
    found = FoundMedia()
    try:
        _walk(folder, "", os.path.realpath(folder), found)
    except RecursionError:
        raise DataError("has folders that are nested too deeply", where=str(folder), remedy="Use fewer levels of folders.") from None
    by_bytes = sorted(found.media.items(), key=lambda pair: os.fsencode(pair[0]))
    found.media = dict(by_bytes)
    return found


def written_by_us(folder: Path, names: Collection[str]) -> bool:
    """Return whether a folder containing `names` holds encoded samples, a run's output, or references or masks made by a filter."""
    if "run.json" in names or any(name.startswith("raw_files") and name.endswith(".jsonl") for name in names):
        return True
    if "made.jsonl" in names and folder.parent.name in ("references", "masks"):
        return True
    return any(name.startswith("manifest") and name.endswith(".jsonl") for name in names) and _holds_samples(folder)


def is_encoded(folder: Path) -> bool:
    """Return whether a folder is the root of an encoded set, that is, whether it has folders of samples that a run reads."""
    return any(_holds_samples(folder / each) for each in ("latents", "audio_latents", "conditions"))


def is_media_folder(folder: Path) -> bool:
    """Return whether a folder is a dataset of media, for commands that also accept encoded sets.

    Encoded sets do not count, nor do folders with the encoded samples of a dataset file.
    """
    if not folder.is_dir() or (folder / ".precomputed").is_dir():
        return False
    try:
        found = find_media(folder)
    except DataError:
        return False
    return bool(found.media or found.unusable)


def check_root(root: Path, dataset: Path) -> None:
    """Refuse to encode a folder of media into itself.

    Raises:
        DataError: the root is the folder of media.
    """
    if is_folder(dataset) and root.resolve() == dataset.resolve() and is_media_folder(dataset):
        what = "holds the media, and would no longer be read as a folder of media if samples were encoded into it"
        raise DataError(what, where=str(root), remedy="Name another folder for the encoded samples, such as one beside it.")


def _holds_samples(folder: Path) -> bool:
    return any(name.endswith(SAMPLES) for _, _, names in os.walk(folder) for name in names)


def _walk(folder: Path, prefix: str, root: str, found: FoundMedia) -> None:
    try:
        with os.scandir(folder) as scanned:
            entries = sorted(scanned, key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        found.unusable.append(Problem(f"this folder cannot be read: {error.strerror}", str(folder), "Check the permissions of the folder."))
        return
    if prefix and written_by_us(folder, [entry.name for entry in entries]):
        found.made.append(prefix.rstrip("/"))
        return
    for entry in entries:
        if entry.name.startswith(".") or entry.name.lower() in SYSTEM:
            found.hidden += entry.name != EXCLUDED  # what it excludes is told elsewhere
        elif entry.is_symlink():
            _link(entry, prefix, root, found)
        elif entry.is_dir():
            _walk(Path(entry.path), f"{prefix}{entry.name}/", root, found)
        else:
            _file(entry, prefix, found)


def _link(entry: os.DirEntry[str], prefix: str, root: str, found: FoundMedia) -> None:
    """Classify a symbolic link. A link to a file inside the folder counts as this file, a link to a folder inside it is only counted, and
    all other links are refused.
    """
    target, leads_to_folder = os.path.realpath(entry.path), is_folder(Path(entry.path))
    if not leads_to_folder and kind_of(entry.name) is None and not entry.name.lower().endswith(".txt"):
        found.others.append(prefix + entry.name)
    elif not Path(target).is_relative_to(root):
        remedy = "Copy the file or folder that it points to into this folder, or list it in a dataset file."
        found.unusable.append(Problem(f"is a link that points outside the folder, to {printable(target)}", printable(entry.path), remedy))
    elif leads_to_folder:
        found.links += 1
    else:
        _file(entry, prefix, found)


def _file(entry: os.DirEntry[str], prefix: str, found: FoundMedia) -> None:
    name = prefix + entry.name
    kind = kind_of(entry.name)
    is_text = entry.name.lower().endswith(".txt")
    if kind is None and not is_text:
        found.others.append(name)
        return
    if why := _no_file(entry):
        found.unusable.append(Problem(why, printable(entry.path), "Remove this entry, or replace it with the file itself."))
    elif kind is not None:
        found.media[name] = kind
    else:
        found.texts.setdefault(stem_of(name), []).append(name)


def _no_file(entry: os.DirEntry[str]) -> str:
    """Return the reason why an entry of a folder cannot be used as a file; "" if there is none."""
    if entry.is_file(follow_symlinks=False):  # known since the folder was listed, without another look at the disk
        return ""
    path = Path(entry.path)
    why = "" if is_file(path) else why_unreadable(path)
    return "is a link whose target is missing" if why == "is not there" else why


def stem_of(name: str) -> str:
    """Return the name of the sample at a path, which is the path without its ending. `PurePath.with_suffix` gives the same result but takes
    ten times as long, which matters for large datasets.
    """
    folder, slash, last = name.rpartition("/")
    stem, _, ending = last.rpartition(".")
    return f"{folder}{slash}{stem}" if stem and ending else name


def read_text(path: Path, *, strip: bool = True) -> str | Problem:
    """Read the text of a file in UTF-8, or return the reason why it cannot be read.

    Args:
        path: the file.
        strip: whether to leave out space around the text, as for a caption; without it, the numbers of lines stay those of the file.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return Problem(f"is not UTF-8 text (byte {error.start})", str(path), "Save the file as UTF-8.")
    except OSError as error:
        return Problem(f"cannot be read: {error.strerror}", str(path), "Check the permissions of the file.")
    if "\0" in text:
        return Problem(f"is not UTF-8 text (byte {text.index(chr(0))} is zero)", str(path), "Save the file as UTF-8.")
    text = "\n".join(text.split("\r\n"))
    return text.strip() if strip else text


def medium_at(folder: Path, cell: str) -> tuple[str, Path]:
    """Return the path that a cell states, both as text and as a path under `folder`. If the cell has backslashes, as in Windows paths, and
    only the path with "/" exists, that path is returned.
    """
    path = Path(os.path.normpath(os.path.join(folder, cell)))  # noqa: PTH118 - making a Path is slow, and this is done for each cell
    if "\\" in cell and not os.path.lexists(path):
        other = cell.replace("\\", "/")
        there = Path(os.path.normpath(folder / other))
        if is_file(there):
            return other, there
    return cell, path
