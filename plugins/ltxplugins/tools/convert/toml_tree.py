"""Parse TOML and command lines into the same plain values as YAML files, each with its line."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from ltxcore.api import ConfigError
from ltxcore.api.config import locate, parsed_toml
from ltxplugins.tools.convert.tree import Items, Scalar, Table, Tree

SCRIPT = re.compile(r"(?:[\w./\\]*[./\\])?(\w+_train(?:_\w+)?)(?:\.py)?")
"""A training script of musubi-tuner, by its path or as a module."""

FLAG = re.compile(r"--([A-Za-z]\w*)(?:=(.*))?", re.DOTALL)
CONTINUED = re.compile(r"[\\^`][ \t]*\n")
END = re.compile(r"[;|&]+|[0-9&]?>+\S*")
"""A word with which a shell ends a command, or sends its output elsewhere."""

COMMENT = re.compile(r"^\s*(?:#|REM\b|::).*$", re.MULTILINE | re.IGNORECASE)


def toml_tree(text: str, path: str) -> Table:
    """Parse a TOML file.

    Raises:
        ConfigError: the text is not TOML.
    """
    lines = locate(text)
    grown = _grown(parsed_toml(text, Path(path)), (), lines)
    assert isinstance(grown, Table)
    return grown


def _grown(value: Any, key: tuple[str | int, ...], lines: Any) -> Tree:
    line = lines.of(key) if key else 1
    if isinstance(value, Mapping):
        values = {name: _grown(inner, (*key, name), lines) for name, inner in value.items()}
        return Table(line, values, {name: lines.of((*key, name)) for name in value})
    if isinstance(value, list):
        return Items(line, tuple(_grown(inner, (*key, index), lines) for index, inner in enumerate(value)))
    return Scalar(line, str(value).lower() if isinstance(value, bool) else str(value), value)


def commands(text: str, path: str) -> Iterator[tuple[str, list[tuple[str, int]]]]:
    """Yield the commands in a text that start a training script: the script's name, and the words after it with their
    lines.

    A command may span several lines, continued in the way of any common shell. Variables are not replaced.

    Raises:
        ConfigError: such a command has a quotation mark that is not closed.
    """
    blank = COMMENT.sub("", text.replace("\r\n", "\n"))
    line = 1
    for command in re.split(r"(?<![\\^`])\n", CONTINUED.sub(lambda found: found[0].replace("\n", "\0"), blank)):
        words, opened = _words(command, line)
        for ends, group in groupby(words, key=lambda each: END.fullmatch(each[0]) is not None):
            part = list(group)
            for index, (word, _) in enumerate(part):
                found = SCRIPT.fullmatch(word)
                if ends or not found or not any(FLAG.fullmatch(each) for each, _ in part[index + 1 :]):
                    continue
                if opened:
                    raise ConfigError("has a quotation mark that is not closed", where=f"{path}:{opened}", remedy="Close it, or remove it.")
                yield found[1], part[index + 1 :]
                break
        line += command.count("\0") + 1


def _words(command: str, line: int) -> tuple[list[tuple[str, int]], int]:
    """Return the words of a command with their lines, and the line from which they are not to be trusted, because a quotation mark is not
    closed, or 0. Zero bytes stand for the line breaks within the command.
    """
    found: list[tuple[str, int]] = []
    held, begun = "", line
    for number, part in enumerate(re.split(r"[\\^`][ \t]*\0", command), line):
        held, begun = held + part, begun if held else number
        lexer = shlex.shlex(held, posix=True, punctuation_chars=";|&")
        lexer.whitespace_split, lexer.commenters, lexer.escape = True, "", ""
        try:
            found += [(word, begun) for word in list(lexer)]
        except ValueError:  # a quotation mark that may be closed on the next line
            continue
        held = ""
    return [*found, *((word, begun) for word in held.split())], begun if held else 0


def arguments(words: list[tuple[str, int]], path: str) -> Table:
    """Return the arguments of a command by name; an argument without a value is true.

    Raises:
        ConfigError: a word belongs to no argument.
    """
    given: dict[str, list[Scalar]] = {}
    lines: dict[str, int] = {}
    doubled: list[str] = []
    name = ""
    for word, line in words:
        flag = FLAG.fullmatch(word)
        if flag:
            name = flag[1]
            if name in given:
                doubled.append(name)
            lines[name] = line
            given[name] = [Scalar(line, flag[2], flag[2])] if flag[2] is not None else []
        elif not name:
            raise ConfigError(
                f'"{word}" belongs to no argument', where=f"{path}:{line}", remedy="Write it after a name that begins with --."
            )
        else:
            given[name].append(Scalar(line, word, word))
    values = {name: _argument(found, lines[name]) for name, found in given.items()}
    return Table(min(lines.values(), default=1), values, lines, tuple(dict.fromkeys(doubled)))


def _argument(found: list[Scalar], line: int) -> Tree:
    if not found:
        return Scalar(line, "true", True)
    return found[0] if len(found) == 1 else Items(line, tuple(found))
