"""Print a checkup as text for people, or as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import attrs
from rich.console import Console
from rich.text import Text

from ltxplugins.tools.doctor.findings import Checkup, Finding, Severity

SHOWN = 5
"""The maximum number of findings that are listed for each check. Further findings are only counted."""

STYLES: dict[Severity, str] = {"error": "bold red", "warning": "bold yellow"}


def as_json(target: str, checkup: Checkup) -> dict[str, Any]:
    """Return the whole checkup as values for JSON."""
    return {
        "target": target,
        "errors": checkup.count("error"),
        "warnings": checkup.count("warning"),
        "findings": [attrs.asdict(finding) for finding in checkup.findings],
        "looked_at": checkup.looked,
    }


def show(checkup: Checkup, console: Console, *, all_of_them: bool) -> None:
    """Print the findings by severity and check, what was examined, and the number of findings."""
    for severity in STYLES:
        for check, found in _by_check(checkup.findings, severity).items():
            shown = found if all_of_them else found[:SHOWN]
            _line(console, Text.assemble((severity, STYLES[severity]), f" {check}", (f" ({len(found)})" if len(found) > 1 else "", "dim")))
            for line in _lines(shown):
                _line(console, line)
            if len(found) > len(shown):
                _line(console, Text(f"  and {len(found) - len(shown)} more like these (--all lists them)", style="dim"))
            _line(console, Text())
    _line(console, Text("Examined", style="bold"))
    for sentence in checkup.looked:
        _line(console, Text(f"  {sentence}"))
    _line(console, Text())
    _line(console, Text(counted(checkup), style=_worst(checkup)))


def counted(checkup: Checkup) -> str:
    """Return the number of findings, in words."""
    counts = [(checkup.count("error"), "error"), (checkup.count("warning"), "warning")]
    told = [f"{number} {noun}{'' if number == 1 else 's'}" for number, noun in counts if number]
    return ", ".join(told) or "Nothing is wrong."


def _worst(checkup: Checkup) -> str:
    return next((style for severity, style in STYLES.items() if checkup.count(severity)), "bold green")


def _by_check(findings: Sequence[Finding], severity: Severity) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.severity == severity:
            found.setdefault(finding.check, []).append(finding)
    return found


def _lines(findings: Sequence[Finding]) -> Iterator[Text]:
    """Yield each finding, but the remedy only once for consecutive findings with the same remedy."""
    for remedy, group in groupby(findings, key=lambda finding: finding.remedy):
        for finding in group:
            yield Text.assemble(f"  {finding.where}: " if finding.where else "  ", finding.what)
        if remedy:
            yield Text(f"    {remedy}", style="dim")


def _line(console: Console, text: Text) -> None:
    # Not wrapped, so that paths stay whole and can be searched for.
    console.print(text, soft_wrap=True)
