"""The problems that `ltx check` would report for a converted run file, so that the conversion can report them at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs

from ltxcore.config.load import LoadedRun, Places, located
from ltxcore.config.locate import locate
from ltxcore.config.structure import structure
from ltxcore.config.toml import parsed_toml
from ltxcore.errors import ConfigError, Problem, collecting
from ltxcore.registry import load


@attrs.frozen
class Refusals:
    """The problems that `ltx check` would report.

    Attributes:
        anywhere: the problems on any machine.
        here: the problems on this machine only: missing paths, packages or devices, or files in the way.
    """

    anywhere: tuple[Problem, ...]
    here: tuple[Problem, ...]


def refusals(text: str, path: Path) -> Refusals:
    """Find every problem that `ltx check` can find in a run file without its data.

    Args:
        text: the text of the run file.
        path: the present or future path of the run file; relative paths in the text start from the folder of that path.
    """
    places, data, registry, folder = Places(path, locate(text)), parsed_toml(text, path), load(), path.absolute().parent
    config, mistakes = structure(data, registry, folder, in_parts=True)
    there, _ = structure(data, registry, folder, data.keys() - {"model"}, in_parts=True)  # all is in order but the model, which is not here
    told = {
        each: Problem(each.what, places.of(each.path), each.remedy) for each in sorted(mistakes, key=lambda each: places.line(each.path))
    }
    anywhere, here = ([problem for each, problem in told.items() if each.absent == absent] for absent in (False, True))
    if config is None or there is None:
        return Refusals(tuple(anywhere), tuple(here))
    always = _found(LoadedRun(path, there, registry, places), here=False)
    now = _found(LoadedRun(path, config, registry, places), here=True)
    return Refusals((*anywhere, *always), (*here, *(problem for problem in now if problem not in always)))


def _found(loaded: LoadedRun, here: bool) -> Sequence[Problem]:
    from ltxcore.runs.run_plan import draft

    problems: list[Problem] = []
    with collecting(problems):
        problems.extend(draft(loaded, 1, writes=here, here=here).problems)
    return located(ConfigError.of(problems), loaded).problems if problems else ()
