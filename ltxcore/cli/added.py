"""Commands that plugins add to the program."""

from __future__ import annotations

import click

from ltxcore.errors import PluginError
from ltxcore.protocols import LazyCommand
from ltxcore.registry import Named, imported


def command_of(named: Named) -> click.Command:
    """Return the command of a plugin, importing it now if that was deferred.

    Raises:
        PluginError: the command cannot be imported, or is not a click command.
    """
    what = f'the command "{named.name}" of {named.origin}'
    found = named.value
    if isinstance(found, LazyCommand):
        found = imported(found.target, what)
    if not isinstance(found, click.Command):
        raise PluginError(f"{what} is not a click command")
    return found


def line_about(named: Named) -> str:
    """Return the line that describes a command in the program's help, without importing the command."""
    if isinstance(named.value, LazyCommand):
        return named.value.help
    return named.value.get_short_help_str() if isinstance(named.value, click.Command) else ""
