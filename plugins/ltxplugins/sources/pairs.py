"""Files of a folder that go with a clip, an image or a sound: references, masks, and audio of its own."""

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
    """What goes with a medium in one role.

    Attributes:
        kinds: the kinds of files that play the role.
        of: the kinds of media that they go with.
        suffixes: what their names have behind that of the medium, by convention.
        folders: the folders that they are in, by convention.
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
"""The roles in the order in which a file is tried for them, by the columns of the dataset that they become."""


@attrs.define
class Pairs:
    """The files that go with others.

    Attributes:
        of: what goes with each medium, by its path: files by role.
        problems: files that two would play one role, and files that the user named for a role and that go with nothing.
    """

    of: dict[str, dict[str, str]] = attrs.field(factory=dict)
    problems: list[Problem] = attrs.field(factory=list)

    def add(self, folder: Path, base: str, role: str, name: str) -> None:
        """Let a file play a role for a medium."""
        other = self.of.setdefault(base, {}).setdefault(role, name)
        if other != name:
            both = f"{other} and {name}"
            self.problems.append(
                Problem(f"has two files that are its {role.replace('_', ' ')}, {both}", str(folder / base), "Keep one of them.")
            )


def take_pairs(folder: Path, found: FoundMedia, asked: Mapping[str, str | None], pairs: Pairs, by_convention: bool) -> None:
    """Find the files that go with others, and remove them from the media of the folder.

    Args:
        folder: the folder.
        found: what is in it.
        pairs: the pairs, which are added to.
        asked: for each role, the suffix (`_depth`) or the folder (`depth/`) that the user names; None for the usual ones.
        by_convention: whether files with the usual names are taken too. Such a file must have no caption of its own.
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
                remedy = "Give it the name of one of the media, or remove it."
                pairs.problems.append(Problem(f"is the {role.replace('_', ' ')} of nothing", str(folder / name), remedy))
                del found.media[name]
                break
    for base in pairs.of.keys() - found.media.keys():
        for name in pairs.of.pop(base).values():
            pairs.problems.append(Problem(f"goes with {base}, which itself goes with another file", str(folder / name), "Rename it."))


def take_sounds_of_one_name(folder: Path, found: FoundMedia, pairs: Pairs) -> None:
    """Let a sound with the name of a clip beside it be the clip's audio."""
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
    """The media of a folder by the names that files which go with them have."""

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
        """Yield the media that a file may go with: of its name without a suffix, or of its name in the folder above or in one beside."""
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
                elif len(beside) == 1:  # of several, none is more likely to be meant
                    yield beside[0]
