"""Find the files in a folder that belong to a clip, an image or an audio file: references, masks, and separate audio."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import attrs

from ltxcore.api import Problem
from ltxcore.api.sources import FoundMedia, stem_of

PICTURES, SOUNDS = frozenset({"video", "image"}), frozenset({"sound"})


@attrs.frozen
class Kind:
    """A role that a file can have for another file, such as reference or mask.

    Attributes:
        kinds: the kinds of files that can have the role.
        of: the kinds of media files that such files belong to.
        suffixes: the usual suffixes of such files, which follow the name of the media file.
        folders: the usual names of folders that contain such files.
    """

    kinds: frozenset[str]
    of: frozenset[str]
    suffixes: tuple[str, ...]
    folders: tuple[str, ...]


ROLES: Mapping[str, Kind] = MappingProxyType(
    {
        "reference_video": Kind(PICTURES, PICTURES, ("_reference", "_ref", "_control"), ("references", "reference", "control")),
        "video_mask": Kind(PICTURES, PICTURES, ("_mask",), ("masks", "mask")),
        "reference_audio": Kind(SOUNDS, SOUNDS | {"video"}, ("_reference_audio", "_reference", "_ref"), ("reference_audio", "references")),
        "audio_mask": Kind(SOUNDS, SOUNDS | {"video"}, ("_audio_mask", "_mask"), ("audio_masks", "masks")),
        "audio": Kind(SOUNDS, frozenset({"video"}), ("_audio", "_sound"), ("audio", "sounds")),
    }
)
"""The roles, by the column of the dataset that each becomes, in the order in which a file is tried for them."""


@attrs.define
class Pairs:
    """The files that belong to other files.

    Attributes:
        of: for each media file, by its path, the files that belong to it, by role.
        problems: media files for which two files have the same role; files with a suffix or folder that the user names for a role, but
            without a media file; and files that belong to a file that has a role itself.
    """

    of: dict[str, dict[str, str]] = attrs.field(factory=dict)
    problems: list[Problem] = attrs.field(factory=list)

    def add(self, folder: Path, base: str, role: str, name: str) -> None:
        """Record that a file has a role for a media file."""
        other = self.of.setdefault(base, {}).setdefault(role, name)
        if other != name:
            both = f"{other} and {name}"
            self.problems.append(
                Problem(f"has two files for its {role.replace('_', ' ')}, {both}", str(folder / base), "Keep one of the files.")
            )


def take_pairs(folder: Path, found: FoundMedia, asked: Mapping[str, str | None], pairs: Pairs, by_convention: bool) -> None:
    """Find the files that belong to other files, and remove them from the media of the folder.

    Args:
        folder: the folder.
        found: the files in the folder.
        pairs: the pairs, to which this function adds.
        asked: for each role, the suffix (`_depth`) or folder (`depth/`) that the user names; None for the usual
            suffixes and folders.
        by_convention: whether to use files with the usual names too. A file with its own caption is not used in this
            way.
    """
    bases = _Bases(found)
    for name, kind in list(found.media.items()):
        for role, what in ROLES.items():
            named = asked.get(role)
            if kind not in what.kinds or (named is None and (not by_convention or stem_of(name) in found.texts)):
                continue
            suffixes, folders = _places(what, named)
            base = next((base for base in bases.of(name, suffixes, folders) if found.media.get(base) in what.of), None)
            if base is not None:
                pairs.add(folder, base, role, name)
                del found.media[name]
                break
            if named is not None and _is_named_so(name, suffixes, folders):
                remedy = "Give the file the name of a medium, or remove the file."
                pairs.problems.append(
                    Problem(f"is named as the {role.replace('_', ' ')} of a medium, but belongs to none", str(folder / name), remedy)
                )
                del found.media[name]
                break
    for base in pairs.of.keys() - found.media.keys():
        for name in pairs.of.pop(base).values():
            pairs.problems.append(Problem(f"belongs to {base}, which itself belongs to another file", str(folder / name), "Rename it."))


def take_sounds_of_one_name(folder: Path, found: FoundMedia, pairs: Pairs) -> None:
    """Make an audio file the audio of the clip that has the same name in the same folder."""
    by_stem: dict[str, list[str]] = {}
    for name in found.media:
        by_stem.setdefault(stem_of(name), []).append(name)
    for names in by_stem.values():
        if sorted(found.media[name] for name in names) == ["sound", "video"]:
            sound, clip = sorted(names, key=lambda name: found.media[name])
            pairs.add(folder, clip, "audio", sound)
            del found.media[sound]


def _places(what: Kind, named: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if named is None:
        return what.suffixes, what.folders
    return ((), (named.rstrip("/"),)) if named.endswith("/") else ((named,), ())


def _is_named_so(name: str, suffixes: tuple[str, ...], folders: tuple[str, ...]) -> bool:
    return stem_of(name).endswith(suffixes) if suffixes else bool({*name.split("/")[:-1]} & {*folders})


class _Bases:
    """An index of the media in a folder, by the names of files that may belong to them."""

    def __init__(self, found: FoundMedia) -> None:
        self._by_stem: dict[str, str] = {}
        self._beside: dict[tuple[str, str], list[str]] = {}
        for name in found.media:
            stem = stem_of(name)
            self._by_stem.setdefault(stem, name)
            parts = stem.split("/")
            for index in range(len(parts) - 1):
                self._beside.setdefault(("/".join(parts[:index]), "/".join(parts[index + 1 :])), []).append(name)

    def of(self, name: str, suffixes: tuple[str, ...], folders: tuple[str, ...]) -> Iterator[str]:
        """Yield the media files to which a file may belong: those that have the file's name without a suffix, or have the file's name in
        the parent folder or in a sibling folder.
        """
        stem = stem_of(name)
        for suffix in suffixes:
            if stem.endswith(suffix) and (base := self._by_stem.get(stem.removesuffix(suffix))) is not None:
                yield base
        parts = stem.split("/")
        for index, part in enumerate(parts[:-1]):
            if part in folders:
                above, rest = "/".join(parts[:index]), "/".join(parts[index + 1 :])
                over = self._by_stem.get(f"{above}/{rest}" if above else rest)
                beside = [other for other in self._beside.get((above, rest), []) if other.split("/")[index] not in folders]
                if over is not None:
                    yield over
                elif len(beside) == 1:  # of several candidates, none is more likely
                    yield beside[0]
