"""Write a run file as TOML, with every value spelled out, so that the file describes the run completely."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ltxcore.config.run_file import RunFile
from ltxcore.config.sample_tables import written
from ltxcore.config.tables import plain
from ltxcore.redact import without_secrets

ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}
WIDTH = 100


def render(run: RunFile) -> str:
    """Return the run file as TOML, without passwords and access keys, since the text is kept in the output folder."""
    tables = plain(run)
    tables["training_strategy"] = {"name": run.strategy_name, **tables["training_strategy"]}
    for table, sample in zip(tables["validation"]["samples"], run.validation.samples, strict=True):
        table["conditions"] = [*map(_freeze, sample.frozen), *map(written, sample.conditions)]
    if not run.objectives:  # so that a run that names none is written as before there were any
        del tables["objectives"]
    if not run.data.sets:
        del tables["data"]["sets"]
    return document(without_secrets(tables))


def document(tables: Mapping[str, Any]) -> str:
    """Return nested mappings as a TOML document."""
    return "\n".join(_table((), tables)).strip() + "\n"


def _table(path: tuple[str, ...], table: Mapping[str, Any], brackets: tuple[str, str] = ("[", "]")) -> list[str]:
    inner = {name: value for name, value in table.items() if isinstance(value, Mapping) or _is_tables(value)}
    lines = [f"{_key(name)} = {value_text(value)}" for name, value in table.items() if name not in inner]
    if path and (lines or not inner or brackets[0] == "[["):
        lines = ["", f"{brackets[0]}{'.'.join(map(_key, path))}{brackets[1]}", *lines]
    for name, value in inner.items():
        if isinstance(value, Mapping):
            lines += _table((*path, name), value)
        else:
            for element in value:
                lines += _table((*path, name), element, ("[[", "]]"))
    return lines


def _is_tables(value: Any) -> bool:
    """Return whether a list is written as an array of tables, because its tables hold further lists of tables."""
    return isinstance(value, list) and all(isinstance(element, Mapping) for element in value) and any(map(_is_deep, value))


def _is_deep(table: Mapping[str, Any]) -> bool:
    return any(isinstance(inner, list) and any(isinstance(element, Mapping) for element in inner) for inner in table.values())


def _key(name: str) -> str:
    bare = name.isascii() and name.replace("_", "a").replace("-", "a").isalnum()
    return name if bare else _text(name)


def value_text(value: Any) -> str:
    """Return a value in TOML notation."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{_key(name)} = {value_text(inner)}" for name, inner in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list):
        return _list([value_text(inner) for inner in value])
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _list(values: list[str]) -> str:
    line = f"[{', '.join(values)}]"
    if len(line) <= WIDTH or not values:
        return line
    return "[\n" + "".join(f"  {value},\n" for value in values) + "]"


def _float(value: float) -> str:
    if math.isnan(value) or math.isinf(value):
        return repr(value)
    text = repr(value)
    return text if "." in text or "e" in text else f"{text}.0"


def _text(text: str) -> str:
    return '"' + "".join(ESCAPES.get(c, c if ord(c) >= 0x20 and ord(c) != 0x7F else f"\\u{ord(c):04X}") for c in text) + '"'


def _freeze(freeze: Any) -> dict[str, Any]:
    return {"type": freeze.type, freeze.modality: str(freeze.medium)}
