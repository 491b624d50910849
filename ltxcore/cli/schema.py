"""`ltx schema`, which prints the JSON Schema of run files for editors."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ltxcore.api.commands import FilePath
from ltxcore.errors import PluginError, Problem


@click.command()
@click.option(
    "--plugin",
    "files",
    multiple=True,
    type=FilePath(exists=True, dir_okay=False),
    help="A local plugin file to include; may be repeated.",
)
def schema(files: tuple[Path, ...]) -> None:
    """Print the JSON Schema of run files, with the keys of all installed plugins."""
    from ltxcore.config.jsonschema import json_schema
    from ltxcore.registry import load

    registry = load(local=[file.absolute() for file in files])
    reasons = {broken.origin.plugin: broken.reason for broken in registry.broken}
    problems = [
        Problem(f"this plugin is broken: {reasons[name]}", name, "Fix it.")
        for name in map(str, map(Path.absolute, files))
        if name in reasons
    ]
    if problems:
        raise PluginError.of(problems)
    try:
        click.echo(json.dumps(json_schema(registry), indent=2))
    except ValueError as error:  # a number with thousands of digits, which Python does not write
        raise PluginError("a plugin has a default that JSON does not hold", remedy="See its numbers, and write smaller ones.") from error
