"""The contents of an encoded set: its folders of samples, each of one kind, and which folders belong together."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import attrs

from ltxcore.encoded.sample_names import encoded_root, find_sample
from ltxcore.errors import ConfigError, DataError, Problem, suggestion
from ltxcore.modalities.video import VideoModality
from ltxcore.protocols import Entry

VIDEO_LATENTS = "latents"
AUDIO_LATENTS = "audio_latents"


@attrs.frozen
class EncodedFolder:
    """A folder of an encoded set that holds samples.

    Attributes:
        path: the folder's path.
        kind: the kind of the folder's first sample: "latents", "mask", "pictures", "values" or "text".
        modality: "video" or "audio"; "" for values; for text, the modalities of its features, joined by "+".
        entries: the entries of the folder's samples, by name.
    """

    path: Path
    kind: str
    modality: str
    entries: Mapping[str, Entry]

    @property
    def name(self) -> str:
        """The folder's name, such as "audio_latents"."""
        return self.path.name

    def file(self, sample: str) -> Path:
        """Return the path of a sample's file."""
        return find_sample(self.path.parent, self.path.name, sample)

    def sounds_among(self, folders: Collection[str]) -> str | None:
        """Return the audio folder among `folders` that belongs to this video folder; None if there is none.

        `audio_latents` belongs to `latents`, and `reference_audio_latents` to `reference_latents`.
        """
        named = self.name.replace(VIDEO_LATENTS, AUDIO_LATENTS)
        return named if self.kind == "latents" and self.modality == "video" and named != self.name and named in folders else None


@attrs.frozen
class EncodedSet:
    """An encoded set, with its folders and the problems with their files.

    Attributes:
        root: the folder that contains the set's folders.
        folders: the folders that hold samples.
        problems: the problems with files in these folders.
    """

    root: Path
    folders: tuple[EncodedFolder, ...]
    problems: tuple[Problem, ...]

    @property
    def video_scale(self) -> tuple[int, int, int]:
        """The pixel frames, rows and columns that a cell of a video latent or mask covers; the cells of the first frame cover a single
        pixel frame.
        """
        return VideoModality().scale

    def rate(self, folder: EncodedFolder, sample: str) -> float:
        """Return the frames per second of a sample's video in a folder.

        This is the rate that the folder states, or else the rate of the sample's clip, or else the default rate.
        """
        clips = next((each.entries for each in self.folders if each.name == VIDEO_LATENTS), {})
        clip = clips.get(sample)
        return folder.entries[sample].rate or (VideoModality().default_rate if clip is None or clip.rate is None else clip.rate)


def list_encoded(root: Path | str, names: Sequence[str] = ()) -> EncodedSet:
    """List the folders of an encoded set with their samples, from manifests and headers, without reading a tensor.

    Args:
        root: the root of the set, or the folder of the dataset that it belongs to.
        names: the names of the folders to list; empty for all.

    Raises:
        DataError: there is no such folder.
        ConfigError: one of the named folders does not exist.
    """
    from ltxcore.encoded.listing import list_folder
    from ltxcore.encoded.store import redo

    root = Path(root)
    if not root.is_dir():
        raise DataError("there is no such folder", where=str(root), remedy="Name the folder that `ltx preprocess` wrote to.")
    there = encoded_root(root, (*names, VIDEO_LATENTS, AUDIO_LATENTS))
    known = sorted(path.name for path in there.iterdir() if path.is_dir() and not path.name.startswith("."))
    missing = [name for name in names if name not in known]
    if missing:
        raise ConfigError(f'has no folder "{missing[0]}"', where=str(there), remedy=suggestion(missing[0], known))
    folders: list[EncodedFolder] = []
    problems: list[Problem] = []
    for name in names or known:
        listing = list_folder(there / name)
        problems += [attrs.evolve(problem, where=problem.where or str(there / name)) for problem in listing.unreadable.values()]
        changed = [find_sample(there, name, each) for each in listing.changed]
        problems += [Problem("has changed since it was recorded", str(path), redo(path)) for path in changed]
        first = next(iter(listing.entries.values()), None)
        if first is not None:
            folders.append(EncodedFolder(there / name, first.kind, first.modality, listing.entries))
    return EncodedSet(there, tuple(folders), tuple(problems))
