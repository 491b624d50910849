"""The groups in `[lora]` and `[optimization]`, and the modules that they name; a module belongs to the first group that names it."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Sequence

from ltxcore.adapters import AdapterSettings
from ltxcore.config.groups import Group, LoraGroup, in_blocks, names_of, ranges
from ltxcore.errors import ConfigError, Problem, did_you_mean, listed
from ltxcore.models.parameter_names import block_of, stream_of, to_original, within_block

SHOWN = 12
"""The most modules that a message lists as possible targets of a group."""


def names(pattern: str, path: str) -> bool:
    """Return whether consecutive parts of a path, divided by dots, match a pattern, in which `*` and `?` stand for text within a part.

    The pattern may use the names of checkpoints or of diffusers.
    """
    search = _compiled(pattern).search
    return search(path) is not None or search(to_original(path)) is not None


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    inside = re.escape(pattern).replace(r"\*", "[^.]*").replace(r"\?", "[^.]")
    return re.compile(rf"(?:^|\.){inside}(?=\.|$)")


def has(group: Group, path: str) -> bool:
    """Return whether a group names the module or parameter at this path in the transformer."""
    return (
        (group.modality is None or stream_of(path) == group.modality)
        and (group.blocks is None or in_blocks(group.blocks, block_of(path)))
        and (group.modules is None or any(names(pattern, path) for pattern in group.modules))
    )


def group_of(groups: Sequence[Group], path: str) -> int | None:
    """Return the index of the first group that names a path; None if no group does."""
    return next((index for index, group in enumerate(groups) if has(group, path)), None)


def settings_of(paths: Iterable[str], default: AdapterSettings, groups: Sequence[LoraGroup]) -> dict[str, AdapterSettings]:
    """Return the settings of each module's adapter.

    Args:
        paths: the modules that are adapted, as paths in the transformer.
        default: the settings for modules that no group names.
        groups: the groups of `[lora]`.
    """
    own = [_settings(default, group) for group in groups]
    indices = ((path, group_of(groups, path)) for path in paths)
    return {path: default if index is None else own[index] for path, index in indices}


def _settings(default: AdapterSettings, group: LoraGroup) -> AdapterSettings:
    rank = default.rank if group.rank is None else group.rank
    kept = None if default.alpha is None else default.alpha * rank / default.rank
    alpha = kept if group.alpha is None else group.alpha
    return AdapterSettings(rank, alpha, default.dropout if group.dropout is None else group.dropout)


def check_groups(groups: Sequence[Group], paths: Sequence[str], where: str, blocks: int) -> None:
    """Refuse groups that name nothing that is trained, or only what earlier groups name.

    Args:
        groups: the groups.
        paths: the modules or parameters that are trained, as paths in the transformer.
        where: the key of the groups.
        blocks: the number of blocks of the model.

    Raises:
        ConfigError: groups are at fault; the error names all of them.
    """
    problems = [problem for index, group in enumerate(groups) for problem in _problems(group, paths, f"{where}.{index}", blocks)]
    wrong = {problem.where.removeprefix(f"{where}.").partition(".")[0] for problem in problems}
    taken = {group_of(groups, path) for path in paths}
    for index, name in enumerate(names_of(groups)):
        if index not in taken and str(index) not in wrong:
            what = f'earlier groups name everything that the group "{name}" names, and a module belongs to the first group that names it'
            problems.append(Problem(what, f"{where}.{index}", "Move this group before them, or remove it."))
    if problems:
        raise ConfigError.of(problems)


def _problems(group: Group, paths: Sequence[str], where: str, blocks: int) -> Iterator[Problem]:
    before = 0
    for index, pattern in enumerate(group.modules or ()):
        if not any(names(pattern, path) for path in paths):
            before += 1
            yield Problem(f'"{pattern}" names nothing that is trained', f"{where}.modules.{index}", _hint(pattern, paths))
    outside = [first for first, last in ranges(group.blocks or "0") if max(first, last or 0) >= blocks]
    if outside:
        before += 1
        yield Problem(f"the model has {blocks} blocks, 0 to {blocks - 1}", f"{where}.blocks", "Name others.")
    if not before and not any(has(group, path) for path in paths):
        yield Problem(
            "the modules, blocks and modality of this group together name nothing that is trained",
            where,
            _choices(paths, group.modules or ()),
        )


def _hint(pattern: str, paths: Sequence[str]) -> str:
    parts = {
        ".".join(segments[start:end])
        for path in {within_block(path) for path in paths}
        for segments in (path.split("."), to_original(path).split("."))
        for start in range(len(segments))
        for end in range(start + 1, len(segments) + 1)
    }
    return did_you_mean(pattern, parts) or _choices(paths)


def _choices(paths: Sequence[str], patterns: Sequence[str] = ()) -> str:
    """Return a sentence that lists the modules that are trained or, if there are `patterns`, only those that match, each with its blocks
    and its modality.
    """
    if not patterns:
        return f"These are trained: {listed(sorted({within_block(path) for path in paths}), SHOWN)}."
    kinds: dict[tuple[str, str], list[int]] = {}
    for path in paths:
        if any(names(pattern, path) for pattern in patterns):
            number = block_of(path)
            kinds.setdefault((within_block(path), stream_of(path)), []).extend([] if number is None else [number])
    shown = (
        f"{name} ({stream}{f', blocks {min(numbers)} to {max(numbers)}' if numbers else ', in no block'})"
        for (name, stream), numbers in sorted(kinds.items())
    )
    return f"These are trained: {listed(shown, SHOWN)}."
