"""The findings of a checkup, with a record of what was examined."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import attrs

from ltxcore.api import Problem

Severity = Literal["error", "warning"]
"""The severity of a finding: an error would be refused by preprocessing or by a run, or would train on wrong numbers; a
warning works, but is probably not intended.
"""


Phase = Callable[[str, int], Callable[[], None]]
"""A function that starts a phase of the work with its name and number of steps, and returns a function to call after each step."""


@attrs.frozen
class Finding:
    """A single thing that is wrong: which check found it, how severe it is, where it is, what it is, and what to do about it."""

    check: str
    severity: Severity
    where: str
    what: str
    remedy: str


@attrs.define
class Checkup:
    """A checkup in progress.

    Attributes:
        findings: the findings so far, in the order of the checks.
        looked: sentences on what was examined, and what was not.
    """

    findings: list[Finding] = attrs.field(factory=list)
    looked: list[str] = attrs.field(factory=list)

    def refuse(self, check: str, problems: Iterable[Problem], severity: Severity = "error") -> None:
        """Note problems as the rest of the program words them; a problem that has been noted already is not noted again."""
        told = {(finding.where, finding.what) for finding in self.findings}
        new = [each for each in problems if (each.where, each.what) not in told]
        self.findings += [Finding(check, severity, each.where, each.what, each.remedy) for each in new]

    def add(self, findings: Iterable[Finding]) -> None:
        """Note findings."""
        self.findings += findings

    def say(self, sentence: str) -> None:
        """Say what was examined, or why it was not."""
        self.looked.append(sentence)

    def count(self, severity: Severity) -> int:
        """Return the number of findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)


def warning(check: str, where: str, what: str, remedy: str) -> Finding:
    """Return a finding about something that does not stop a run."""
    return Finding(check, "warning", where, what, remedy)


def errors(check: str, problems: Iterable[Problem]) -> list[Finding]:
    """Turn problems into findings."""
    return [Finding(check, "error", each.where, each.what, each.remedy) for each in problems]
