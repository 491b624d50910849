"""The problems that `ltx check` would report for the text of a run file that is not yet a file: one that is converted or being typed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs

from ltxcore.config.load import LoadedRun, Places, located, plugin_files
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
        unread: names that were not checked, because only code that was not run can define them.
    """

    anywhere: tuple[Problem, ...]
    here: tuple[Problem, ...]
    unread: tuple[Problem, ...] = ()


def refusals(text: str, path: Path, *, imports: bool = True) -> Refusals:
    """Find every problem that `ltx check` can find in a run file without its data. The Python files in `plugins` are not run.

    Args:
        text: the text of the run file.
        path: the present or future path of the run file; relative paths in the text start from the folder of that path.
        imports: whether the text may have an installed package imported, as the class of an optimizer; if not, names that such a package or
            a file in `plugins` may define are not checked.

    Raises:
        ConfigError: the text is not TOML.
    """
    places, data, folder = Places(path, locate(text)), parsed_toml(text, path), path.absolute().parent
    registry = load()
    if not imports:
        registry = attrs.evolve(registry, unread=tuple(plugin_files(data, folder)[0].values()), imports=False)
    config, mistakes = structure(data, registry, folder, in_parts=True)
    there, _ = structure(data, registry, folder, data.keys() - {"model"}, in_parts=True)  # all is in order but the model, which is not here
    told = {
        each: Problem(each.what, places.of(each.path), each.remedy) for each in sorted(mistakes, key=lambda each: places.line(each.path))
    }
    unread = tuple(problem for each, problem in told.items() if each.unread)
    anywhere, here = ([problem for each, problem in told.items() if each.absent == absent and not each.unread] for absent in (False, True))
    if config is None or there is None:
        return Refusals(tuple(anywhere), tuple(here), unread)
    always = _found(LoadedRun(path, there, registry, places), here=False)
    now = _found(LoadedRun(path, config, registry, places), here=True)
    return Refusals((*anywhere, *always), (*here, *(problem for problem in now if problem not in always)), unread)


def _found(loaded: LoadedRun, here: bool) -> Sequence[Problem]:
    from ltxcore.runs.run_plan import draft

    problems: list[Problem] = []
    with collecting(problems):
        problems.extend(draft(loaded, 1, writes=here, here=here).problems)
    return located(ConfigError.of(problems), loaded).problems if problems else ()
