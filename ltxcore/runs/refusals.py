"""What `ltx check` will refuse of a run file that was converted: told at once, and not only when the user comes to run it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs

from ltxcore.config.load import LoadedRun, Places
from ltxcore.config.locate import locate
from ltxcore.config.located import located
from ltxcore.config.structure import structure
from ltxcore.config.toml import parsed_toml
from ltxcore.errors import LtxError, Problem
from ltxcore.registry import load

ABSENT = re.compile("there is no (?:file or folder|file|folder) (.+)", re.DOTALL)
"""A message about a path that is not there."""


@attrs.frozen
class Refusals:
    """What will be refused.

    Attributes:
        anywhere: whatever the machine.
        here: because of what is not on this machine: paths, packages, devices; or of what is in the way here.
    """

    anywhere: tuple[Problem, ...]
    here: tuple[Problem, ...]


def refusals(text: str, path: Path) -> Refusals:
    """All that `ltx check` can find wrong with a run file without its data.

    Args:
        text: of the run file.
        path: where it is, or is going to be: relative paths in it begin there.
    """
    places = Places(path, locate(text))
    registry = load()
    config, mistakes = structure(parsed_toml(text, path), registry, path.absolute().parent)
    told = [Problem(each.what, places.of(each.path), each.remedy) for each in sorted(mistakes, key=lambda each: places.line(each.path))]
    absent = {problem: found[1] for problem in told if (found := ABSENT.fullmatch(problem.what))}
    anywhere = [problem for problem in told if problem not in absent]
    if config is None:
        return Refusals(tuple(anywhere), tuple(absent))
    loaded = LoadedRun(path, config, registry, places)
    always, now = ([problem for problem in _found(loaded, here) if not _is_of(problem, absent.values())] for here in (False, True))
    return Refusals((*anywhere, *always), (*absent, *(problem for problem in now if problem not in always)))


def _is_of(problem: Problem, absent: Iterable[str]) -> bool:
    """Whether a problem is that a path is not there, which is told already."""
    return any(path in problem.where or path in problem.what for path in absent)


def _found(loaded: LoadedRun, here: bool) -> Sequence[Problem]:
    from ltxcore.runs.run_plan import outline

    try:
        outline(loaded, 1, writes=here, here=here)
    except LtxError as error:
        return located(error, loaded).problems
    return ()
