"""What a job or a run says to the user in words: how it ended and why, how long it will take."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence

import attrs

from ltxcore.api.runs import Record, Series
from ltxplugins.studio.jobs import Job, State, read_json

LAST_STEPS = 50
"""The number of latest steps from which the time for the rest is estimated."""

TRACEBACK = "Traceback (most recent call last):"
ENDED = re.compile(r"^(\w+\.)*\w*(Error|Exception|Interrupt|Exit)\b.*")


@attrs.frozen
class End:
    """How a job ended: a heading, the lines of its error, and what to do."""

    what: str
    lines: tuple[str, ...] = ()
    remedy: str = ""


def end_of(job: Job, state: State) -> End | None:
    """Return how a job ended, if it did not end well; None if it did, or has not ended."""
    if state == "lost":
        return End(
            "Its process is gone without a word: it was killed, or the machine was switched off.",
            remedy="What was saved before is intact. Resume it, or add it again, and it goes on from there.",
        )
    if state != "failed":
        return None
    status = read_json(job.folder / "end.json").get("status", 1)
    if status == -9:  # `ltx launch` itself tells which of its processes was killed
        return End(
            "Its process was killed, as the system does when the machine's memory runs out.",
            remedy="What was saved before is intact. Use less memory (`ltx plan` says what it needs), and start it again.",
        )
    lines = error_in(job.tail().splitlines())
    if not lines:
        return End(f"It ended with exit status {status} without a message.", remedy="The log may tell more.")
    return End("It failed:", lines)


def error_in(log: Sequence[str]) -> tuple[str, ...]:
    """Return the lines of a log that say why a command failed: the problems that it printed last, or the end of a traceback."""
    lines = [line.rstrip() for line in log]
    while lines and not lines[-1]:
        lines.pop()
    traced = [index for index, line in enumerate(lines) if line == TRACEBACK]
    if traced:
        error = next((index for index in range(len(lines) - 1, traced[-1], -1) if ENDED.match(lines[index])), len(lines) - 1)
        return tuple(lines[error : error + 12])
    first = len(lines) - 1
    while first > 0 and (lines[first].startswith((" ", "\t")) or lines[first - 1].startswith((" ", "\t"))):
        first -= 1  # a problem with its remedy indented below it, and those before it
    return tuple(lines[max(first, len(lines) - 12) :])


def seconds_left(record: Record) -> float | None:
    """Return how long the steps that are left take at the pace of the last ones; None if that is not known."""
    paces = record.series.get("step_seconds", Series()).values[-LAST_STEPS:]
    done = record.series.get("loss", Series()).steps
    if not paces or not record.total_steps:
        return None
    return statistics.median(paces) * max(0, record.total_steps - (done[-1] if done else 0))


def duration(seconds: float) -> str:
    """Write a duration in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min"
