"""`ltx schema`, which prints the JSON Schema of run files for editors."""

from __future__ import annotations

import json
from pathlib import Path

import click

from ltxcore.api.commands import plugin_option
from ltxcore.errors import PluginError


@click.command()
@plugin_option("plugins")
def schema(plugins: tuple[Path, ...]) -> None:
    """Print the JSON Schema of run files, with the keys of all installed plugins."""
    from ltxcore.config.jsonschema import json_schema
    from ltxcore.registry import load_with

    registry = load_with(plugins)
    try:
        click.echo(json.dumps(json_schema(registry), indent=2))
    except ValueError as error:  # a number with thousands of digits, which Python does not write
        raise PluginError(
            "a plugin has a default with too many digits for JSON", remedy="Use smaller numbers as the defaults of the plugin's keys."
        ) from error
