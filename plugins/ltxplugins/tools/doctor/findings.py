"""Collect the findings of a checkup, and record what was examined."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import attrs

from ltxcore.api import Problem
from ltxcore.api.commands import redacted

Severity = Literal["error", "warning"]
"""The severity of a finding. An error means that preprocessing or a run would refuse the data or train on wrong
numbers. A warning means that the data works but is probably not what the user wants.
"""


Phase = Callable[[str, int], Callable[[], None]]
"""A function that starts a phase of the work, given its name and number of steps, and returns a function to call after
each step.
"""


@attrs.frozen
class Finding:
    """A fault in the data: the check that found it, its severity, its place, what is wrong, and what to do about it."""

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
        looked: sentences that say what was examined and what was not.
    """

    findings: list[Finding] = attrs.field(factory=list)
    looked: list[str] = attrs.field(factory=list)

    def refuse(self, check: str, problems: Iterable[Problem], severity: Severity = "error") -> None:
        """Add problems that other parts of the program found, in their words. A problem that is already among the
        findings is not added again.
        """
        told = {(finding.where, finding.what) for finding in self.findings}
        new = [each for each in problems if (each.where, each.what) not in told]
        self.findings += [Finding(check, severity, each.where, each.what, each.remedy) for each in new]

    def add(self, findings: Iterable[Finding]) -> None:
        """Add findings."""
        self.findings += findings

    def say(self, sentence: str) -> None:
        """Record what was examined, or why something was not examined."""
        self.looked.append(redacted(sentence))

    def count(self, severity: Severity) -> int:
        """Return the number of findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)


def warning(check: str, where: str, what: str, remedy: str) -> Finding:
    """Return a finding that does not stop a run."""
    return Finding(check, "warning", where, what, remedy)


def errors(check: str, problems: Iterable[Problem]) -> list[Finding]:
    """Turn problems into findings with the severity "error"."""
    return [Finding(check, "error", each.where, each.what, each.remedy) for each in problems]
