"""The mistakes in the text of a run file, each with its line and its key."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Literal

import attrs

from ltxcore.api import ConfigError, Problem
from ltxcore.api.config import refusals

Kind = Literal["wrong", "here", "unread"]


@attrs.frozen
class Fault:
    """A mistake in a run file, with its place.

    Attributes:
        line: the number of the line, from 1; 0 if the mistake has no line.
        key: the path of the key in the form of messages, such as "lora.rank" or "validation.samples[0].prompt"; "" if the mistake is in no key.
        what: what is wrong.
        remedy: what to do about it.
        kind: "wrong" for a mistake on any machine, "here" for what this machine lacks, "unread" for what was not checked.
    """

    line: int
    key: str
    what: str
    remedy: str
    kind: Kind


def faults_of(text: str, path: Path) -> list[Fault]:
    """Find what `ltx check` would refuse in a text without its data, by line. No Python file and no package that the text names is run.

    Args:
        text: the text of a run file.
        path: the present or future path of the file.
    """
    try:
        found = refusals(text, path, imports=False)
    except ConfigError as error:  # not TOML
        return [located(problem, path, "wrong") for problem in error.problems]
    kinds: list[tuple[tuple[Problem, ...], Kind]] = [(found.anywhere, "wrong"), (found.here, "here"), (found.unread, "unread")]
    faults = [located(problem, path, kind) for problems, kind in kinds for problem in problems]
    return sorted(set(faults), key=lambda fault: (fault.line, fault.key, fault.what))


def said_faults(said: str, name: str) -> list[Fault]:
    """Return the mistakes that a command of ltx printed about a run file; lines about other things are left out.

    Args:
        said: the text that the command printed on the error stream.
        name: the name of the run file in this text.
    """
    lines = said.splitlines()
    found: list[Fault] = []
    for at, line in enumerate(lines):
        if line[:1].isspace() or not line:
            continue
        place = re.match(rf"{re.escape(name)}(?::(\d+))?: (?:([\w.\[\]-]+): )?(.*)", line)
        remedy = " ".join(each.strip() for each in itertools.takewhile(lambda each: each.startswith("    "), lines[at + 1 :]))
        if place:
            found.append(Fault(int(place[1] or 0), place[2] or "", place[3], remedy, "wrong"))
        elif remedy:  # a mistake in a file of the data
            found.append(Fault(0, "", line, remedy, "wrong"))
    return found


def located(problem: Problem, path: Path, kind: Kind) -> Fault:
    """Return a mistake with the line and the key that its place names."""
    place = re.fullmatch(rf"{re.escape(str(path))}(?::(\d+))?(?:: (.*))?", problem.where, re.DOTALL)
    if place is None:
        what = f"{problem.where}: {problem.what}" if problem.where else problem.what
        return Fault(0, "", what, problem.remedy, kind)
    return Fault(int(place[1] or 0), place[2] or "", problem.what, problem.remedy, kind)
