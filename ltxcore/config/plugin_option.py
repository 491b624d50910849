"""A plugin on the command line, as `NAME` or with its keys: `NAME,key=value,key=value`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs

from ltxcore.config.prompts import pairs_of
from ltxcore.config.reading import Unreadable, spelled
from ltxcore.config.structure import structurer_of
from ltxcore.config.structurer import Structurer
from ltxcore.declarations import spoken
from ltxcore.errors import ConfigError, Problem
from ltxcore.registry import Named, Registry


def read_option(
    text: str, option: str, registry: Registry, read: Callable[[Structurer, str, dict[str, Any]], Any]
) -> tuple[str, Any, list[Problem]]:
    """Return the name in an option's text, the object that `read` makes of the text, and every mistake in the text; the object is None if
    there are mistakes.

    Args:
        text: the option's text.
        option: the option, for messages.
        registry: the registry in which the name is looked up.
        read: a function that makes an object of a name and its keys, and notes what is wrong with them.

    Raises:
        ConfigError: the text is not a name with keys.
    """
    name, _, keys = text.partition(",")
    where = f"{option} {text}"
    try:
        params = pairs_of(keys) if keys else {}
    except ValueError as error:
        raise ConfigError(str(error), where=where, remedy=f"Write it as {option} NAME,key=value.") from error
    structurer = structurer_of(registry, Path.cwd(), start="the working directory")
    made = None
    with suppress(Unreadable):
        made = read(structurer, name, params)
    problems = [
        Problem(mistake.what, f"{where}: {spelled(mistake.path[1:])}" if mistake.path[1:] else where, mistake.remedy)
        for mistake in structurer.reading.mistakes
    ]
    return name, None if problems else made, problems


def plugin_of(kind: str, text: str, option: str, registry: Registry) -> Named:
    """Return what is registered under the name in an option's text: an object with the text's keys if a class is registered, or else what is
    registered itself, which has no keys.

    Raises:
        ConfigError: nothing of this kind is registered under the name, or its keys are wrong.
        PluginError: the plugin that would add it is broken or switched off.
    """

    def read(structurer: Structurer, name: str, params: dict[str, Any]) -> Any:
        value = registry.get(kind, name, where=option).value
        with structurer.reading.at(name):  # messages leave out the first part of a mistake's path
            if inspect.isclass(value):
                return structurer.table(params, value)
            if params:
                structurer.reading.refuse(f'the {spoken(kind)} "{name}" has no keys', "Leave them out.")
            return value

    name, made, problems = read_option(text, option, registry, read)
    if problems:
        raise ConfigError.of(problems)
    return attrs.evolve(registry.get(kind, name), value=made)
