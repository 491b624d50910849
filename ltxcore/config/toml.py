"""TOML documents, with limits on how deeply values may be nested and how large whole numbers may be."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tomli

from ltxcore.config.locate import locate
from ltxcore.config.reading import KeyPath, spelled
from ltxcore.errors import ConfigError, Problem

DEEPEST = 64
"""The largest depth of tables and lists nested in each other. No run file needs a tenth of this depth, and code that walks a
document recurses once per level.
"""

LEAST, MOST = -(2**63), 2**64 - 1
"""The smallest and the largest whole number that is accepted: the smallest signed and the largest unsigned integer of 64 bits. TOML allows
numbers up to 2^63 - 1, but other programs have larger seeds.
"""

SHOWN = 8
"""The number of parts of a key that a message shows."""

DEEP = f"lists and tables are nested more than {DEEPEST} deep"
LARGE = "a whole number is too large: it has more than 64 bits"
REMEDY_OF_DEEP = "Nest it less; no key takes values that deep."
REMEDY_OF_LARGE = "Write a smaller one."

_DIGITS = re.compile(r"[0-9_]{4000,}")  # Python reads up to about 4,300 digits
_TOKENS = re.compile(r'"""(?:\\.|[^\\])*?"""|\'\'\'.*?\'\'\'|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|#[^\n]*|[\[{]|[\]}]', re.DOTALL)
_LONG_KEY = re.compile(rf"(?:[^.\n]*\.){{{DEEPEST},}}")


class Beyond(ValueError):
    """Raised for a document that may be TOML but exceeds the limits of the parser.

    Attributes:
        line: the line where the parser gave up, counted from 1; 0 if the line is not known.
        remedy: advice on what to do about it.
    """

    def __init__(self, what: str, line: int, remedy: str) -> None:
        self.line, self.remedy = line, remedy
        super().__init__(what)


def parsed_toml(text: str, path: Path) -> dict[str, Any]:
    """Parse a TOML document within the limits on depth and size.

    Raises:
        ConfigError: the document is not TOML, and the error names the line; or it exceeds the limits, and the error lists every
            place.
    """
    try:
        document = document_of(text)
    except tomli.TOMLDecodeError as error:
        raise _not_toml(error, text, path) from error
    except Beyond as error:
        raise ConfigError(str(error), where=f"{path}:{error.line}" if error.line else str(path), remedy=error.remedy) from error
    found = list(excesses(document))
    if found:
        lines = locate(text)
        raise ConfigError.of(Problem(what, f"{path}:{lines.of(key)}: {spelled(key[:SHOWN])}", remedy) for key, what, remedy in found)
    return document


def document_of(text: str) -> dict[str, Any]:
    """Parse a TOML document with any depth of nesting and any numbers that the parser accepts; see `excesses`.

    Raises:
        tomli.TOMLDecodeError: the document is not TOML.
        Beyond: the document exceeds the limits of the parser.
    """
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError:
        raise
    except RecursionError as error:
        raise Beyond(DEEP, _deep_line(text), REMEDY_OF_DEEP) from error
    except ValueError as error:  # a number with thousands of digits, which Python does not read
        found = _DIGITS.search(text)
        raise Beyond(LARGE, _line(text, found.start()) if found else 0, REMEDY_OF_LARGE) from error


def excesses(document: Any) -> Iterator[tuple[KeyPath, str, str]]:
    """Yield every place where a TOML or JSON document exceeds the limits: the key path, what is wrong, and the remedy."""
    left: list[tuple[KeyPath, Any]] = [((), document)]
    while left:
        key, value = left.pop()
        if len(key) > DEEPEST:
            yield key, DEEP, REMEDY_OF_DEEP
            return
        if isinstance(value, Mapping):
            left.extend(((*key, name), inner) for name, inner in value.items())
        elif isinstance(value, list):
            left.extend(((*key, index), inner) for index, inner in enumerate(value))
        elif isinstance(value, int) and not LEAST <= value <= MOST:
            yield key, LARGE, REMEDY_OF_LARGE


def _not_toml(error: tomli.TOMLDecodeError, text: str, path: Path) -> ConfigError:
    said = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", str(error), re.DOTALL)
    if said is None:
        return ConfigError(f"is not TOML: {error}", where=str(path))
    line = said[2] or max(1, len(text.rstrip().splitlines()))
    column = f", at column {said[3]}" if said[3] else ", at the end"
    return ConfigError(f"is not TOML: {said[1][:1].lower()}{said[1][1:]}{column}", where=f"{path}:{line}")


def _deep_line(text: str) -> int:
    """Return the line where lists and tables in brackets are nested too deeply, or where a key has too many parts; 0 if there is
    no such line.
    """
    depth = 0
    for token in _TOKENS.finditer(text):
        depth += (token[0] in "[{") - (token[0] in "]}") if len(token[0]) == 1 else 0
        if depth > DEEPEST:
            return _line(text, token.start())
    found = _LONG_KEY.search(text)
    return _line(text, found.start()) if found else 0


def _line(text: str, place: int) -> int:
    return 1 + text.count("\n", 0, place)
