"""An exporter on the command line."""

from __future__ import annotations

from ltxcore.config.plugin_option import plugin_of
from ltxcore.exporters import Exporter
from ltxcore.registry import Registry


def exporter_of(text: str, registry: Registry, option: str = "--for") -> Exporter:
    """Return the exporter that an option describes.

    Raises:
        ConfigError: there is no such exporter, or its keys are wrong.
        PluginError: the plugin that would add it is broken or switched off.
    """
    found = plugin_of("exporter", text, option, registry)
    return Exporter(found.name, found.value)
