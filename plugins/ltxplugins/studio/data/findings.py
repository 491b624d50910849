"""What `ltx doctor` finds, as a job that outlives the page, beside the clips that it concerns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import attrs

from ltxplugins.studio.data.listing import Clip, Listing
from ltxplugins.studio.jobs import Job, Jobs

KIND = "doctor"
OF_CAPTIONS = ("empty-caption", "duplicate-caption", "long-caption")
"""The findings that a change of the caption remedies."""
LEAVE_OUT = ("leave the row out", "leave it out", "Keep one of the rows", "or it counts twice")
"""The words of remedies that excluding the clip fulfils."""


@attrs.frozen
class Finding:
    """A finding of `ltx doctor`."""

    check: str
    severity: str
    where: str
    what: str
    remedy: str

    @property
    def edits(self) -> bool:
        """Whether another caption remedies it."""
        return self.check in OF_CAPTIONS

    @property
    def excludes(self) -> bool:
        """Whether excluding the clip remedies it, by the words of its remedy."""
        return any(words in self.remedy for words in LEAVE_OUT)


@attrs.frozen
class Report:
    """What `ltx doctor` found out about a dataset.

    Attributes:
        findings: the findings: errors and warnings.
        looked_at: sentences that say what was examined, and what the doctor noticed about it.
    """

    findings: tuple[Finding, ...]
    looked_at: tuple[str, ...]

    def count(self, severity: str) -> int:
        """Return the number of findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)


class Findings:
    """The findings of the doctor about datasets, of which the last are kept."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._read: tuple[str, Report | None] = ("", None)

    def start(self, listing: Listing, name: str, buckets: str) -> Job:
        """Add the job that examines a dataset.

        Args:
            listing: the list of the dataset.
            name: the path of the dataset, by which the job is found again.
            buckets: the buckets that clips are fitted to; "" if none are named.
        """
        options = ["--resolution-buckets", buckets] if buckets else []
        arguments = ["doctor", str(listing.dataset.path), "--json", "--no-progress", *options]
        return self._jobs.add(KIND, f"Examine {name}", arguments, {"data": name}, uses_gpu=False)

    def job(self, name: str) -> Job | None:
        """Return the last job that examined a dataset; None if there is none."""
        return next((job for job in reversed(self._jobs.all()) if job.kind == KIND and job.about.get("data") == name), None)

    def of(self, job: Job | None) -> Report | None:
        """Return the findings of a job; None if it has not ended, or has failed."""
        if job is None or job.state not in ("done", "failed"):
            return None
        if self._read[0] != job.id:
            self._read = (job.id, _report(job))
        return self._read[1]

    def about(self, name: str) -> tuple[Finding, ...]:
        """Return what the last job found wrong with a dataset; () if it has not ended, or there is none."""
        report = self.of(self.job(name))
        return () if report is None else report.findings


def by_clip(listing: Listing, findings: Sequence[Finding]) -> tuple[dict[int, list[Finding]], list[Finding]]:
    """Return the findings of each clip, by the index of its row, and the findings that concern no single clip."""
    if not findings:
        return {}, []
    places: dict[str, Clip] = {}
    for clip in listing.clips:
        for place in (
            clip.where,
            *map(str, clip.media.values()),
            str(listing.dataset.folder / listing.dataset.rows[clip.index].caption_file),
        ):
            places.setdefault(place, clip)
    of: dict[int, list[Finding]] = {}
    others = []
    for finding in findings:
        found = places.get(finding.where) or places.get(finding.where.partition(": ")[0]) or places.get(finding.where.rpartition(": ")[2])
        if found is None:
            others.append(finding)
        else:
            of.setdefault(found.index, []).append(finding)
    return of, others


def _report(job: Job) -> Report | None:
    """Return the report at the end of what a job printed; None if there is no report."""
    try:
        text = job.log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    start = 0 if text.startswith("{\n") else text.find("\n{\n") + 1
    try:
        told: dict[str, Any] = json.JSONDecoder().raw_decode(text, start)[0]
        return Report(tuple(Finding(**each) for each in told["findings"]), tuple(map(str, told["looked_at"])))
    except (ValueError, KeyError, TypeError):
        return None
