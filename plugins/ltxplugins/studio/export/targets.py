"""The programs that LoRAs can be exported for, as their plugins describe them."""

from __future__ import annotations

import inspect
import json
from typing import Any

import attrs

from ltxcore.api import ConfigError
from ltxcore.api.commands import find_plugin
from ltxplugins.studio.programs import answer
from ltxplugins.studio.studio import Studio

DTYPES = ("bfloat16", "float16", "float32")


@attrs.frozen
class Target:
    """A program that LoRAs can be exported for.

    Attributes:
        name: the name of the exporter.
        origin: the plugin that the exporter comes from.
        about: the first paragraph of the plugin's description of the exporter.
        use: how to use the exported file, in which FILE stands for it.
        keys: the exporter's keys, each with its help.
        adapters: the types of adapters that it takes.
        needs_base: the types whose export needs the base model.
        loads_saved: the types whose files the program loads as a run saves them, without an export.
    """

    name: str
    origin: str
    about: str
    use: str
    keys: tuple[tuple[str, str], ...]
    adapters: frozenset[str]
    needs_base: frozenset[str]
    loads_saved: frozenset[str]

    @classmethod
    def of(cls, name: str, origin: str, exporter: Any) -> Target:
        """Describe an exporter's class."""
        keys = tuple((field.alias or field.name, str(field.metadata.get("help", ""))) for field in attrs.fields(exporter) if field.init)
        about = (inspect.getdoc(exporter) or "").partition("\n\n")[0].replace("\n", " ")
        needs, saved = (frozenset(getattr(exporter, name, ())) for name in ("needs_base", "loads_saved"))
        return cls(name, origin, about, str(exporter.use), keys, frozenset(exporter.adapters), needs, saved)


def targets(studio: Studio) -> list[Target]:
    """Return every installed exporter.

    Raises:
        ConfigError: `ltx plugins list` fails.
    """
    told = answer(studio, ["plugins", "list", "--kind", "exporter", "--json"])
    if told.status:
        raise ConfigError("`ltx plugins list` fails", where="ltx", remedy=told.errors.strip() or "Run it in a terminal.")
    names = [str(each["name"]) for each in json.loads(told.text)["plugins"]]
    found = ((name, find_plugin("exporter", name)) for name in names)
    return [Target.of(name, str(named.origin), named.value) for name, named in found]
