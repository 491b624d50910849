"""The values of `--set a.b=c` on the command line, which override those of the run file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import tomli

from ltxcore.config.reading import KeyPath, spelled
from ltxcore.config.scalars import described
from ltxcore.config.toml import DEEP, DEEPEST, document_of, excesses
from ltxcore.errors import ConfigError, Problem

MOST_DIGITS = 9
"""The maximum number of digits in the index of a list entry; no list is long enough to need more."""

PART = re.compile(r'"(?P<quoted>[^"]*)"|(?P<bare>[A-Za-z0-9_-]+)|\[(?P<index>\d+)\]')


def apply_settings(data: dict[str, Any], settings: Sequence[str]) -> list[KeyPath]:
    """Write the settings into the document in order, and return the key paths that were set.

    Values are read as TOML; a value that is not TOML is taken as plain text. A number in a key is the index of a list entry:
    `conditions.0.probability=0.5`.

    Raises:
        ConfigError: some settings cannot be written; the error lists all of them.
    """
    problems, paths = [], []
    for setting in settings:
        try:
            path = _path(setting)
            _write(data, path, _value(setting))
            paths.append(_indexed(data, path))
        except ValueError as error:
            problems.append(
                Problem(
                    str(error), f"--set {setting}", 'Write --set key=value, such as --set optimization.steps=100 or --set output_dir="out".'
                )
            )
    if problems:
        raise ConfigError.of(problems)
    return paths


def _path(setting: str) -> list[str]:
    path = parse_key(setting.partition("=")[0].strip())
    if len(path) > DEEPEST:
        raise ValueError(DEEP)
    return path


def parse_key(key: str) -> list[str]:
    """Return the parts of a key path, `a.b.0.c` or `a.b[0].c`, with indices as text.

    Raises:
        ValueError: the text is not a key path.
    """
    parts: list[str] = []
    at = 0
    while at < len(key):
        if parts and key[at] == ".":
            at += 1
        found = PART.match(key, at)
        if found is None:
            break
        parts.append(next(part for part in found.groups() if part is not None))
        at = found.end()
    if not parts or at < len(key) or key.endswith("."):
        raise ValueError(f'"{key}" is not a key')
    return parts


def _value(setting: str) -> Any:
    _, equals, text = setting.partition("=")
    if not equals:
        raise ValueError("has no value")
    return parse_value(text)


def parse_value(text: str) -> Any:
    """Parse a TOML value; text that is not TOML is taken as plain text.

    Raises:
        ValueError: the text is a broken list, table or quoted string, or exceeds the limits on depth and size.
    """
    try:
        document = document_of(f"value = {text.strip()}")
    except tomli.TOMLDecodeError as error:
        if text.strip()[:1] in ("[", "{", '"', "'"):
            raise ValueError(f"the value is broken TOML: {error}") from error
        return text
    for _, what, _ in excesses(document):
        raise ValueError(what)
    return document["value"] if document.keys() == {"value"} else text


def _write(data: dict[str, Any], path: list[str], value: Any) -> None:
    inner: Any = data
    for depth, part in enumerate(path):
        last = depth == len(path) - 1
        if isinstance(inner, list):
            if not part.isdecimal() or len(part) > MOST_DIGITS or int(part) >= len(inner):
                raise ValueError(f"{spelled(_indexed(data, path[:depth]))} has {len(inner)} entries, counted from 0; there is no {part}")
            step: Any = int(part)
        elif isinstance(inner, dict):
            step = part
        else:
            raise ValueError(f"{spelled(_indexed(data, path[:depth]))} is {described(inner)}, not a table")
        if last:
            inner[step] = value
        else:
            inner = inner[step] if isinstance(inner, list) else inner.setdefault(step, {})


def _indexed(data: Any, path: Sequence[str]) -> KeyPath:
    """Return a key path with whole numbers for the entries of lists."""
    found: list[str | int] = []
    for part in path:
        if isinstance(data, list):
            found.append(int(part))
            data = data[int(part)]
        else:
            found.append(part)
            data = data.get(part) if isinstance(data, dict) else None
    return tuple(found)
