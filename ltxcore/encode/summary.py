"""What preprocessing did: counts, what it refused and why, and what the user should know."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from ltxcore.encode.outdated import told_by_reason
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
        own_notes: of these, what this process alone knows.
        failed: of `refused`, the samples that this process could not encode; what is wrong with the others all processes know.
        anew: samples encoded anew since something was set right in reading their files, with what; of this process alone.
        set_right: for a run that keeps what it began with: samples that were encoded since something was set right; of all processes.
        without: samples that stay as they lie there although something was set right since, with what; of all processes.
    """

    root: Path
    folders: Mapping[str, Counts]
    refused: tuple[Problem, ...]
    silent: tuple[Problem, ...]
    samples: tuple[str, ...]
    notes: tuple[str, ...]
    pictureless: tuple[Problem, ...] = ()
    own_notes: tuple[str, ...] = ()
    failed: tuple[Problem, ...] = ()
    anew: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)
    set_right: frozenset[str] = frozenset()
    without: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict)

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
        lines = self._counts()
        lines.append(f"{len(self.samples)} samples in {self.root}" + (f", {len(self.refused)} refused:" if self.refused else ""))
        lines += [f"  {problem}" for problem in self.refused]
        for problems, what in (
            (self.silent, "without sound, for runs of pictures"),
            (self.pictureless, "without pictures, for runs of sound"),
        ):
            if problems:
                lines.append(f"{len(problems)} more {what} alone:")
                lines += [f"  {problem.where}: {problem.what}" for problem in problems]
        return "\n".join([*lines, *self._remarks()])

    def of_share(self) -> str:
        """What one of several processes has to say beside the first: what it did, and what only it knows."""
        refused = [f"{len(self.failed)} refused:", *(f"  {problem}" for problem in self.failed)] if self.failed else []
        return "\n".join([*self._counts(), *refused, *self.own_notes, *told_anew(self.anew)])

    def _counts(self) -> list[str]:
        width = max((len(folder) for folder in self.folders), default=0)
        return [f"{folder:<{width}}  {counts.done:>6} made  {counts.reused:>6} reused" for folder, counts in self.folders.items()]

    def brief(self) -> str:
        """How much was done, and what the user should know, where nothing was refused."""
        return "\n".join([f"{len(self.samples)} samples in {self.root}, {self.done} files encoded now", *self._remarks()])

    def _remarks(self) -> list[str]:
        return [*self.notes, *told_anew(self.anew), *told_without(self.without)]


def told_anew(samples: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Samples that were encoded anew since something was set right in reading their files: a line a reason."""
    return [f"{_samples(count)} encoded anew, since {reason} now: {names}" for count, reason, names in told_by_reason(samples)]


def told_without(samples: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Samples that stay as they are although something was set right in reading their files: a line a reason."""
    return [
        f"{_samples(count)} as this run began with, though {reason} now: {names}; `ltx preprocess`, or --allow-changes, encodes anew"
        for count, reason, names in told_by_reason(samples)
    ]


def _samples(count: int) -> str:
    return f"{count} sample{'' if count == 1 else 's'}"
