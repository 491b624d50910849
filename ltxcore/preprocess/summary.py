"""What preprocessing did: counts, what it refused and why, and what the user should know."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from ltxcore.errors import Problem


@attrs.frozen
class Counts:
    """Files of one folder: made now, and found as they should be."""

    done: int = 0
    reused: int = 0


@attrs.frozen
class Summary:
    """The outcome of `preprocess`.

    Attributes:
        root: where the samples are.
        folders: counts of each folder, in the order in which they are made; of this process alone.
        refused: samples left out, each with the reason; empty unless the user said skip.
        silent: samples without the sound that others have, each with the reason; all else is made of them. Empty unless the user said skip.
        pictureless: likewise, sounds among clips.
        samples: names of the dataset's samples that are whole: those that a run on this dataset trains on. With several processes, of those that
            are refused while they are encoded only this process's are left out.
        notes: what is no mistake but good to know.
    """

    root: Path
    folders: Mapping[str, Counts]
    refused: tuple[Problem, ...]
    silent: tuple[Problem, ...]
    samples: tuple[str, ...]
    notes: tuple[str, ...]
    pictureless: tuple[Problem, ...] = ()

    @property
    def is_partial(self) -> bool:
        """Whether rows were left out, wholly or in part."""
        return bool(self.refused or self.silent or self.pictureless)

    @property
    def done(self) -> int:
        """Files made, in all folders."""
        return sum(counts.done for counts in self.folders.values())

    @property
    def reused(self) -> int:
        """Files that were there and up to date, in all folders."""
        return sum(counts.reused for counts in self.folders.values())

    def __str__(self) -> str:
        width = max((len(folder) for folder in self.folders), default=0)
        lines = [f"{folder:<{width}}  {counts.done:>6} made  {counts.reused:>6} reused" for folder, counts in self.folders.items()]
        lines.append(f"{len(self.samples)} samples in {self.root}" + (f", {len(self.refused)} refused:" if self.refused else ""))
        lines += [f"  {problem}" for problem in self.refused]
        for problems, what in (
            (self.silent, "without sound, for runs of pictures"),
            (self.pictureless, "without pictures, for runs of sound"),
        ):
            if problems:
                lines.append(f"{len(problems)} more {what} alone:")
                lines += [f"  {problem.where}: {problem.what}" for problem in problems]
        return "\n".join([*lines, *self.notes])
