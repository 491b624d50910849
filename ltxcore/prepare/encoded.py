"""What of a data root can be looked at: folders of latents and masks, and which of them belong together."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import attrs

from ltxcore.encoded.listing import list_folder
from ltxcore.encoded.sample_names import encoded_root, find_sample
from ltxcore.encoded.store import redo
from ltxcore.errors import ConfigError, DataError, Problem, suggestion
from ltxcore.protocols import Entry

VIDEO_LATENTS = "latents"
AUDIO_LATENTS = "audio_latents"


@attrs.frozen
class Shelf:
    """A folder of a data root.

    Attributes:
        folder: its name.
        kind: "latents" or "mask".
        modality: "video" or "audio".
        entries: its samples, by name.
    """

    folder: str
    kind: str
    modality: str
    entries: Mapping[str, Entry]


def shelves(root: Path, sources: Sequence[str] = ()) -> tuple[Path, tuple[Shelf, ...], tuple[Problem, ...]]:
    """The folders of a data root whose samples can be seen or heard, and files in them that are no samples.

    Args:
        root: the data root, or the folder of the dataset that it belongs to.
        sources: names of folders; none: all.

    Returns:
        Where the folders lie, the folders, and what is wrong with files in them.

    Raises:
        DataError: there is no such folder, or nothing in it that can be looked at.
        ConfigError: a source that is not there, or that holds text.
    """
    if not root.is_dir():
        raise DataError("there is no such folder", where=str(root), remedy="Name the folder that `ltx preprocess` wrote to.")
    there = encoded_root(root, (*sources, VIDEO_LATENTS, AUDIO_LATENTS))
    names = sorted(path.name for path in there.iterdir() if path.is_dir() and not path.name.startswith("."))
    missing = [name for name in sources if name not in names]
    if missing:
        raise ConfigError(f'has no folder "{missing[0]}"', where=str(there), remedy=suggestion(missing[0], names))
    found: list[Shelf] = []
    problems: list[Problem] = []
    for name in sources or names:
        listing = list_folder(there / name)
        problems += [attrs.evolve(problem, where=problem.where or str(there / name)) for problem in listing.unreadable.values()]
        changed = [find_sample(there, name, each) for each in listing.changed]
        problems += [Problem("has changed since it was recorded", str(path), redo(path)) for path in changed]
        shelf = _shelf(name, listing.entries)
        if shelf is not None:
            found.append(shelf)
        elif name in sources and listing.entries:
            raise ConfigError(f'its folder "{name}" holds text features, which cannot be looked at', where=str(there))
    if not found and not problems:
        raise DataError("holds no latents and no masks", where=str(there), remedy="Name the folder that `ltx preprocess` wrote to.")
    return there, tuple(found), tuple(problems)


def _shelf(folder: str, entries: Mapping[str, Entry]) -> Shelf | None:
    first = next(iter(entries.values()), None)
    if first is None or first.kind not in ("latents", "mask"):
        return None
    return Shelf(folder, first.kind, first.modality, entries)


def sound_folder(shelf: Shelf, folders: Collection[str]) -> str | None:
    """The folder of the sounds that go with the pictures of another: `audio_latents` with `latents`, `reference_audio_latents` with `reference_latents`."""
    named = shelf.folder.replace(VIDEO_LATENTS, AUDIO_LATENTS)
    return named if shelf.kind == "latents" and shelf.modality == "video" and named != shelf.folder and named in folders else None
